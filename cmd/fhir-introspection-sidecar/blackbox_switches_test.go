package main

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestBlackboxFastPathOff: without the fast path net/http serves everything, and
// nobody can tell but by the order of the fields.
func TestBlackboxFastPathOff(t *testing.T) {
	t.Parallel()
	w := start(t, env{"FAST_PATH": "false"})
	w.ask(t, "GET /fhir/Patient/1", good).is(t, 200)
	w.ask(t, "HEAD /fhir/Patient/1", good).is(t, 200)
	w.ask(t, "GET /fhir/Patient/1").is(t, 401)
	w.ask(t, "GET /fhir/metadata").is(t, 200)
	if got := w.up.last(t).line; got != "GET /fhir/metadata HTTP/1.1" {
		t.Errorf("FHIR server: got %q, want the last request", got)
	}
	if code := w.terminate(t); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

// TestBlackboxHTTP2Off: the TLS listener offers HTTP/1.1 only.
func TestBlackboxHTTP2Off(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	cert, key := ca.Issue("fhir.test", nil)
	for on, want := range map[string]string{"true": "h2", "false": "http/1.1"} {
		w := start(t, env{"TLS_CERT_FILE": writeFile(t, "cert", cert), "TLS_KEY_FILE": writeFile(t, "key", key), "HTTP2": on})
		c, err := tls.Dial("tcp", w.data, &tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatalf("HTTP2=%s: got %v, want a connection", on, err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("HTTP2=%s: got protocol %q, want %q", on, got, want)
		}
		_ = c.Close()
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + w.data + "/fhir/metadata")
		if err != nil {
			t.Fatalf("HTTP2=%s: got %v, want a response", on, err)
		}
		_ = res.Body.Close()
		if wantMajor := map[string]int{"true": 2, "false": 1}[on]; res.StatusCode != 200 || res.ProtoMajor != wantMajor {
			t.Errorf("HTTP2=%s: got %s %d, want 200 over HTTP/%d", on, res.Proto, res.StatusCode, wantMajor)
		}
	}
}
