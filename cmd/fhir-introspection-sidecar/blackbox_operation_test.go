package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestBlackboxServingLine: one line says who runs between whom, and what a token must have.
func TestBlackboxServingLine(t *testing.T) {
	t.Parallel()
	w := start(t, env{"REQUIRED_AUDIENCES": "https://fhir.example/fhir", "SCOPE_ENFORCEMENT": "coarse"})
	lines := w.logs("serving")
	if len(lines) != 1 {
		t.Fatalf("got %d lines that say serving, want 1", len(lines))
	}
	for name, want := range map[string]any{
		"upstream": "http://" + w.up.address + "/fhir", "introspection_endpoint": w.as.Endpoint(), "introspection_auth": "bearer",
	} {
		if got := lines[0][name]; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if got, _ := lines[0]["policy"].([]any); len(got) != 2 || got[0] != "audience" || got[1] != "scope_enforcement=coarse" {
		t.Errorf("policy: got %v, want audience and scope_enforcement=coarse", got)
	}
	eventually(t, "readiness in the log", func() bool { return len(w.logs("ready")) == 1 })
	w.signal(syscall.SIGUSR1)
	eventually(t, "the end of readiness in the log", func() bool { return len(w.logs("not ready")) == 1 })
}

// TestBlackboxLogBurst: refusals cost a stranger nothing, and must not fill a disk. What
// was left out is told by number.
func TestBlackboxLogBurst(t *testing.T) {
	t.Parallel()
	w := start(t, env{"LOG_LEVEL": "info"})
	const n = 3000
	c := dial(t, w.data)
	for range n {
		if a, err := c.do(request("GET /fhir/Patient")); err != nil || a.status != 401 {
			t.Fatalf("got %v %v, want status 401", a, err)
		}
	}
	told := func() (lines int) {
		for _, line := range w.logs("log lines suppressed") {
			if line["decision"] != "no_token" {
				t.Errorf("got decision %v, want no_token", line["decision"])
			}
			left, _ := line["lines"].(float64)
			lines += int(left)
		}
		return lines + len(w.logs("request"))
	}
	eventually(t, "the number of every line", func() bool { return told() == n })
	if size := len(w.stdout.String()); size > 100_000 {
		t.Errorf("got %d bytes of log for %d refusals, want at most 100,000", size, n)
	}
	if got, want := w.metric(t, "introspection_sidecar_log_lines_suppressed_total"), float64(n-len(w.logs("request"))); got != want {
		t.Errorf("got %v lines suppressed, want %v", got, want)
	}
}

// TestBlackboxLogText: SIDECAR_LOG_FORMAT=text is for reading at a terminal.
func TestBlackboxLogText(t *testing.T) {
	t.Parallel()
	e := leastEnv(t)
	e["LOG_FORMAT"], e["LOG_LEVEL"] = "text", "info"
	c := spawn(t, e, nil)
	eventually(t, "the line serving", func() bool { return strings.Contains(c.stdout.String(), " msg=serving ") })
	if strings.Contains(c.stdout.String(), "{") {
		t.Errorf("got JSON in a log, want text: %s", c.stdout.String())
	}
}

// TestBlackboxHangup: SIGHUP opens the audit file again and ends nothing.
func TestBlackboxHangup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.json")
	w := start(t, env{"AUDIT_LOG": path})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	records := func(path string) int {
		text, _ := os.ReadFile(path)
		return strings.Count(string(text), "\n")
	}
	eventually(t, "the first record", func() bool { return records(path) == 1 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	eventually(t, "the new file", func() bool { _, err := os.Stat(path); return err == nil })
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	eventually(t, "the second record in the new file", func() bool { return records(path) == 1 })
	if got := records(path + ".1"); got != 1 {
		t.Errorf("got %d records in the old file, want 1", got)
	}
	quiet := start(t, nil) // has nothing to open
	quiet.signal(syscall.SIGHUP)
	quiet.signal(syscall.SIGHUP)
	quiet.ask(t, "GET /fhir/Patient", good).is(t, 200)
}

// TestBlackboxAdminTLS: the admin listener speaks TLS with the data listener's certificate.
func TestBlackboxAdminTLS(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	cert, key := ca.Issue("fhir.test", nil)
	e := leastEnv(t)
	e["TLS_CERT_FILE"], e["TLS_KEY_FILE"], e["ADMIN_TLS"] = writeFile(t, "cert", cert), writeFile(t, "key", key), "true"
	c := spawn(t, e, nil)
	eventually(t, "the line serving", func() bool { return len(c.logs("serving")) == 1 })
	admin, _ := c.logs("serving")[0]["admin_address"].(string)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Get("https://" + admin + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("/livez over TLS: got status %d, want 200", res.StatusCode)
	}
	if res, err := client.Get("http://" + admin + "/livez"); err == nil {
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("/livez in the clear: got status 200, want a refusal")
		}
	}
}

// TestBlackboxBypass: a FHIR server that listens on the pod's address as well can be
// reached around the sidecar.
func TestBlackboxBypass(t *testing.T) {
	t.Parallel()
	outside := func() bool {
		addresses, _ := net.InterfaceAddrs()
		for _, a := range addresses {
			if prefix, ok := a.(*net.IPNet); ok && !prefix.IP.IsLoopback() {
				return true
			}
		}
		return false
	}
	if !outside() {
		t.Skip("this host has loopback addresses only")
	}
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	newUpstreamOn(t, everywhere)
	_, port, _ := net.SplitHostPort(everywhere.Addr().String())
	base := "http://127.0.0.1:" + port + "/fhir"
	for _, tt := range []struct {
		guard, upstream   string
		ready, warnings   int
		open, gaugeExists bool
	}{
		{"", base, 200, 1, true, true}, // the default
		{"warn", base, 200, 1, true, true},
		{"enforce", base, 503, 1, true, true},
		{"off", base, 200, 0, false, false},
		{"enforce", "", 200, 0, false, true},
	} {
		e := env{"BYPASS_GUARD": tt.guard}
		if tt.upstream != "" {
			e["UPSTREAM_URL"] = tt.upstream
		}
		w := start(t, e)
		const warning = "the FHIR server can be reached around the sidecar: it must listen on loopback only"
		eventually(t, "the warning", func() bool { return len(w.logs(warning)) == tt.warnings })
		if got := w.get(t, "/readyz").status; got != tt.ready {
			t.Errorf("%q: /readyz: got status %d, want %d", tt.guard, got, tt.ready)
		}
		text := w.get(t, "/metrics").body
		if got := strings.Contains(text, "\nintrospection_sidecar_bypass_open 1"); got != tt.open {
			t.Errorf("%q: got bypass_open 1 %t, want %t", tt.guard, got, tt.open)
		}
		if got := strings.Contains(text, "\nintrospection_sidecar_bypass_open "); got != tt.gaugeExists {
			t.Errorf("%q: got bypass_open %t, want %t", tt.guard, got, tt.gaugeExists)
		}
	}
}

// TestBlackboxCertificateExpiry: the gauge says when the listener's certificate ends.
func TestBlackboxCertificateExpiry(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	end := time.Now().Add(36 * time.Hour).Truncate(time.Second)
	cert, key := ca.Issue("fhir.test", func(c *x509.Certificate) { c.NotAfter = end })
	e := leastEnv(t)
	e["TLS_CERT_FILE"], e["TLS_KEY_FILE"] = writeFile(t, "cert", cert), writeFile(t, "key", key)
	c := spawn(t, e, nil)
	eventually(t, "the line serving", func() bool { return len(c.logs("serving")) == 1 })
	c.admin, _ = c.logs("serving")[0]["admin_address"].(string)
	if got := c.metric(t, `introspection_sidecar_certificate_expiry_timestamp_seconds{use="listener"}`); got != float64(end.Unix()) {
		t.Errorf("got %v, want %d", got, end.Unix())
	}
}
