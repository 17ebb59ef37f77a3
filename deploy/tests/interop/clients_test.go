package interop

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// outcome is what a client got for a request, or why it got nothing.
type outcome struct {
	Name   string      `json:"name"`
	Status int         `json:"status"`
	Header [][2]string `json:"header"`
	Body   string      `json:"body"` // base64
	Error  string      `json:"error"`
}

// documented are the differences between the two ways, each a header of a response and
// the status it concerns, 0 for all. There are no others.
var documented = []struct {
	header string
	status int
	why    string
}{
	{"connection", 0, "of one connection (RFC 9110, section 7.6.1)"},
	{"keep-alive", 0, "of one connection"},
	{"transfer-encoding", 0, "of one connection: the body is framed anew"},
	{"content-type", http.StatusNotModified, "there is no content: metadata that is not for the cache is left out (RFC 9110, section 15.4.5)"},
}

// differs tells whether a header may differ.
func differs(name string, status int) bool {
	for _, d := range documented {
		if d.header == name && (d.status == 0 || d.status == status) {
			return true
		}
	}
	return false
}

// betterOff are kinds that a client gets through only by the sidecar, and why.
var betterOff = map[string]string{
	"JDK as it comes, a closing connection": "the client asks for HTTP/2 and for the end of the connection in two Connection headers, which Jetty refuses; the sidecar has a connection of its own",
}

// changing replaces what is another each time by a word.
var changing = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "INSTANT"},
	{regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`), "DATE"},
	// HAPI makes up an id for who sends none; the sidecar sends one, which HAPI repeats.
	{regexp.MustCompile(`(x-request-id: )([A-Za-z0-9]{16}\b|UUID)`), "${1}RANDOM"},
}

// line makes a response comparable: its own base, times and random ids are words.
func (o outcome) line(base string) string {
	var b strings.Builder
	if o.Error != "" {
		b.WriteString("error " + o.Error)
	} else {
		b.WriteString(http.StatusText(o.Status) + "\n")
	}
	packed := false
	slices.SortFunc(o.Header, func(x, y [2]string) int {
		return strings.Compare(strings.ToLower(x[0])+x[1], strings.ToLower(y[0])+y[1])
	})
	for _, header := range o.Header {
		name := strings.ToLower(header[0])
		packed = packed || name == "content-encoding" && header[1] == "gzip"
		if !differs(name, o.Status) && !strings.HasPrefix(name, ":") {
			b.WriteString(name + ": " + header[1] + "\n")
		}
	}
	body, err := base64.StdEncoding.DecodeString(o.Body)
	if err != nil {
		return "body isn't base64: " + err.Error()
	}
	b.Write(unpacked(body, packed))
	text := b.String()
	text = strings.ReplaceAll(text, base, "BASE")
	_, host, _ := strings.Cut(strings.TrimSuffix(base, "/fhir"), "://")
	text = strings.ReplaceAll(text, host, "HOST")
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.word)
	}
	return text
}

// unpacked undoes gzip, where a client didn't by itself.
func unpacked(body []byte, packed bool) []byte {
	if !packed {
		return body
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	plain, err := io.ReadAll(reader)
	if err != nil {
		return []byte("broken gzip: " + err.Error())
	}
	return plain
}

// httpClients send the kinds that stand on their standard input to a base, with a
// token, and print a line of JSON for each.
func httpClients(t *testing.T) map[string]func() *exec.Cmd {
	t.Helper()
	node := nodeFolder(t)
	python, err := filepath.Abs("python/http_clients.py")
	if err != nil {
		t.Fatal(err)
	}
	byNode := func(name string) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := exec.Command("node", "http-clients.mjs", name)
			cmd.Dir = node
			return cmd
		}
	}
	byPython := func(name string) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := exec.Command("python3", python, name)
			cmd.Env = append(os.Environ(), "PYTHONPATH="+tool(t, "PYTHON"))
			return cmd
		}
	}
	byJava := func(version string) func() *exec.Cmd {
		return func() *exec.Cmd {
			return java(t, []string{"-Djdk.httpclient.allowRestrictedHeaders=connection"}, "HttpClients", version)
		}
	}
	return map[string]func() *exec.Cmd{
		"axios": byNode("axios"), "undici": byNode("undici"), "fetch": byNode("fetch"),
		"requests": byPython("requests"), "httpx": byPython("httpx"),
		"JDK over HTTP/1.1": byJava("HTTP_1_1"), "JDK as it comes": byJava("HTTP_2"),
	}
}

// sends has a client send all kinds to a base.
func sends(t *testing.T, cmd *exec.Cmd, base string, all []kind) (outcomes map[string]outcome) {
	t.Helper()
	input, err := json.Marshal(object{"base": base, "token": "everything", "kinds": all})
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	outcomes = map[string]outcome{}
	for line := range bytes.Lines(output) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		outcomes[o.Name] = o
	}
	return outcomes
}

// TestHTTPClients has each client send each kind of request to HAPI's server, and to the
// same server, as it was, through the sidecar: by its own path for most requests, and
// with net/http for all.
func TestHTTPClients(t *testing.T) {
	h := startHAPI(t, "jetty", "-Daddresses=proxy") // believes that it is https
	cert, key, _ := certificate(t)
	ways := map[string]string{
		"fast path": "http://" + inFront(t, h.base, nil).data,
		"net/http":  "http://" + inFront(t, h.base, env{"FAST_PATH": "false"}).data,
		"HTTP2":     "https://" + inFront(t, h.base, env{"TLS_CERT_FILE": writeFile(t, "cert", cert), "TLS_KEY_FILE": writeFile(t, "key", key)}).data,
	}
	all := map[string]func(string) map[string]outcome{
		"curl": func(base string) map[string]outcome { return curl(t, base, kinds()) },
	}
	for name, cmd := range httpClients(t) {
		all[name] = func(base string) map[string]outcome { return sends(t, cmd(), base, kinds()) }
	}
	for name, send := range all {
		var direct map[string]outcome
		for try, lost := 0, true; lost && try < 5; try++ {
			h.reset(t)
			direct = send(h.base)
			lost = lostConnection(t, direct)
		}
		for way, origin := range ways {
			if way == "HTTP2" && name != "curl" {
				continue
			}
			t.Run(name+" by "+way, func(t *testing.T) {
				h.reset(t)
				through := origin + "/fhir"
				compareKinds(t, name, direct, send(through), h.base, through)
			})
		}
	}
}

// lostConnection reports whether the JDK's client sent a request into a connection that
// HAPI's server was just closing: then direct outcomes tell nothing. The sidecar looks
// before it sends, so that its outcomes need no such leniency.
func lostConnection(t *testing.T, direct map[string]outcome) bool {
	t.Helper()
	for name, o := range direct {
		if strings.Contains(o.Error, "header parser received no bytes") {
			t.Logf("%s, direct: %s; once more", name, o.Error)
			return true
		}
	}
	return false
}

// compareKinds wants the responses to be alike, and the documented refusals.
func compareKinds(t *testing.T, client string, direct, proxied map[string]outcome, base, through string) {
	t.Helper()
	compared, unsent := 0, 0
	for _, k := range kinds() {
		d, p := direct[k.Name], proxied[k.Name]
		if d.Error != "" && p.Error != "" {
			unsent++ // the client itself doesn't want to send it
			continue
		}
		compared++
		got, want := p.line(through), d.line(base)
		if k.Kept {
			anyBase := regexp.MustCompile(`https?://127\.0\.0\.1:\d+/fhir`)
			got, want = anyBase.ReplaceAllString(got, "BASE"), anyBase.ReplaceAllString(want, "BASE")
		}
		if k.Refused != 0 && (!k.Cleaned || got != want) {
			if p.Status != k.Refused {
				t.Errorf("%s: got status %d (%s), want %d", k.Name, p.Status, p.Error, k.Refused)
			}
			continue
		}
		if betterOff[client+", "+k.Name] != "" {
			if p.Status != http.StatusOK {
				t.Errorf("%s: got status %d, want 200", k.Name, p.Status)
			}
			continue
		}
		if got != want || d.Status != p.Status {
			t.Errorf("%s: through the sidecar %d, direct %d\n%s", k.Name, p.Status, d.Status, difference(got, want))
		}
	}
	t.Logf("%d kinds compared, %d that the client doesn't send", compared, unsent)
	if compared < 80 {
		t.Errorf("kinds compared: got %d, want 80 or more", compared)
	}
}

// difference shows the lines of two texts that the other hasn't.
func difference(got, want string) string {
	has := func(text, line string) bool { return slices.Contains(strings.Split(text, "\n"), line) }
	var b strings.Builder
	for _, side := range []struct{ sign, text, other string }{{"through: ", got, want}, {"direct:  ", want, got}} {
		for line := range strings.SplitSeq(side.text, "\n") {
			if !has(side.other, line) {
				b.WriteString(side.sign + line[:min(len(line), 400)] + "\n")
			}
		}
	}
	return b.String()
}

// curl sends the kinds by curl, each by a process of its own.
func curl(t *testing.T, base string, all []kind) map[string]outcome {
	t.Helper()
	outcomes := map[string]outcome{}
	folder := t.TempDir()
	for _, k := range all {
		head, body, sent := filepath.Join(folder, "head"), filepath.Join(folder, "body"), filepath.Join(folder, "sent")
		arguments := []string{"-s", "-k", "--http2", "--path-as-is", "--max-time", "20", "-D", head, "-o", body, "-X", k.Method}
		if k.Method == "HEAD" {
			arguments = append(arguments, "-I")
		}
		if k.Body != "" {
			if err := os.WriteFile(sent, []byte(k.Body), 0o600); err != nil {
				t.Fatal(err)
			}
			arguments = append(arguments, "--data-binary", "@"+sent)
		}
		if k.Header["Authorization"] == "" {
			arguments = append(arguments, "-H", "Authorization: Bearer everything")
		}
		for name, value := range k.Header {
			arguments = append(arguments, "-H", name+": "+value)
		}
		for _, file := range []string{head, body} {
			_ = os.Remove(file)
		}
		outcomes[k.Name] = curled(exec.Command("curl", append(arguments, base+k.Path)...), k.Name, head, body)
	}
	return outcomes
}

// curled runs curl and reads what it wrote.
func curled(cmd *exec.Cmd, name, head, body string) outcome {
	if err := cmd.Run(); err != nil {
		return outcome{Name: name, Error: err.Error()}
	}
	o := outcome{Name: name}
	text, _ := os.ReadFile(head)
	parts := strings.Split(strings.TrimSpace(string(text)), "\r\n\r\n") // a 100 Continue comes first
	for i, line := range strings.Split(parts[len(parts)-1], "\r\n") {
		if i == 0 {
			o.Status = statusOf(line)
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		o.Header = append(o.Header, [2]string{name, value})
	}
	content, _ := os.ReadFile(body)
	if slices.Contains(cmd.Args, "-I") {
		content = nil // the head again
	}
	o.Body = base64.StdEncoding.EncodeToString(content)
	return o
}

// statusOf reads a status line.
func statusOf(line string) (status int) {
	fields := strings.Fields(line)
	if len(fields) > 1 {
		for _, digit := range fields[1] {
			status = 10*status + int(digit-'0')
		}
	}
	return status
}
