// Package upstreams sends every path trick, without a token, through the sidecar to
// real servers, and to the servers themselves.
package upstreams

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// cases is where the tricks that have a test of their own stand.
const cases = "../../../cmd/fhir-introspection-sidecar/testdata/cases/C-paths.txtar"

// ways are how a path may go on behind a public one, or come to it.
var ways = []string{
	"/../", "/./../", "/..;/", "/..;x=y/", "/.;/../", "/%2e%2e/", "/%2E%2E/", "/.%2e/", "/%2e./", "%2f..%2f", "%2F..%2F", "/..%2f", "%2f../",
	"/%252e%252e/", "%252f..%252f", "\\..\\", "%5c..%5c", "/..\\", "/..%5c", ";/../", ";x/../", "%3b/../", "/..%3b/", "/..%00/", "%00/../", "/..%09/",
	"/..%20/", "//../", "/..//", "/%c0%ae%c0%ae/", "%c0%af..%c0%af", "/%u002e%u002e/", "/.../", "/..../", "#/../", "%23/../", "?/../", "%3f/../",
	"/%ef%bc%8e%ef%bc%8e/", "%e2%88%95..%e2%88%95", ";", ";/", "%3b", "/", "//", "/.", "/./", "%2f", "%20", "%09", "%00", "%0a", "%0d%0a", ".", "..",
	"%", "%2", "~", "*", "/;/", "/;x/", "/%2e", "/..", "/..;", "/%2e%2e", "/..;/..;/", "/x/..;/", "/x/../", "/x/%2e%2e/",
}

// targets are the tricks of the case file, and all ways between a public path and
// a protected one.
func targets(t *testing.T) (all []string) {
	t.Helper()
	for _, open := range []string{"/fhir/metadata", "/fhir/.well-known/smart-configuration"} {
		for _, way := range ways {
			all = append(all, open+way+"Patient/1", "/fhir/Patient/1"+way+strings.TrimPrefix(open, "/fhir/"), "/fhir/Patient/1"+way+way+strings.TrimPrefix(open, "/fhir/"), open+way, "/fhir"+way+"metadata", way+strings.TrimPrefix(open, "/"))
		}
	}
	text, err := os.ReadFile(cases)
	if err != nil {
		t.Fatal(err)
	}
	vary := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "--":
			clear(vary)
		case "vary":
			name, values, _ := strings.Cut(rest, " ")
			vary[name] = strings.Split(values, " | ")
		case "ask":
			if target, ok := strings.CutPrefix(rest, "GET "); ok && !strings.Contains(target, "*") {
				all = append(all, expand(target, vary)...)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// expand replaces what the case varies, and the escapes of Go strings.
func expand(target string, vary map[string][]string) (all []string) {
	for name, values := range vary {
		if before, after, ok := strings.Cut(target, "${"+name+"}"); ok {
			for _, value := range values {
				all = append(all, expand(before+value+after, vary)...)
			}
			return all
		}
	}
	if plain, err := strconv.Unquote(`"` + strings.ReplaceAll(target, `"`, `\"`) + `"`); err == nil && !strings.Contains(plain, "${") {
		return []string{plain}
	}
	return nil
}

// outcome is what became of a request.
type outcome struct {
	status   int
	kind     string // what the server took it for
	resource string
}

func (o outcome) String() string {
	if o.kind == "" {
		return strconv.Itoa(o.status)
	}
	return strings.Trim(fmt.Sprintf("%.50q", o.resource), `"`)
}

// send sends a GET with exactly this target.
func send(address, target string) (outcome, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return outcome{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return outcome{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	o := outcome{status: res.StatusCode, kind: res.Header.Get("X-Kind")}
	if o.kind != "" {
		o.resource = string(body)
	}
	return o, err
}

// TestUpstreams: C31.
func TestUpstreams(t *testing.T) {
	servers := strings.Fields(os.Getenv("UPSTREAMS")) // name=direct=sidecar
	if len(servers) == 0 {
		t.Skip("run.sh starts the servers")
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	header := []string{"target", "sidecar"}
	all := targets(t)
	if len(all) < 500 {
		t.Fatalf("only %d targets", len(all))
	}
	var direct, through []string
	for _, server := range servers {
		f := strings.Split(server, "=")
		header = append(header, f[0])
		direct, through = append(direct, f[1]), append(through, f[2])
	}
	fmt.Fprintln(table, strings.Join(header, "\t"))
	reached, confused := 0, 0
	for _, target := range all {
		row, first := []string{fmt.Sprintf("%.70q", target)}, outcome{}
		var kinds []string
		for i := range servers {
			got, err := send(through[i], target)
			if err != nil {
				t.Errorf("%q through the sidecar to %s: %v", target, header[i+2], err)
				continue
			}
			switch {
			case got.kind == "public":
				reached++
			case got.kind != "":
				t.Errorf("%q reached %s, without a token, as %s", target, header[i+2], got.resource)
			case got.status/100 != 4:
				t.Errorf("%q through the sidecar to %s: status %d", target, header[i+2], got.status)
			}
			if i == 0 {
				first = got
			}
			alone, err := send(direct[i], target)
			if err != nil {
				alone = outcome{resource: "no response", kind: "none"}
			}
			kinds = append(kinds, alone.kind)
			row = append(row, alone.String())
		}
		if slices.Contains(kinds, "protected") && slices.Contains(kinds, "public") {
			confused++
		}
		if slices.ContainsFunc(kinds, func(kind string) bool { return kind != "" }) { // else all refuse it
			fmt.Fprintln(table, strings.Join(slices.Insert(row, 1, first.String()), "\t"))
		}
	}
	fmt.Fprintf(table, "%d targets; %d requests reached a server, all of them for a public document; the servers disagree on %d targets\n", len(all), reached, confused)
	if reached == 0 {
		t.Error("nothing reached a server")
	}
}
