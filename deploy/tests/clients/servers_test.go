package clients

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// authority is an authorization server for SMART launches, without a user to ask.
type authority struct {
	*httptest.Server
	introspection *introspectiontest.Server

	mu        sync.Mutex
	challenge map[string]string // code to PKCE challenge
	broken    bool              // introspection answers 500
}

// The tokens: what the authorization server issues, and one that may nearly nothing.
const (
	token  = "good"
	narrow = "narrow"
)

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{introspection: introspectiontest.New(introspectiontest.Config{}), challenge: map[string]string{}}
	a.Server = httptest.NewServer(a)
	closeWith(t, a.Server)
	for name, scope := range map[string]string{token: "openid fhirUser launch/patient patient/*.cruds user/*.cruds", narrow: "patient/Observation.rs"} {
		claims := a.introspection.Claims()
		claims["scope"], claims["patient"] = scope, "1"
		a.introspection.AddToken(name, claims)
	}
	return a
}

// closeWith ends a server with the test, and what a browser has opened in advance.
func closeWith(t *testing.T, server *httptest.Server) {
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	switch r.URL.Path {
	case "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server":
		writeJSON(w, 200, map[string]any{
			"issuer": a.URL, "authorization_endpoint": a.URL + "/authorize", "token_endpoint": a.URL + "/token",
			"introspection_endpoint": a.URL + introspectiontest.IntrospectionPath, "code_challenge_methods_supported": []string{"S256"},
			"grant_types_supported": []string{"authorization_code"}, "response_types_supported": []string{"code"},
			"token_endpoint_auth_methods_supported": []string{"none"},
		})
	case "/authorize":
		q := r.URL.Query()
		code := fmt.Sprintf("code-%x", sha256.Sum256([]byte(q.Get("state"))))
		a.mu.Lock()
		a.challenge[code] = q.Get("code_challenge")
		a.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	case "/token":
		verifier := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		a.mu.Lock()
		known := a.challenge[r.PostFormValue("code")] == base64.RawURLEncoding.EncodeToString(verifier[:])
		a.mu.Unlock()
		if !known {
			writeJSON(w, 400, map[string]any{"error": "invalid_grant"})
			return
		}
		writeJSON(w, 200, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600, "patient": "1", "scope": "launch/patient patient/*.cruds"})
	default:
		a.mu.Lock()
		broken := a.broken
		a.mu.Unlock()
		if broken {
			writeJSON(w, 500, map[string]any{})
			return
		}
		a.introspection.ServeHTTP(w, r)
	}
}

func (a *authority) fail() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = true
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// fhirServer answers what these tests ask, with CORS headers that allow nothing.
type fhirServer struct {
	*httptest.Server

	mu       sync.Mutex
	smart    string // its own SMART configuration, if any
	silent   bool   // metadata gets no response
	requests []string
	cookies  int
}

func newFHIRServer(t *testing.T) *fhirServer {
	t.Helper()
	f := &fhirServer{}
	f.Server = httptest.NewServer(f)
	closeWith(t, f.Server)
	return f
}

func (f *fhirServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	smart, silent := f.smart, f.silent
	if !strings.Contains(r.URL.Path, "/.well-known/") && r.URL.Path != "/fhir/metadata" { // which the sidecar asks for itself
		f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
		if r.Header.Get("Cookie") != "" {
			f.cookies++
		}
	}
	f.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	h := w.Header()
	h.Set("Content-Type", "application/fhir+json")
	h.Set("Access-Control-Allow-Origin", "https://nobody.example.org")
	h.Set("ETag", `W/"3"`)
	h.Set("Last-Modified", "Mon, 30 Nov 2026 12:00:00 GMT")
	h.Set("Set-Cookie", "session=1; Path=/")
	patient := map[string]any{"resourceType": "Patient", "id": "1", "meta": map[string]any{"versionId": "3"}}
	path := strings.TrimPrefix(r.URL.Path, "/fhir/")
	switch {
	case path == ".well-known/smart-configuration" && smart != "":
		_, _ = io.WriteString(w, smart)
	case path == "metadata" && silent:
		<-r.Context().Done()
	case path == "metadata":
		writeFHIR(w, 200, map[string]any{"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
	case r.Method == http.MethodPost && path == "Patient":
		h.Set("Location", "http://"+r.Host+"/fhir/Patient/1/_history/1")
		writeFHIR(w, 201, patient)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case path == "Patient" && r.Method == http.MethodGet:
		bundle := map[string]any{"resourceType": "Bundle", "type": "searchset", "entry": []any{map[string]any{"resource": patient}}}
		if r.URL.Query().Get("page") == "" {
			bundle["link"] = []any{map[string]any{"relation": "next", "url": "http://" + r.Host + "/fhir/Patient?page=2"}}
		}
		writeFHIR(w, 200, bundle)
	case path == "Patient/1" || path == "Patient/1/_history/3":
		writeFHIR(w, 200, patient)
	case path == "":
		writeFHIR(w, 200, map[string]any{"resourceType": "Bundle", "type": "batch-response"})
	default:
		writeFHIR(w, 404, map[string]any{"resourceType": "OperationOutcome"})
	}
}

func writeFHIR(w http.ResponseWriter, status int, value any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// asked returns what was asked, without what the sidecar wants to know itself.
func (f *fhirServer) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

// newApp serves pages of an origin of their own: a blank one, and a SMART app that is
// launched at /launch?iss=.
func newApp(t *testing.T) (origin string) {
	t.Helper()
	const script = `<!doctype html><script src="/fhir-client.js"></script><script>`
	pages := map[string]string{
		"/": "<!doctype html>",
		"/launch": script + `FHIR.oauth2.authorize({clientId: "app", scope: "launch/patient patient/*.rs", redirectUri: "/ready"})
			.catch((error) => { globalThis.result = {error: String(error)}; })</script>`,
		"/ready": script + `FHIR.oauth2.ready().then(async (client) => {
			globalThis.result = {patient: client.patient.id, read: (await client.patient.read()).id, pages: (await client.request("Patient", {pageLimit: 0, flat: true})).length};
			}).catch((error) => { globalThis.result = {error: String(error)}; })</script>`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fhir-client.js" {
			http.ServeFile(w, r, filepath.Join(os.Getenv("CLIENTS"), "node_modules/fhirclient/build/fhir-client.js"))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, pages[r.URL.Path])
	}))
	closeWith(t, server)
	return server.URL
}
