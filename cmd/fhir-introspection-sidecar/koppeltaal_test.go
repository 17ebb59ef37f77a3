package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const applicationID = "application-1"

// newKoppeltaalAS behaves as Koppeltaal's reference authorization server: it
// wants an assertion for the given audience, token or introspection, answers
// 401 in text/html, tells the truth about a token once, and publishes its key.
func newKoppeltaalAS(t *testing.T, audience string) *koppeltaalAS {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("rsa.GenerateKey: got error %v, want none", err)
	}
	a := &koppeltaalAS{key: key}
	server := httptest.NewUnstartedServer(a)
	base := "http://" + server.Listener.Addr().String()
	a.Server = introspectiontest.New(introspectiontest.Config{
		Auth: introspectiontest.ClientAssertion, ClientID: applicationID, OneShot: true,
		AssertionAudience: base + map[string]string{"token": introspectiontest.TokenPath, "introspection": introspectiontest.IntrospectionPath}[audience],
	})
	a.URL = base
	server.Start()
	t.Cleanup(func() {
		a.Close()
		server.Close()
	})
	return a
}

type koppeltaalAS struct {
	*introspectiontest.Server
	key *rsa.PrivateKey
}

func (a *koppeltaalAS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		introspectiontest.WriteJSON(w, http.StatusOK, map[string]any{
			"issuer": a.URL, "jwks_uri": a.URL + "/jwks",
			"introspection_endpoint": a.Endpoint(), "token_endpoint": a.TokenEndpoint(),
		})
	case "/jwks":
		introspectiontest.WriteJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: a.key.Public(), KeyID: "as", Algorithm: "RS512", Use: "sig"}}})
	default:
		a.Server.ServeHTTP(&htmlRefusal{ResponseWriter: w}, r)
	}
}

// htmlRefusal turns a 401 into the reference server's.
type htmlRefusal struct {
	http.ResponseWriter
	refused bool
}

func (w *htmlRefusal) WriteHeader(status int) {
	if w.refused = status == http.StatusUnauthorized; w.refused {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	}
	w.ResponseWriter.WriteHeader(status)
	if w.refused {
		_, _ = w.ResponseWriter.Write([]byte("Access Denied"))
	}
}

func (w *htmlRefusal) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

const koppeltaalScope = "system/Task.crus?resource-origin=Device/11111111-aaaa-4bbb-8ccc-000000000001,Device/22222222-aaaa-4bbb-8ccc-000000000002 system/Patient.rs"

// claims are those of a token of an application, good for five minutes.
func (a *koppeltaalAS) claims() map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": a.URL, "aud": "fhir-server", "iat": now, "nbf": now, "exp": now + 300, "nonce": rand.Text(), "jti": rand.Text(),
		"type": "access", "azp": "portaal-a", "scope": koppeltaalScope,
	}
}

// issue makes a token that the server knows.
func (a *koppeltaalAS) issue(t *testing.T) string {
	t.Helper()
	claims := a.claims()
	token := sign(t, a.key, claims)
	a.AddToken(token, claims)
	return token
}

// koppeltaalEnv is the environment that docs/koppeltaal.md recommends, with the
// addresses and files of the test, and without the store of several replicas.
func koppeltaalEnv(t *testing.T, a *koppeltaalAS, base string) env {
	t.Helper()
	_, block, _ := strings.Cut(readFile(t, filepath.Join(root, "docs", "koppeltaal.md")), "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	e := env{"BEARER_TOKEN_FILE": ""}
	for line := range strings.Lines(block) {
		setting, _, _ := strings.Cut(line, " ")
		name, value, ok := strings.Cut(strings.TrimPrefix(setting, "SIDECAR_"), "=")
		if !ok {
			t.Fatalf("got %q, want a setting", line)
		}
		if !strings.HasPrefix(name, "SHARED_CACHE_") {
			e[name] = strings.TrimSpace(value)
		}
	}
	if e["CLIENT_ASSERTION_AUDIENCE"] != "token" || e["CLIENT_ID"] != applicationID {
		t.Errorf("got settings %v on the page, want an audience of token and a client id", e)
	}
	maps.Copy(e, env{
		"UPSTREAM_URL": base, "INTROSPECTION_ENDPOINT": a.Endpoint(), "TOKEN_ENDPOINT": a.TokenEndpoint(),
		"CLIENT_KEY_FILE": writeFile(t, "key.pem", toPEM(t, a.key)),
	})
	return e
}

// startKoppeltaal runs a sidecar of one domain; further settings come in pairs.
func startKoppeltaal(t *testing.T, a *koppeltaalAS, up *upstream, path string, more ...string) *child {
	t.Helper()
	e := koppeltaalEnv(t, a, "http://"+up.address+path)
	for i := 0; i < len(more); i += 2 {
		e[more[i]] = more[i+1]
	}
	return startWith(t, a.Server, e).child
}

// introspections are the requests to the introspection endpoint, as forms.
func (a *koppeltaalAS) introspections(t *testing.T) (forms []url.Values, headers []http.Header) {
	t.Helper()
	for _, r := range a.Requests() {
		form, err := url.ParseQuery(r.Body)
		if err != nil {
			t.Fatalf("url.ParseQuery: got error %v, want none", err)
		}
		forms, headers = append(forms, form), append(headers, r.Header)
	}
	return forms, headers
}

// Hundreds of requests with a token that may be introspected once: all pass,
// unchanged, and the endpoint is asked once.
func TestKoppeltaalOneShot(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	claims := a.claims()
	token := sign(t, a.key, claims)
	a.AddToken(token, claims)
	wait := c.crowd(t, 100, func(_ int, conn *conn) {
		for range 3 {
			if got, err := conn.do(request("GET /fhir/DEFAULT/Task", bearer(token))); err != nil || got.status != 200 {
				t.Errorf("got %v (%v), want 200", got, err)
			}
		}
	})
	wait()
	if n := a.IntrospectionsOf(token); n != 1 || a.Introspections() != 1 {
		t.Errorf("got %d introspections, want 1", n)
	}
	last := up.last(t)
	last.has(t, "Authorization", "Bearer "+token)
	last.has(t, "X-Launch-Client-Id", "portaal-a")
	last.has(t, "X-Launch-Scope", koppeltaalScope)
	last.has(t, "X-Launch-Issuer", a.URL)
	last.has(t, "X-Launch-Expires", fmt.Sprint(claims["exp"]))
	for _, absent := range []string{"Subject", "Patient", "User", "Intent"} {
		last.lacks(t, "X-Launch-"+absent)
	}
	// The endpoint itself would say no by now.
	a.issue(t)
	c.ask(t, "GET /fhir/DEFAULT/Task", bearer(a.issue(t))).is(t, 200)
}

// The assertion stands in the form with the token and nothing else, is new each
// time, short-lived, and signed with the key that is published.
func TestKoppeltaalAssertion(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	kid := publishedKeys(t, c.get(t, "/jwks.json").body)[0]
	for range 3 {
		c.ask(t, "GET /fhir/DEFAULT/Task", bearer(a.issue(t))).is(t, 200)
	}
	seen := map[string]bool{}
	forms, headers := a.introspections(t)
	for i, form := range forms {
		if len(form) != 3 || headers[i]["Authorization"] != nil || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			t.Errorf("got form %v and header %v, want an assertion and no Authorization", form, headers[i])
		}
		parsed, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.RS512})
		if err != nil {
			t.Fatalf("jwt.ParseSigned: got error %v, want none", err)
		}
		var claims struct {
			jwt.Claims
			Audience string `json:"aud"`
		}
		if err := parsed.Claims(a.key.Public(), &claims); err != nil {
			t.Fatalf("parsed.Claims: got error %v, want none", err)
		}
		if life := claims.Expiry.Time().Sub(claims.IssuedAt.Time()); life <= 0 || life > 5*time.Minute {
			t.Errorf("got an assertion that lives %v, want up to five minutes", life)
		}
		if claims.Audience != a.TokenEndpoint() || claims.Issuer != applicationID || claims.Subject != applicationID || parsed.Headers[0].KeyID != kid {
			t.Errorf("claims %+v, kid %q, want %q", claims, parsed.Headers[0].KeyID, kid)
		}
		seen[claims.ID] = true
	}
	if len(forms) != 3 || len(seen) != 3 {
		t.Errorf("got %d jti in %d assertions, want 3 in 3", len(seen), len(forms))
	}
}

// The specification and the reference server disagree on the audience. The
// wrong one is our fault: 503, not 401, and check finds the right one.
func TestKoppeltaalAudience(t *testing.T) {
	t.Parallel()
	for _, wanted := range []string{"token", "introspection"} {
		for _, set := range []string{"token", "introspection"} {
			t.Run(wanted+" wanted, "+set+" set", func(t *testing.T) {
				t.Parallel()
				a, up := newKoppeltaalAS(t, wanted), newUpstream(t)
				c := startKoppeltaal(t, a, up, "/fhir/DEFAULT", "CLIENT_ASSERTION_AUDIENCE", set)
				token := a.issue(t)
				if wanted == set {
					c.ask(t, "GET /fhir/DEFAULT/Task", bearer(token)).is(t, 200)
					return
				}
				got := c.ask(t, "GET /fhir/DEFAULT/Task", bearer(token))
				got.refused(t, 503, "transient", "")
				if up.count() != 0 || a.IntrospectionsOf(token) != 0 || strings.Contains(got.body, "Denied") {
					t.Errorf("got %d requests, %d introspections and %s, want none, none and a refusal without the server's words", up.count(), a.IntrospectionsOf(token), got.body)
				}
				e := koppeltaalEnv(t, a, "http://"+up.address+"/fhir/DEFAULT")
				e["CLIENT_ASSERTION_AUDIENCE"] = set
				code, stdout, stderr := runToEnd(t, e, nil, "check")
				if code != exitFailure || !strings.Contains(stdout, "SIDECAR_CLIENT_ASSERTION_AUDIENCE") || !regexp.MustCompile(`\b`+wanted+`\b[^|\n]* accepted`).MatchString(stdout) {
					t.Errorf("check ends with %d and doesn't find %q:\n%s%s", code, wanted, stdout, stderr)
				}
			})
		}
	}
}

// Tokens that must never be introspected: launch tokens, whose introspection
// is a login, and NOOP.
func TestKoppeltaalNeverIntrospected(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	launch := a.claims()
	for _, aud := range []any{"Device/11111111-aaaa-4bbb-8ccc-000000000001", []any{"fhir-server", "Device/1"}} {
		launch["aud"] = aud
		token := sign(t, a.key, launch)
		a.AddToken(token, a.claims()) // the endpoint would call it active
		c.ask(t, "GET /fhir/DEFAULT/Task", bearer(token)).refused(t, 401, "login", "invalid_token")
	}
	a.AddToken("NOOP", a.claims())
	c.ask(t, "GET /fhir/DEFAULT/Task", bearer("NOOP")).refused(t, 401, "login", "invalid_token")
	if a.Introspections() != 0 || up.count() != 0 {
		t.Errorf("got %d introspections and %d requests, want none", a.Introspections(), up.count())
	}
	// What the endpoint calls active but isn't for the FHIR server.
	other := a.claims()
	other["aud"] = a.TokenEndpoint()
	token := sign(t, a.key, other)
	a.AddToken(token, other)
	c.ask(t, "GET /fhir/DEFAULT/Task", bearer(token)).refused(t, 401, "login", "invalid_token")
}

// A forgery with the jti of a good token doesn't use that up, with the pre-check.
func TestKoppeltaalForgery(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/DEFAULT", "JWT_PRECHECK", "true", "ISSUER_URL", a.URL)
	token := a.issue(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("rsa.GenerateKey: got error %v, want none", err)
	}
	eventually(t, "the issuer's keys are known", func() bool {
		before := a.Introspections()
		c.ask(t, "GET /fhir/DEFAULT/Task", bearer(sign(t, other, a.claims()))).is(t, 401)
		return a.Introspections() == before
	})
	before := a.Introspections()
	parts := strings.Split(token, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	var claims map[string]any
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	for _, forgery := range []string{unsigned, sign(t, other, claims)} {
		c.ask(t, "GET /fhir/DEFAULT/Task", bearer(forgery)).refused(t, 401, "login", "invalid_token")
	}
	if n := a.Introspections() - before; n != 0 {
		t.Errorf("got %d introspections of forgeries, want none", n)
	}
	c.ask(t, "GET /fhir/DEFAULT/Task", bearer(token)).is(t, 200)
}
