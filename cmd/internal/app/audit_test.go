package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// auditLine is a record as it is written.
type auditLine struct {
	introspectiontest.AuditHead
	proxy.AuditRecord
}

// TestAuditThousandRequests sends them at once through the whole program: each
// has its record, and the numbers are in order and without a gap.
func TestAuditThousandRequests(t *testing.T) {
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	path := filepath.Join(t.TempDir(), "audit.json")
	sc := assemble(t, as, answerOK, "SIDECAR_AUDIT_LOG", path, "SIDECAR_HEADERS", "intent")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sc.audit.Run(ctx) }()
	handler := sc.dataServer(100).Handler
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			r := httptest.NewRequest(http.MethodGet, "/fhir/Patient/p1?name=secret", nil)
			r.Header.Set("X-Request-Id", fmt.Sprint("id-", i))
			if i%2 == 0 {
				r.Header.Set("Authorization", "Bearer good")
			}
			handler.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	wg.Wait()
	stop()
	if err := <-done; err != nil {
		t.Fatalf("got error %v, want none", err)
	}
	if n := sc.inFlight.Load(); n != 0 {
		t.Errorf("got %d handlers that seem to run, want none", n)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	lines := introspectiontest.AuditLines[auditLine](t, string(text))
	introspectiontest.InSequence(t, lines, 1000)
	ids := map[string]bool{}
	host, _ := os.Hostname()
	for _, line := range lines {
		ids[line.RequestID] = true
		// The claims are there although no header needs them.
		want := [6]string{"allowed", "module-7", "p-42", as.URL, "Practitioner/77", "123"}
		if line.Status == http.StatusUnauthorized {
			want = [6]string{"no_token"}
		}
		if got := [6]string{line.Decision, line.ClientID, line.Subject, line.Issuer, line.User, line.Patient}; got != want || line.Host != host {
			t.Errorf("got record %+v, want %v", line, want)
		}
	}
	if len(ids) != 1000 || strings.Contains(string(text), "secret") {
		t.Errorf("got %d ids, and first record %+v, want 1000 and nothing secret", len(ids), lines[0])
	}
}

// TestAuditFaults: a sink that can't be had is told before anything listens.
func TestAuditFaults(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatalf("syscall.Mkfifo: got error %v, want none", err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "zx81canary", "audit"): "no such file or directory",
		dir:  "is a directory",
		fifo: "no such device or address", // nobody reads it
	} {
		environ := with(leastSettings(), "SIDECAR_AUDIT_LOG", path, "SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", "token"))
		_, faults := build(configure(t, environ), options{logger: discard, stdout: io.Discard})
		if got := texts(faults); !slices.Equal(got, []string{"SIDECAR_AUDIT_LOG: can't be opened: " + want}) {
			t.Errorf("faults %q, want %q", got, want)
		}
	}
}

// lateLog is a log that takes its time for the line of a request, which is
// written before the request's record.
type lateLog struct {
	slog.Handler
	serving chan string // the address
}

func (l *lateLog) Handle(_ context.Context, r slog.Record) error {
	switch r.Message {
	case "serving":
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "listen_address" {
				l.serving <- a.Value.String()
			}
			return true
		})
	case "request":
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func (l *lateLog) Enabled(context.Context, slog.Level) bool { return true }

// TestAuditWaitsForHandlers: a request that is cut off at the end gets its
// record, although net/http doesn't wait for its handler.
func TestAuditWaitsForHandlers(t *testing.T) {
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	arrived := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	defer upstream.Close()
	path, log := filepath.Join(t.TempDir(), "audit.json"), &lateLog{Handler: slog.DiscardHandler, serving: make(chan string, 1)}
	sc, faults := build(configure(t, with(leastSettings(),
		"SIDECAR_UPSTREAM_URL", upstream.URL+"/fhir", "SIDECAR_INTROSPECTION_ENDPOINT", as.Endpoint(),
		"SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", introspectiontest.DefaultBearer), "SIDECAR_SHUTDOWN_TIMEOUT", "1ms",
		"SIDECAR_LISTEN_ADDRESS", "127.0.0.1:0", "SIDECAR_ADMIN_ADDRESS", "127.0.0.1:0", "SIDECAR_AUDIT_LOG", path)), options{logger: slog.New(log), stdout: io.Discard})
	if len(faults) > 0 {
		t.Fatalf("got faults %v, want none", faults)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sc.serve(ctx) }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+<-log.serving+"/fhir/Patient", nil)
	if err != nil {
		t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
	}
	r.Header.Set("Authorization", "Bearer good")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if res, err := client.Do(r); err == nil {
			_ = res.Body.Close()
		}
	}()
	defer func() { <-asked }()
	<-arrived
	stop()
	if err := <-ended; err == nil {
		t.Error("serve: got no error, want one for the request that was cut off")
	}
	lines := introspectiontest.AuditLines[auditLine](t, readFile(t, path))
	if introspectiontest.InSequence(t, lines, 1); len(lines) == 1 && lines[0].Subject != "p-42" {
		t.Errorf("got record %+v, want that of the request that was cut off", lines[0])
	}
}

// TestAuditDocs: the page lists the members of a record, all of them and no other.
func TestAuditDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations", "audit.md"))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	full := proxy.AuditRecord{
		Type: "x", ClientID: "x", Subject: "x", Issuer: "x", User: "x", Patient: "x", TokenRef: "x", Peer: "x",
		Reason: "x", Reported: "x", Guard: "x", Resource: "x", Operation: "x", Tenant: "x", Query: "x", TokenID: "x", ClientAddress: "x",
		Verdict: "x", VerdictAge: 1, RequestID: "x", CorrelationID: "x", TraceID: "x",
	}
	encoded, err := json.Marshal(auditLine{AuditRecord: full})
	if err != nil {
		t.Fatalf("json.Marshal: got error %v, want none", err)
	}
	var members map[string]any
	if err := json.Unmarshal(encoded, &members); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	for row := range strings.Lines(string(page)) {
		cells := strings.Split(row, "|")
		if len(cells) != 4 {
			continue
		}
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			if _, ok := members[name[1]]; !ok {
				t.Errorf("got no %s in a record, want what the page tells of", name[1])
			}
			delete(members, name[1])
		}
	}
	for name := range members {
		t.Errorf("the page doesn't tell of %s, want every member", name)
	}
	if !strings.Contains(string(page), "Up to 8192 records") || !strings.Contains(string(page), "within two seconds") {
		t.Error("the page doesn't tell the length of the queue, or what the end gives it, want both")
	}
}
