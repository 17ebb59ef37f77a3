package app

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/sink"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// assemble builds the program between an authorization server and a FHIR server,
// without listening. Everything of it has ended when the test has.
func assemble(t *testing.T, as *introspectiontest.Server, fhir http.HandlerFunc, pairs ...string) *sidecar {
	t.Helper()
	return assembleLogging(t, discard, as, fhir, pairs...)
}

func assembleLogging(t *testing.T, logger *slog.Logger, as *introspectiontest.Server, fhir http.HandlerFunc, pairs ...string) *sidecar {
	t.Helper()
	upstream := httptest.NewServer(fhir)
	t.Cleanup(upstream.Close)
	environ := with(leastSettings(),
		"SIDECAR_UPSTREAM_URL", upstream.URL+"/fhir",
		"SIDECAR_INTROSPECTION_ENDPOINT", as.Endpoint(),
		"SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", introspectiontest.DefaultBearer))
	registry := newRegistry(Build{})
	logger = slog.New(sink.NewSampler(logger.Handler(), registry))
	sc, faults := build(configure(t, with(environ, pairs...)), options{logger: logger, registry: registry, stdout: io.Discard})
	if len(faults) > 0 {
		t.Fatalf("got faults %v, want none", faults)
	}
	t.Cleanup(func() {
		sc.cache.Close()
		sc.proxy.CloseIdleConnections()
	})
	return sc
}

// noLeaks is called first, so that it looks last.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func answerOK(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// admin asks the admin listener's handler.
func (sc *sidecar) admin(method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	sc.adminServer().Handler.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// askReadiness reads the response of /readyz.
func askReadiness(t *testing.T, sc *sidecar) (int, map[string]any) {
	t.Helper()
	w := sc.admin(http.MethodGet, "/readyz")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("got Content-Type %q, want application/json", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("got Cache-Control %q, want no-store", got)
	}
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	return w.Code, body
}

func expectReady(t *testing.T, sc *sidecar, reasons ...any) {
	t.Helper()
	status, body := http.StatusOK, map[string]any{"status": "ok"}
	if len(reasons) > 0 {
		status, body = http.StatusServiceUnavailable, map[string]any{"status": "not ready", "reasons": reasons}
	}
	if gotStatus, gotBody := askReadiness(t, sc); gotStatus != status || !reflect.DeepEqual(gotBody, body) {
		t.Errorf("/readyz: %d %v, want %d %v", gotStatus, gotBody, status, body)
	}
	if w := sc.admin(http.MethodGet, "/livez"); w.Code != http.StatusOK {
		t.Errorf("/livez: got %d, want 200 whatever readiness is", w.Code)
	}
	line := "\nintrospection_sidecar_ready 1\n"
	if len(reasons) > 0 {
		line = "\nintrospection_sidecar_ready 0\n"
	}
	if w := sc.admin(http.MethodGet, "/metrics"); !strings.Contains(w.Body.String(), line) {
		t.Errorf("/metrics lacks %q, want it", strings.TrimSpace(line))
	}
}

func TestAdminReadiness(t *testing.T) {
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	sc := assemble(t, as, answerOK)
	introspect := func(token string) error {
		_, err := sc.client.Introspect(t.Context(), introspection.Request{Token: token})
		return err
	}
	const refused = "own credential refused by the introspection endpoint"
	expectReady(t, sc)

	// One failure, or many, say nothing about the sidecar.
	for _, answer := range []introspectiontest.Answer{
		introspectiontest.Respond(http.StatusInternalServerError, nil, ""), introspectiontest.Respond(http.StatusTooManyRequests, nil, ""),
		introspectiontest.Respond(http.StatusForbidden, nil, ""), introspectiontest.Reset(), introspectiontest.Respond(http.StatusOK, nil, "<html>"),
	} {
		as.SetAnswer(answer)
		if introspect("good") == nil {
			t.Fatal("got no error, want one without a verdict")
		}
		expectReady(t, sc)
	}
	as.SetAnswer(nil)

	// A refused credential does, when probes are refused as well, until it is accepted
	// again.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- sc.client.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	as.AcceptBearers()
	if introspect("good") == nil {
		t.Fatal("got no error, want one while the credential is refused")
	}
	expectReady(t, sc)
	for end := time.Now().Add(15 * time.Second); sc.client.Ready() == nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	expectReady(t, sc, refused)
	sc.ready.draining.Store(true)
	expectReady(t, sc, "draining", refused)
	as.AcceptBearers(introspectiontest.DefaultBearer)
	if err := introspect("good"); err != nil {
		t.Fatalf("introspect: got error %v, want none", err)
	}
	expectReady(t, sc, "draining")
	sc.ready.draining.Store(false)
	expectReady(t, sc)

	sc.settings.IntrospectionEndpoint = ""
	expectReady(t, sc, "introspection endpoint is not known yet")
}

// TestAdminReadinessGrant: without a token of its own the sidecar can't ask.
func TestAdminReadinessGrant(t *testing.T) {
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	as.SetGrantAnswer(introspectiontest.Respond(http.StatusBadRequest, http.Header{"Content-Type": {"application/json"}},
		`{"error":"invalid_scope","error_description":"zx81canary"}`))
	sc := assemble(t, as, answerOK, grantWith(
		"SIDECAR_TOKEN_ENDPOINT", as.TokenEndpoint(), "SIDECAR_CLIENT_ID", introspectiontest.DefaultClientID,
		"SIDECAR_CLIENT_SECRET_FILE", writeFile(t, "secret", introspectiontest.DefaultClientSecret))...)
	expectReady(t, sc, "no token yet")
	if _, err := sc.client.Introspect(t.Context(), introspection.Request{Token: "good"}); err == nil {
		t.Fatal("got no error, want one without a credential")
	}
	expectReady(t, sc, "token endpoint answered 400 invalid_scope")

	as.SetGrantAnswer(nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sc.credential.Run(ctx) }()
	eventually(t, "a token", func() bool { status, _ := askReadiness(t, sc); return status == http.StatusOK })
	stop()
	if err := <-done; err != nil {
		t.Errorf("got error %v, want none", err)
	}
	expectReady(t, sc)
}

func TestAdminRoutes(t *testing.T) {
	noLeaks(t)
	sc := assemble(t, introspectiontest.NewServer(t), answerOK)
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/livez", 200},
		{"GET", "/livez?verbose", 200},
		{"HEAD", "/livez", 200},
		{"HEAD", "/readyz", 200},
		{"HEAD", "/metrics", 200},
		{"POST", "/livez", 405},
		{"PUT", "/readyz", 405},
		{"DELETE", "/metrics", 405},
		{"OPTIONS", "/readyz", 405},
		{"GET", "/", 404},
		{"GET", "/livez/", 404},
		{"GET", "/LIVEZ", 404},
		{"GET", "/healthz", 404},
		{"GET", "/fhir/Patient", 404},
		{"GET", "/debug/pprof/", 404},
		{"POST", "/nothing", 404},
		{"DELETE", "/cache", 404}, // without SIDECAR_ADMIN_TOKEN_FILE there is no such call
	} {
		w := sc.admin(tt.method, tt.target)
		if w.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.target, w.Code, tt.status)
		}
		// RFC 9110 §15.5.6.
		if got := w.Header().Get("Allow"); (got == "GET, HEAD") != (tt.status == 405) {
			t.Errorf("%s %s: got Allow %q, want it with 405 only", tt.method, tt.target, got)
		}
	}
	body := sc.admin("GET", "/livez").Body.String()
	if strings.TrimSpace(body) != `{"status":"ok"}` {
		t.Errorf("/livez: got %s, want status ok", body)
	}
	w := sc.admin("GET", "/metrics")
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4; charset=utf-8") {
		t.Errorf("/metrics: got Content-Type %q, want Prometheus' text format", got)
	}
	if !strings.Contains(w.Body.String(), "\nintrospection_sidecar_build_info{") {
		t.Error("/metrics lacks build_info, want it")
	}
}

// TestAdminServer: what a stranger can do to the admin listener ends by itself.
func TestAdminServer(t *testing.T) {
	noLeaks(t)
	sc := assemble(t, introspectiontest.NewServer(t), answerOK)
	server := sc.adminServer()
	if server.ReadHeaderTimeout <= 0 || server.ReadTimeout <= 0 || server.WriteTimeout <= 0 || server.IdleTimeout <= 0 || server.MaxHeaderBytes <= 0 {
		t.Error("got a server without one of its limits, want all")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	served := make(chan error)
	go func() { served <- ended(server.Serve(ln)) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + ln.Addr().String() + "/livez")
	if err != nil {
		t.Fatalf("client.Get: got error %v, want none", err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("got status %d, want 200", res.StatusCode)
	}
	if err := server.Close(); err != nil {
		t.Errorf("server.Close: got error %v, want none", err)
	}
	if err := <-served; err != nil {
		t.Errorf("got error %v from a server that was told to stop, want none", err)
	}
}
