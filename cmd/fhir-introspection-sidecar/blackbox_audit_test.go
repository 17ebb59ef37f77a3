package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// storm sends n requests in parallel, each with an id of its own.
func (w *world) storm(t *testing.T, n int, header ...string) {
	t.Helper()
	wait := w.crowd(t, n, func(i int, c *conn) {
		lines := append([]string{fmt.Sprint("X-Request-Id: id-", i), "Connection: close"}, header...)
		if _, err := c.do(request("GET /fhir/Patient/p1?name=CANARY", lines...)); err != nil {
			t.Errorf("c.do: got error %v, want none", err)
		}
	})
	wait()
}

// Two logs share stdout: no line of the one gets into the other, and they can
// be told apart.
func TestBlackboxAuditStdout(t *testing.T) {
	t.Parallel()
	w := start(t, env{"AUDIT_LOG": "stdout", "LOG_LEVEL": "debug"})
	const n = 300
	w.storm(t, n, good)
	w.terminate(t)
	var audit strings.Builder
	technical := map[any]bool{}
	for line := range strings.Lines(w.stdout.String()) {
		var members map[string]any
		if err := json.Unmarshal([]byte(line), &members); err != nil {
			t.Fatalf("got %q (%v), want JSON", line, err)
		}
		switch {
		case members["log"] == "audit" && members["msg"] == nil:
			audit.WriteString(line)
		case members["msg"] == "request":
			technical[members["request_id"]] = true
			fallthrough
		default:
			if members["log"] != nil || members["msg"] == nil || strings.Contains(line, "p-42") || strings.Contains(line, "Practitioner") {
				t.Errorf("got %s in the technical log, want no person in it", line)
			}
		}
	}
	lines := introspectiontest.AuditLines[auditLine](t, audit.String())
	introspectiontest.InSequence(t, lines, n)
	for _, line := range lines {
		if !technical[line.RequestID] || line.Subject != "p-42" {
			t.Errorf("got record %+v, want the person and the request of a line in the log", line)
		}
	}
	if strings.Contains(w.stdout.String(), "CANARY") {
		t.Error("got a search value in a log, want none")
	}
}

// What is in the queue when the end comes is written, and so is the request
// that the end cuts off.
func TestBlackboxAuditAtTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.json")
	w := start(t, env{"AUDIT_LOG": path, "SHUTDOWN_TIMEOUT": "50ms"})
	w.anyExit = true
	arrived, release := make(chan struct{}), make(chan struct{})
	w.up.on("/fhir/Task", func(*upstreamConn, *arrival) bool { close(arrived); <-release; return false })
	defer close(release)
	const n = 100
	w.storm(t, n, good)
	c := dial(t, w.data)
	if _, err := c.Write([]byte(request("PUT /fhir/Task", good, "X-Request-Id: cut"))); err != nil {
		t.Fatalf("c.Write: got error %v, want none", err)
	}
	<-arrived
	if code := w.terminate(t); code != exitFailure {
		t.Errorf("got exit code %d although a request was cut off, want %d", code, exitFailure)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	lines := introspectiontest.AuditLines[auditLine](t, string(text))
	introspectiontest.InSequence(t, lines, n+1)
	if last := lines[len(lines)-1]; last.RequestID != "cut" || last.Subject != "p-42" || last.Interaction == "" {
		t.Errorf("got last record %+v, want that of the request that was cut off", last)
	}
}

// J13: a sink that nobody empties holds up no request, and not the end either.
func TestBlackboxAuditStuck(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a limit")
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatalf("syscall.Mkfifo: got error %v, want none", err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // reads nothing
	if err != nil {
		t.Fatalf("os.OpenFile: got error %v, want none", err)
	}
	defer reader.Close()
	w := start(t, env{"AUDIT_LOG": path})
	const n = 400 // more than a pipe holds
	w.storm(t, n, good)
	if got := w.metric(t, "introspection_sidecar_requests_total", `decision="allowed"`); got != n {
		t.Errorf("%v requests allowed, want %d", got, n)
	}
	if code := w.terminate(t); code != exitOK {
		t.Errorf("got exit code %d, want %d", code, exitOK)
	}
	if got := w.logs("audit record can't be written"); len(got) != 1 {
		t.Errorf("got %d log lines of the failure, want 1", len(got))
	}
}

// A sink that can't be opened is a fault of the configuration.
func TestBlackboxAuditFault(t *testing.T) {
	t.Parallel()
	e := leastEnv(t)
	maps.Copy(e, env{"AUDIT_LOG": filepath.Join(t.TempDir(), "nowhere", "audit.json")})
	code, stdout, stderr := runToEnd(t, e, nil)
	if want := "SIDECAR_AUDIT_LOG: can't be opened: no such file or directory\n"; code != exitConfig || stderr != want || stdout != "" {
		t.Errorf("%d %q %q, want %q", code, stdout, stderr, want)
	}
}

// Every kind of request leaves one record, refused ones and purges included.
func TestBlackboxAuditDecisions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.json")
	as := introspectiontest.NewServer(t)
	claims := as.Claims()
	claims["aud"] = "elsewhere"
	as.AddToken("foreign", claims)
	w := startWith(t, as, env{
		"AUDIT_LOG": path, "REQUIRED_AUDIENCES": "https://fhir.example/eHealthModule/7",
		"ADMIN_TOKEN_FILE": writeFile(t, "admin", "a-token-of-an-admin"),
	})
	w.ask(t, "GET /fhir/metadata").is(t, 200)
	w.ask(t, "GET /fhir/Patient/p1", good).is(t, 200)
	w.ask(t, "GET /fhir/Patient/p1", good).is(t, 200)
	w.ask(t, "GET /fhir/Patient/p1").is(t, 401)
	w.ask(t, "GET /fhir/Patient/p1", bearer("foreign")).is(t, 401)
	w.ask(t, "GET /fhir/Patient/p1", bearer("unknown")).is(t, 401)
	w.ask(t, "GET /fhir/Patient/../p1", good).is(t, 400)
	exchange(t, w.admin, request("DELETE /cache?sub=p-42")).is(t, 401)
	exchange(t, w.admin, request("DELETE /cache?sub=p-42", bearer("a-token-of-an-admin"))).is(t, 200)
	w.terminate(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	lines := introspectiontest.AuditLines[auditLine](t, string(text))
	introspectiontest.InSequence(t, lines, 9)
	var got []string
	for _, line := range lines {
		got = append(got, fmt.Sprintf("%s %d %s %s", line.Decision, line.Status, line.Verdict, line.Subject))
		if line.Peer != "127.0.0.1" || line.Time.IsZero() {
			t.Errorf("got record %+v, want its time, and the peer 127.0.0.1", line)
		}
	}
	want := []string{
		"public 200  ", "allowed 200 miss p-42", "allowed 200 hit p-42", "no_token 401  ",
		"invalid_token 401 miss p-42", "invalid_token 401 miss ", "bad_path 400  ",
		"cache_purge 401  ", "cache_purge 200  p-42",
	}
	if !slices.Equal(got, want) {
		t.Errorf("records\n%q, want\n%q", got, want)
	}
}
