package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

var (
	errPanic = errors.New("never returned")
	errGone  = context.Canceled
)

// panics is an Introspector with a bug, whose panic holds a secret.
func panics(context.Context, string) { panic("panic with " + canary) }

// waits returns what tells on asked that it was called and waits for the client
// to leave.
func waits(asked chan<- struct{}) func(context.Context, string) {
	return func(ctx context.Context, _ string) {
		close(asked)
		<-ctx.Done()
	}
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

func TestNew(t *testing.T) {
	if _, err := New(unitConfig(introspectorFunc(nil))); err != nil {
		t.Errorf("New: got error %v, want none", err)
	}
	for name, change := range map[string]func(*Config){
		"no upstream":       func(c *Config) { c.Upstream = nil },
		"no introspector":   func(c *Config) { c.Introspector = nil },
		"no token ref":      func(c *Config) { c.TokenRef = nil },
		"prefix":            func(c *Config) { c.HeaderPrefix = "X-" },
		"base":              func(c *Config) { c.Upstream = &url.URL{Path: "/a//b"} },
		"empty public path": func(c *Config) { c.PublicPaths = []string{""} },
		"public path":       func(c *Config) { c.PublicPaths = []string{"metadata", "/x"} },
	} {
		config := unitConfig(introspectorFunc(nil))
		change(&config)
		if p, err := New(config); err == nil || p != nil {
			t.Errorf("%s: got %v (%v), want an error", name, p, err)
		}
	}
}

// TestRoutes is who gets through without a token, and who doesn't get through.
func TestRoutes(t *testing.T) {
	s := newStack(t)
	preflightFields := []string{"Origin: https://app.test", "Access-Control-Request-Method: GET"}
	for _, tt := range []struct {
		raw    string
		status int
	}{
		{get("/fhir/metadata"), 200},
		{message("HEAD", "/fhir/metadata", ""), 200},
		{get("/fhir/metadata?_format=json&x=../Patient"), 200},
		{get("/fhir/.well-known/smart-configuration"), 200},
		{get("http://evil.test/fhir/metadata"), 200},
		{get("/fhir/metadata", "Authorization: Basic x"), 200},
		{message("OPTIONS", "/fhir/Patient", "", preflightFields...), 200},
		{message("OPTIONS", "/fhir", "", preflightFields...), 200},

		{message("POST", "/fhir/metadata", "{}"), 401},
		{message("PUT", "/fhir/metadata", "{}"), 401},
		{message("PATCH", "/fhir/metadata", "{}"), 401},
		{message("DELETE", "/fhir/metadata", ""), 401},
		{get("/fhir/metadata/"), 401},
		{get("/fhir/metadataX"), 401},
		{get("/fhir/metadata-x"), 401},
		{get("/fhir/metadata.json"), 401},
		{get("/fhir/metadata/x"), 401},
		{get("/fhir/x/metadata"), 401},
		{get("/fhir/Metadata"), 401},
		{get("/fhir/%6detadata"), 401},
		{get("/fhir/metadata%20"), 401},
		{get("/fhir/metadata%23"), 401},
		{get("/fhir/metadata%3f"), 401},
		{get("/fhir/metadata/%252e%252e/Patient"), 401},
		{get("/fhir/Patient%23/metadata"), 401},
		{get("/fhir/Patient?path=/metadata"), 401},
		{get("/fhir"), 401},
		{get("/fhir/"), 401},
		{get("/fhir/metrics"), 401},
		{message("OPTIONS", "/fhir/Patient", ""), 401},
		{message("OPTIONS", "/fhir/Patient", "", preflightFields[0]), 401},
		{message("OPTIONS", "/fhir/Patient", "", preflightFields[1]), 401},
		{message("POST", "/fhir/Patient", "{}", preflightFields...), 401},

		{get("/fhir/metadata/../Patient", bearerTOK), 400},
		{get("/fhir/metadata/%2e%2e/Patient", bearerTOK), 400},
		{get("/fhir/metadata%2f..%2fPatient", bearerTOK), 400},
		{get("/fhir/metadata;/../Patient", bearerTOK), 400},
		{get("/fhir/metadata/..;/Patient", bearerTOK), 400},
		{get("/fhir/metadata;x=1"), 400},
		{get("/fhir//metadata"), 400},
		{get("//fhir/metadata"), 400},
		{get("/fhir/metadata%00", bearerTOK), 400},
		{get(`/fhir/metadata\..\Patient`, bearerTOK), 400},
		{get("/fhir/Patient#/metadata", bearerTOK), 400},
		{get("/fhir/metadata#"), 400},
		{message("OPTIONS", "/fhir/a//b", "", preflightFields...), 400},
		{get("/fhir" + strings.Repeat("/..", 20000)), 400},

		{get("/"), 404},
		{get("/fhirx/Patient", bearerTOK), 404},
		{get("/metadata", bearerTOK), 404},
		{get("/metrics", bearerTOK), 404},
		{get("/livez"), 404},
		{get("http://evil.test"), 404},
		{get("http://evil.test?x=/fhir/metadata"), 404},
		{get("http:/fhir/metadata"), 404},
		{message("OPTIONS", "/metadata", "", preflightFields...), 404},
	} {
		a := s.do(tt.raw)
		line, _, _ := strings.Cut(tt.raw, "\r\n")
		if a.StatusCode != tt.status || a.Header.Get("Location") != "" {
			t.Errorf("%.100q: status %d, want %d", line, a.StatusCode, tt.status)
		}
		if a.StatusCode == 200 {
			s.upstream.got()
		}
		s.upstream.untouched()
	}
	if asked := s.verdicts.asked(); len(asked) > 0 {
		t.Errorf("introspected %q, want nothing", asked)
	}
}

func TestMethods(t *testing.T) {
	s := newStack(t)
	for _, raw := range []string{
		message("CONNECT", "/fhir/Patient", "", bearerTOK),
		message("CONNECT", "fhir.test:443", "", bearerTOK),
		message("TRACE", "/fhir/Patient", "", bearerTOK),
		message("TRACE", "/fhir/metadata", ""),
		message("TRACK", "/fhir/Patient", "", bearerTOK),
		message("OPTIONS", "*", "", bearerTOK),
		message("GET", "*", "", bearerTOK),
		message("get", "/fhir/Patient", "", bearerTOK),
		message("Get", "/fhir/metadata", ""),
		message("PROPFIND", "/fhir/Patient", "", bearerTOK),
		message("PRI", "/fhir/Patient", "", bearerTOK),
		message("GETX", "/fhir/a//b", "", bearerTOK),
	} {
		c := s.dial()
		c.send(raw + get("/fhir/poison", bearerTOK))
		a := c.receive("GET")
		if a.StatusCode != http.StatusMethodNotAllowed || !a.Close || a.Header.Get("Allow") != allowedMethods {
			t.Errorf("%.40q: got status %d, close %t, %v, want 405, true and Allow", raw, a.StatusCode, a.Close, a.Header)
		}
		c.closed()
		s.wait(1)
		s.upstream.untouched()
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		if a := s.do(message(method, "/fhir/Patient/1", "", bearerTOK)); a.StatusCode != 200 {
			t.Errorf("%s: got status %d, want 200", method, a.StatusCode)
		}
		if line := s.upstream.got().line; !strings.HasPrefix(line, method+" ") {
			t.Errorf("FHIR server got %q, want method %s", line, method)
		}
	}
}

// TestRootBase finds that the admin listener's paths aren't FHIR paths here.
func TestRootBase(t *testing.T) {
	s := newStack(t, func(c *Config) {
		c.Upstream.Path = ""
		c.ReservedPaths = []string{"/livez", "/readyz", "/metrics", "/cache", "/jwks.json"}
	})
	for path, status := range map[string]int{
		"/livez": 404, "/readyz": 404, "/metrics": 404, "/cache": 404, "/jwks.json": 404,
		"/metadata": 200, "/Patient": 200, "/": 200, "/metrics/x": 200,
	} {
		if a := s.do(get(path, bearerTOK)); a.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, a.StatusCode, status)
		}
	}
}

func TestTenantBase(t *testing.T) {
	s := newStack(t, func(c *Config) { c.Upstream.Path = "/fhir/{tenant}/r4" })
	for path, status := range map[string]int{
		"/fhir/a/r4/Patient": 200, "/fhir/a/r4/metadata": 200, "/fhir/a/Patient": 404, "/fhir/a/b/r4/Patient": 404, "/fhir//r4/Patient": 400,
		"/fhir/../r4/Patient": 400, "/fhir/%2e%2e/r4/metadata": 400,
	} {
		if a := s.do(get(path, bearerTOK)); a.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, a.StatusCode, status)
		}
	}
}

func TestCORS(t *testing.T) {
	s := newStack(t)
	a := s.do(get("/fhir/Patient", "Origin: https://app.test"))
	if a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Access-Control-Expose-Headers") != exposedHeaders {
		t.Errorf("got refusal with %v, want CORS headers", a.Header)
	}
	s.upstream.writes("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://app.test\r\nContent-Length: 2\r\n\r\n{}")
	a = s.do(get("/fhir/Patient", bearerTOK, "Origin: https://app.test"))
	if got := a.Header["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != "https://app.test" {
		t.Errorf("got response with %v, want the server's CORS header", a.Header)
	}
	a = s.do(message("OPTIONS", "/fhir/Patient", "", "Origin: https://app.test", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization"))
	if a.StatusCode != 200 || len(s.verdicts.asked()) != 1 {
		t.Errorf("preflight: got status %d and introspections %q, want 200 and one", a.StatusCode, s.verdicts.asked())
	}
	s.upstream.got()
	r := s.upstream.got()
	for name, want := range map[string]string{"Origin": "https://app.test", "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"} {
		if got := r.one(t, name); got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
}

// J05: a panic in a handler is one 500, without what it says, and the next request
// is served.
func TestPanic(t *testing.T) {
	s := newStack(t)
	s.verdicts.during = panics
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 500 || !a.Close || strings.Contains(a.body, canary) {
		t.Errorf("got status %d, close %t, %q, want 500, true and nothing of the panic", a.StatusCode, a.Close, a.body)
	}
	s.upstream.untouched()
	if text := s.log.String(); strings.Contains(text, canary) || !strings.Contains(text, "proxy.panics") {
		t.Errorf("got log %s, want the place of the panic without its text", text)
	}
	s.verdicts.during = nil
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 200 {
		t.Errorf("next request: got status %d, want 200", a.StatusCode)
	}
}

// J05: so it is in Rewrite, where the claims become headers.
func TestPanicInRewrite(t *testing.T) {
	s := newStack(t)
	context := s.proxy.context
	broken := *context
	broken.headers, broken.names = []ContextHeader{{Suffix: "X", Claim: 200}}, []string{"X-Launch-X"} // no such claim
	s.proxy.forwarder.context = &broken
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 500 || s.counted(internalError, 500) != 1 {
		t.Errorf("got status %d, want 500, counted once", a.StatusCode)
	}
	s.upstream.untouched()
	if text := s.log.String(); !strings.Contains(text, `"msg":"panic"`) || strings.Contains(text, "TOK") || strings.Contains(text, "Practitioner/123") {
		t.Errorf("got log %s, want a panic and nothing of the request", text)
	}
	s.proxy.forwarder.context = context
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 200 {
		t.Errorf("next request: got status %d, want 200", a.StatusCode)
	}
}

// panickingWriter breaks in the middle of a response.
type panickingWriter struct {
	http.ResponseWriter
	written int
}

func (w *panickingWriter) Write(p []byte) (int, error) {
	if w.written > 0 {
		panic("panic with " + canary)
	}
	w.written += len(p)
	return w.ResponseWriter.Write(p)
}

func (w *panickingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestPanicAfterAnswerBegan (J05) finds that such a response can't be taken for a
// complete one.
func TestPanicAfterAnswerBegan(t *testing.T) {
	s := newStackBehind(t, withStandard)
	inner := s.served.Handler
	s.served.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(&panickingWriter{ResponseWriter: w}, r) })
	s.upstream.answer = func(conn net.Conn, _ *received) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
		time.Sleep(50 * time.Millisecond) // the second part comes alone
		_, _ = io.WriteString(conn, "1\r\n!\r\n0\r\n\r\n")
		return true
	}
	a := s.do(get("/fhir/Patient", bearerTOK))
	if a.StatusCode != 200 || a.body != "begun" || a.err == nil {
		t.Errorf("got status %d %q %v, want 200, what had begun and an error", a.StatusCode, a.body, a.err)
	}
	if got := s.counted(internalError, 200); got != 1 {
		t.Errorf("counted %v times, want once", got)
	}
	if strings.Contains(s.log.String(), canary) {
		t.Errorf("got log %s, want nothing of the panic's text", s.log.String())
	}
}

// TestNoVerdictNoError finds that an Introspector's mistake doesn't let anyone in.
func TestNoVerdictNoError(t *testing.T) {
	s := newStack(t, func(c *Config) {
		c.Introspector = introspectorFunc(func(context.Context, string) (*introspection.Response, error) { return nil, nil })
	})
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 500 {
		t.Errorf("got status %d, want 500", a.StatusCode)
	}
	s.upstream.untouched()
}

func TestDrain(t *testing.T) {
	s := newStack(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s.upstream.answer = func(conn net.Conn, r *received) bool {
		if strings.Contains(r.line, "slow") {
			close(arrived)
			select {
			case <-release:
			case <-t.Context().Done():
			}
		}
		_, _ = io.WriteString(conn, okAnswer)
		return true
	}
	kept, inFlight := s.dial(), s.dial()
	kept.send(get("/fhir/Patient", bearerTOK))
	if a := kept.receive("GET"); a.Close {
		t.Error("closes before it drains, want a kept connection")
	}
	inFlight.send(get("/fhir/slow", bearerTOK))
	<-arrived
	s.proxy.Drain()
	close(release)
	if a := inFlight.receive("GET"); a.StatusCode != 200 || !a.Close {
		t.Errorf("response begun after Drain: got status %d, close %t, want 200 and true", a.StatusCode, a.Close)
	}
	kept.send(get("/fhir/Patient", bearerTOK))
	if a := kept.receive("GET"); a.StatusCode != 200 || !a.Close {
		t.Errorf("request after Drain: got status %d, close %t, want 200 and true", a.StatusCode, a.Close)
	}
	kept.closed()
	if a := s.do(get("/fhir/Patient")); a.StatusCode != 401 || !a.Close {
		t.Errorf("refusal after Drain: got status %d, close %t, want 401 and true", a.StatusCode, a.Close)
	}
}

func TestCloseIdleConnections(t *testing.T) {
	s := newStack(t)
	s.do(get("/fhir/Patient", bearerTOK))
	s.proxy.CloseIdleConnections()
	<-s.upstream.gone
}

// TestDecisionLabels finds that dashboards can tell the decisions apart.
func TestDecisionLabels(t *testing.T) {
	for _, d := range decisions {
		if d.label == "" || d.status != 0 && (d.text == "" || d.issue == "") {
			t.Errorf("got decision %+v, want a label, and a text and an issue code for every status", d)
		}
	}
}

// TestNilDefaults finds that a proxy without logger and metrics works.
func TestNilDefaults(t *testing.T) {
	s := newStack(t, func(c *Config) { c.Logger, c.Registerer, c.Now = nil, prometheus.Registerer(nil), nil })
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 200 {
		t.Errorf("got status %d, want 200", a.StatusCode)
	}
}

// TestPipelined finds that each request on a connection is decided about on its own.
func TestPipelined(t *testing.T) {
	s := newStack(t)
	c := s.dial()
	c.send(get("/fhir/Patient", bearerTOK) + get("/fhir/Patient") + get("/fhir/metadata") + get("/fhir/Patient", "X-Launch-Patient: evil", bearerTOK))
	for _, want := range []int{200, 401, 200, 200} {
		if a := c.receive("GET"); a.StatusCode != want {
			t.Errorf("status %d, want %d", a.StatusCode, want)
		}
	}
	for _, seed := range []bool{true, false, true} {
		if r := s.upstream.got(); seed {
			r.checkSeed(t)
		} else if names := r.family(); len(names) > 0 {
			t.Errorf("FHIR server got %q, want no context headers", names)
		}
	}
}

// TestHTTP2 finds that the same holds for a client that speaks HTTP/2 over TLS.
func TestHTTP2(t *testing.T) {
	s := newStack(t)
	server := httptest.NewUnstartedServer(s.proxy)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	s.upstream.writes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX_Launch_Patient: 1\r\nX-Kept: 1\r\n\r\n")
	for token, status := range map[string]int{"TOK": 200, "BAD": 401} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/fhir/Patient?a;b", io.MultiReader(strings.NewReader("{}")))
		if err != nil {
			t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header["x_launch_patient"] = []string{"evil"}
		r.Trailer = http.Header{"X-Launch-Patient": {"evil"}}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatalf("Do: got error %v, want none", err)
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != status || response.ProtoMajor != 2 || err != nil {
			t.Errorf("%s: got %s %d (%v), want %d over HTTP/2", token, response.Proto, response.StatusCode, err, status)
		}
		if status == 200 && (len(response.Trailer) != 1 || response.Trailer.Get("X-Kept") != "1") {
			t.Errorf("got trailers %v, want X-Kept only", response.Trailer)
		}
	}
	r := s.upstream.got()
	r.checkSeed(t)
	if r.line != "POST /fhir/Patient?a;b HTTP/1.1" || r.body != "{}" || len(r.trailer) > 0 || r.one(t, "X-Forwarded-Proto") != "https" {
		t.Errorf("FHIR server got %+v, want the request without trailers, from https", r)
	}
	s.upstream.untouched()
}
