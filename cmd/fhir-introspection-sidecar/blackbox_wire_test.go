package main

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestBlackboxRawHeads: what servers read differently is refused on the fast path,
// without it and over TLS, counted, and on record.
func TestBlackboxRawHeads(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	cert, key := ca.Issue("fhir.test", nil)
	for name, settings := range map[string]env{
		"fast path": {}, "no fast path": {"FAST_PATH": "false"},
		"TLS": {"TLS_CERT_FILE": writeFile(t, "cert", cert), "TLS_KEY_FILE": writeFile(t, "key", key)},
	} {
		settings["AUDIT_LOG"] = "stdout"
		w := start(t, settings)
		for _, c := range []struct{ raw, reason string }{
			{"GET /fhir/metadata HTTP/1.1\nHost: a\n\n", "line_end"},
			{"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\nX: y\nX-Launch-Patient: 1\r\n\r\n", "line_end"},
			{"POST /fhir/Patient HTTP/1.1\r\nHost: a\r\n" + good + "\r\nContent-Length: 010\r\n\r\n0123456789", "framing"},
			{"POST /fhir/Patient HTTP/1.1\r\nHost: a\r\n" + good + "\r\nContent-Length: +5\r\n\r\n01234", "framing"},
			{"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host"},
			{"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 60<<10) + "\r\n\r\n", "too_large"},
			{"GET /fhir/metadata HTTP/1.1\r\nHost:\r\n\r\n", ""}, // ours to refuse, as any request
		} {
			before := w.metric(t, "introspection_sidecar_protocol_errors_total", `reason="`+c.reason+`"`)
			conn, err := net.Dial("tcp", w.data)
			if err != nil {
				t.Fatal(err)
			}
			if name == "TLS" {
				conn = tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"})
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.WriteString(conn, c.raw)
			response := make([]byte, 12)
			_, _ = io.ReadFull(conn, response)
			_ = conn.Close()
			if got, want := string(response), "HTTP/1.1 4"; !strings.HasPrefix(got, want) {
				t.Errorf("%s, %.80q: got %q, want %s", name, c.raw, got, want)
			}
			if c.reason == "" {
				continue
			}
			eventually(t, "it is counted", func() bool {
				return w.metric(t, "introspection_sidecar_protocol_errors_total", `reason="`+c.reason+`"`) == before+1
			})
			eventually(t, "it is on record", func() bool { return strings.Contains(w.stdout.String(), `"reason":"`+c.reason+`"`) })
		}
		if n := w.up.count(); n != 0 {
			t.Errorf("%s: FHIR server got %d requests, want 0", name, n)
		}
	}
}

// TestBlackboxHalfClosed: a client that closes its writing side after its request gets
// the response, and its body arrives.
func TestBlackboxHalfClosed(t *testing.T) {
	t.Parallel()
	for _, fast := range []string{"true", "false"} {
		w := start(t, env{"FAST_PATH": fast})
		for _, raw := range []string{
			"GET /fhir/Patient/1 HTTP/1.1\r\nHost: a\r\n" + good + "\r\n\r\n",
			"POST /fhir/Patient HTTP/1.1\r\nHost: a\r\n" + good + "\r\nContent-Length: 2\r\n\r\n{}",
		} {
			c := dial(t, w.data)
			_, _ = io.WriteString(c.Conn, raw)
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			method, _, _ := strings.Cut(raw, " ")
			if a, err := c.answer(method); err != nil || a.status != 200 {
				t.Errorf("fast path %s, %s: got %v %v, want 200", fast, method, a, err)
			}
			if got := w.up.last(t).line; !strings.HasPrefix(got, method) {
				t.Errorf("fast path %s: FHIR server got %q, want %s", fast, got, method)
			}
			_ = c.Conn.Close()
		}
	}
}
