package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const smartConfigPath = "/fhir/.well-known/smart-configuration"

func (a *answer) document(t *testing.T) (members map[string]any) {
	t.Helper()
	a.is(t, 200)
	if err := json.Unmarshal([]byte(a.body), &members); err != nil || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %q as %q (%v), want JSON", a.body, a.header.Get("Content-Type"), err)
	}
	return members
}

// Protected resource metadata stands at its well-known place and below the base, and
// challenges lead there.
func TestBlackboxResourceMetadata(t *testing.T) {
	t.Parallel()
	w := start(t, env{
		"RESOURCE_METADATA": "on", "PUBLIC_URL": "https://fhir.example.org/fhir/R4", "RESOURCE_NAME": "FHIR of the hospital",
		"RESOURCE_DOCUMENTATION": "https://example.org/docs", "REQUIRED_ISSUERS": "https://as.example.org", "SMART_SCOPES": "openid patient/*.rs",
	})
	const (
		location = "https://fhir.example.org/.well-known/oauth-protected-resource/fhir/R4"
		path     = "/.well-known/oauth-protected-resource/fhir/R4"
	)
	for _, request := range []string{"GET " + path, "GET /fhir/.well-known/oauth-protected-resource"} {
		a := w.send(t, request+" HTTP/1.1\r\nHost: evil.example.org\r\nAccept: application/fhir+xml\r\nX-Forwarded-Host: evil.example.org\r\nOrigin: "+unlisted+"\r\n\r\n")
		m := a.document(t)
		if m["resource"] != "https://fhir.example.org/fhir/R4" || m["resource_name"] != "FHIR of the hospital" || m["resource_documentation"] == nil ||
			m["authorization_servers"] == nil || m["scopes_supported"] == nil || m["jwks_uri"] != nil {
			t.Errorf("%s: got %v", request, m)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%s: got %v, want it open to every page and to caches", request, a.header)
		}
	}
	if a := w.ask(t, "HEAD "+path); a.status != 200 || a.body != "" || a.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: got %d %v", a.status, a.header)
	}
	for _, request := range []string{
		"GET /.well-known/oauth-protected-resource", "GET " + path + "/", "GET " + path + "/x", "POST " + path, "OPTIONS " + path,
		"GET /.well-known/oauth-protected-resource/fhir",
	} {
		w.ask(t, request, "Content-Length: 0").refused(t, 404, "not-found", "")
	}
	w.ask(t, "OPTIONS "+path, "Origin: "+unlisted, "Access-Control-Request-Method: GET").is(t, 204)
	if n := w.as.Introspections(); n != 0 {
		t.Errorf("got %d introspections, want none", n)
	}
	want := `Bearer realm="fhir", resource_metadata="` + location + `"`
	if got := w.ask(t, "GET /fhir/Patient").header.Get("WWW-Authenticate"); got != want {
		t.Errorf("got challenge %s, want %s", got, want)
	}
	for _, header := range []string{bearer("unknown"), "Authorization: Basic eDp5"} {
		if got := w.ask(t, "GET /fhir/Patient", header).header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `, resource_metadata="`+location+`"`) {
			t.Errorf("got challenge %s, want it to name the metadata", got)
		}
	}
	if w.up.count() != 0 {
		t.Errorf("the FHIR server got %d requests, want none", w.up.count())
	}
}

// Each tenant is a resource of its own.
func TestBlackboxResourceMetadataOfTenants(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	w := start(t, env{
		"RESOURCE_METADATA": "on", "UPSTREAM_URL": "http://" + up.address + "/fhir/{tenant}/r4", "PUBLIC_URL": "https://fhir.example.org/fhir/{tenant}/r4",
	})
	for _, tenant := range []string{"a", "b-1"} {
		base := "https://fhir.example.org/fhir/" + tenant + "/r4"
		for _, path := range []string{"/.well-known/oauth-protected-resource/fhir/" + tenant + "/r4", "/fhir/" + tenant + "/r4/.well-known/oauth-protected-resource"} {
			if m := w.ask(t, "GET "+path).document(t); m["resource"] != base {
				t.Errorf("%s: got %v, want resource %s", path, m, base)
			}
		}
		if got := w.ask(t, "GET /fhir/"+tenant+"/r4/Patient").header.Get("WWW-Authenticate"); !strings.Contains(got, "/.well-known/oauth-protected-resource/fhir/"+tenant+"/r4\"") {
			t.Errorf("got challenge %s, want the tenant's metadata", got)
		}
	}
	w.ask(t, "GET /.well-known/oauth-protected-resource/fhir/a%2Fb/r4").refused(t, 400, "invalid", "")
	for _, tenant := range []string{"$x", "_x", "a%22b", "a%20b"} {
		w.ask(t, "GET /.well-known/oauth-protected-resource/fhir/"+tenant+"/r4").refused(t, 404, "not-found", "")
	}
}

// Without it nothing is there, and challenges are as ever.
func TestBlackboxResourceMetadataOff(t *testing.T) {
	t.Parallel()
	w := start(t, env{"PUBLIC_URL": "https://fhir.example.org/fhir"})
	w.ask(t, "GET /.well-known/oauth-protected-resource/fhir").refused(t, 404, "not-found", "")
	a := w.ask(t, "GET /fhir/.well-known/oauth-protected-resource")
	a.refused(t, 401, "login", "none")
	if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="fhir"` {
		t.Errorf("got challenge %s", got)
	}
}

// smartIssuer publishes metadata, once it is up.
func smartIssuer(t *testing.T) (server *httptest.Server, up *atomic.Bool) {
	t.Helper()
	up = new(atomic.Bool)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() || r.URL.Path != "/.well-known/openid-configuration" {
			http.NotFound(w, r)
			return
		}
		introspectiontest.WriteJSON(w, 200, map[string]any{
			"issuer": server.URL, "authorization_endpoint": server.URL + "/auth", "token_endpoint": server.URL + "/token", "jwks_uri": server.URL + "/jwks",
			"introspection_endpoint": "https://internal.example.org/introspect", "grant_types_supported": []string{"authorization_code"},
			"code_challenge_methods_supported": []string{"plain", "S256"}, "response_types_supported": []string{"code"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	}))
	t.Cleanup(server.Close)
	return server, up
}

func isSMART(t *testing.T, m map[string]any, issuer string) {
	t.Helper()
	for _, name := range []string{"grant_types_supported", "token_endpoint", "capabilities", "code_challenge_methods_supported", "jwks_uri", "issuer", "authorization_endpoint"} {
		if m[name] == nil {
			t.Errorf("got %v, want %s", m, name)
		}
	}
	raw, _ := json.Marshal(m)
	if m["token_endpoint"] != issuer+"/token" || strings.Contains(string(raw), "internal") || !strings.Contains(string(raw), `"code_challenge_methods_supported":["S256"]`) {
		t.Errorf("got %s, want what the issuer says, without the introspection endpoint and plain", raw)
	}
}

// eventually waits for a request to be answered with a status.
func (w *world) eventually(t *testing.T, request string, status int) *answer {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if a := w.ask(t, request); a.status == status || time.Now().After(end) {
			a.is(t, status)
			return a
		}
	}
}

// serve makes the document, and says 503 until it can.
func TestBlackboxSMARTConfigurationServed(t *testing.T) {
	t.Parallel()
	as, up := smartIssuer(t)
	up.Store(true)
	w := start(t, env{"SMART_CONFIGURATION": "serve", "ISSUER_URL": as.URL, "SMART_CAPABILITIES": "launch-standalone,permission-v2", "SMART_SCOPES": "openid patient/*.rs"})
	a := w.eventually(t, "GET "+smartConfigPath, 200)
	m := a.document(t)
	isSMART(t, m, as.URL)
	if caps, _ := m["capabilities"].([]any); len(caps) != 2 || caps[0] != "launch-standalone" {
		t.Errorf("got capabilities %v, want those that are set", m["capabilities"])
	}
	if a := w.ask(t, "GET "+smartConfigPath, "Accept: application/fhir+xml", "Origin: "+unlisted); a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %v, want it open to every page", a.header)
	}
	w.ask(t, "HEAD "+smartConfigPath).is(t, 200)
	if w.up.count() != 0 {
		t.Errorf("the FHIR server got %d requests, want none", w.up.count())
	}
	w.ask(t, "GET /fhir/metadata").is(t, 200) // its own statement is forwarded
}

func TestBlackboxSMARTConfigurationUnknown(t *testing.T) {
	t.Parallel()
	as, up := smartIssuer(t)
	w := start(t, env{"SMART_CONFIGURATION": "serve", "ISSUER_URL": as.URL})
	for range 2 {
		w.ask(t, "GET "+smartConfigPath).refused(t, 503, "transient", "")
	}
	if a := w.get(t, "/readyz"); a.status != 200 {
		t.Errorf("got %d %s, want it ready: the endpoint is known", a.status, a.body)
	}
	up.Store(true)
	isSMART(t, w.eventually(t, "GET "+smartConfigPath, 200).document(t), as.URL)
	w.terminate(t) // all lines are written then
	for _, msg := range []string{"the SMART configuration can't be served: the issuer's metadata isn't known yet", "the issuer's metadata is known"} {
		if lines := w.logs(msg); len(lines) != 1 {
			t.Errorf("got %d lines %q, want one", len(lines), msg)
		}
	}
}

// The FHIR server starts after the sidecar: what it has is asked until it says.
func TestBlackboxSMARTConfigurationBeforeTheServer(t *testing.T) {
	t.Parallel()
	as, up := smartIssuer(t)
	up.Store(true)
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	address := late.Addr().String()
	_ = late.Close()
	w := start(t, env{"SMART_CONFIGURATION": "fallback", "ISSUER_URL": as.URL, "UPSTREAM_URL": "http://" + address + "/fhir"})
	w.ask(t, "GET "+smartConfigPath).refused(t, 502, "transient", "")
	if late, err = net.Listen("tcp", address); err != nil {
		t.Skipf("somebody else took %s: %v", address, err)
	}
	server := &httptest.Server{Listener: late, Config: &http.Server{Handler: http.NotFoundHandler()}}
	server.Start()
	t.Cleanup(server.Close)
	isSMART(t, w.eventually(t, "GET "+smartConfigPath, 200).document(t), as.URL)
}

// fallback serves ours while the FHIR server has none.
func TestBlackboxSMARTConfigurationFallback(t *testing.T) {
	t.Parallel()
	as, up := smartIssuer(t)
	up.Store(true)
	fhir := newUpstream(t)
	const none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
	fhir.bytesOn(smartConfigPath, none, true)
	w := start(t, env{"SMART_CONFIGURATION": "fallback", "ISSUER_URL": as.URL, "UPSTREAM_URL": "http://" + fhir.address + "/fhir"})
	isSMART(t, w.eventually(t, "GET "+smartConfigPath, 200).document(t), as.URL)

	own := newUpstream(t)
	own.bytesOn(smartConfigPath, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"own\":\"theirs\"}"[:len("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n")+15], true)
	w = start(t, env{"SMART_CONFIGURATION": "fallback", "ISSUER_URL": as.URL, "UPSTREAM_URL": "http://" + own.address + "/fhir"})
	if a := w.ask(t, "GET "+smartConfigPath); a.status != 200 || !strings.Contains(a.body, "theirs") {
		t.Errorf("got %d %s, want the FHIR server's own", a.status, a.body)
	}
}

// A document that somebody wrote is served as it stands.
func TestBlackboxSMARTConfigurationFile(t *testing.T) {
	t.Parallel()
	const document = `{"grant_types_supported":["authorization_code"],"token_endpoint":"https://as/token","capabilities":[],"code_challenge_methods_supported":["S256"],"own":1}`
	w := start(t, env{"SMART_CONFIGURATION": "serve", "SMART_CONFIGURATION_FILE": writeFile(t, "smart.json", document+"\n")})
	if a := w.ask(t, "GET "+smartConfigPath); a.status != 200 || a.body != document {
		t.Errorf("got %d %s, want the file", a.status, a.body)
	}
	e := leastEnv(t)
	e["SMART_CONFIGURATION"], e["SMART_CONFIGURATION_FILE"] = "serve", writeFile(t, "smart.json", `{"token_endpoint":"https://as/token"}`)
	if code, _, stderr := runToEnd(t, e, nil); code != 2 || !strings.Contains(stderr, "SIDECAR_SMART_CONFIGURATION_FILE: lacks") {
		t.Errorf("got %d %s, want a fault of the file", code, stderr)
	}
}
