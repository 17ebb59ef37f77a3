package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// H: the bearer file is replaced in each of the ways in which files are
// replaced, and no request fails for it.
func TestBlackboxBearerFileRotation(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"rename", "in place", "symlink swap"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "token")
			write := func(name, content string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			swap := func(version string) { // as Kubernetes does
				_ = os.Mkdir(filepath.Join(dir, "..v"+version), 0o700)
				write("..v"+version+"/token", version+"\n")
				_ = os.Symlink("..v"+version, filepath.Join(dir, "..data_tmp"))
				if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
					t.Fatal(err)
				}
			}
			as := introspectiontest.NewServerWith(t, introspectiontest.Config{Bearer: "one"})
			if how == "symlink swap" {
				swap("one")
				_ = os.Symlink("..data/token", path)
			} else {
				write("token", "one\n")
			}
			w := startWith(t, as, env{"BEARER_TOKEN_FILE": path, "CACHE_INACTIVE_AGE": "0"})
			w.ask(t, "GET /fhir/Patient", bearer("x1")).refused(t, 401, "login", "invalid_token")
			switch how {
			case "rename":
				write("new", "two")
				if err := os.Rename(filepath.Join(dir, "new"), path); err != nil {
					t.Fatal(err)
				}
			case "in place":
				write("token", "two")
			default:
				swap("two")
			}
			as.AcceptBearers("two")
			// The refusal of the old one makes the new one be read at once.
			for i := range 5 {
				w.ask(t, "GET /fhir/Patient", bearer(fmt.Sprint("y", i))).refused(t, 401, "login", "invalid_token")
			}
			if n := w.metric(t, rejected, `result="credential_rejected"`); n > 1 {
				t.Errorf("%v refusals of the own credential", n)
			}
			if w.metric(t, "introspection_sidecar_credential_renewals_total", `result="ok"`) != 1 {
				t.Error("the renewal was not counted")
			}
		})
	}
}

// A bearer file that becomes useless doesn't take the old token away.
func TestBlackboxBearerFileBroken(t *testing.T) {
	t.Parallel()
	w := start(t, env{"CACHE_INACTIVE_AGE": "0"})
	for i, content := range []string{"", "two words", "two\nlines", "nul\x00", "\xff\xfe"} {
		if err := os.WriteFile(w.file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		written := time.Now().Add(-time.Duration(i+1) * time.Minute) // long enough ago to be whole
		if err := os.Chtimes(w.file, written, written); err != nil {
			t.Fatal(err)
		}
		w.ask(t, "GET /fhir/Patient", bearer("x")).refused(t, 401, "login", "invalid_token")
	}
	_ = os.Remove(w.file)
	w.ask(t, "GET /fhir/Patient", bearer("x")).refused(t, 401, "login", "invalid_token")
	if log := w.stdout.String(); strings.Contains(log, "two") {
		t.Error("the file's content stands in the log")
	}
	const msg = "replaced file can't be used, keeping the last good one"
	eventually(t, "the log tells of it", func() bool { return len(w.logs(msg)) > 0 })
	for _, line := range w.logs(msg) {
		if line["setting"] != "SIDECAR_BEARER_TOKEN_FILE" || line["field"] != nil {
			t.Errorf("%v doesn't name the setting", line)
		}
	}
}

// H04, H14: our own credential is refused: 503, readiness red, and recovery.
func TestBlackboxCredentialRefused(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.as.AcceptBearers()
	before := w.as.Introspections()
	w.ask(t, "GET /fhir/Patient", bearer("other")).refused(t, 503, "transient", "")
	if n := w.as.Introspections() - before; n > 2 {
		t.Errorf("%d calls with a refused credential", n)
	}
	ready := w.get(t, "/readyz")
	if ready.status != 503 || !json.Valid([]byte(ready.body)) {
		t.Errorf("readyz %d %s", ready.status, ready.body)
	}
	if w.get(t, "/livez").status != 200 {
		t.Error("livez depends on the credential")
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200) // from the cache
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="credential_rejected"`, `code="5xx"`); n != 1 {
		t.Errorf("%v counted", n)
	}
	found := false
	for _, line := range w.logs("request") {
		found = found || line["decision"] == "credential_rejected" && line["level"] == "ERROR"
	}
	if !found {
		t.Error("no error in the log")
	}
	w.as.AcceptBearers(introspectiontest.DefaultBearer)
	eventually(t, "readiness comes back without any request", func() bool { return w.get(t, "/readyz").status == 200 })
	w.ask(t, "GET /fhir/Patient", bearer("other")).refused(t, 401, "login", "invalid_token")
}

// H05: a storm of refusals is one renewal.
func TestBlackboxCredentialStorm(t *testing.T) {
	t.Parallel()
	as := introspectiontest.NewServer(t)
	w := startWith(t, as, env{
		"BEARER_TOKEN_FILE": "", "TOKEN_ENDPOINT": as.TokenEndpoint(), "CLIENT_ID": introspectiontest.DefaultClientID, "TOKEN_SCOPE": "a b",
		"CLIENT_SECRET_FILE": writeFile(t, "s", introspectiontest.DefaultClientSecret), "MAX_INTROSPECTIONS": "200", "INTROSPECTION_TIMEOUT": "10s",
	})
	eventually(t, "ready", func() bool { return w.get(t, "/readyz").status == 200 })
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if n := as.Grants(); n != 1 {
		t.Errorf("%d token requests", n)
	}
	for _, r := range as.Requests() {
		if strings.HasSuffix(r.URI, "/token") && (!strings.Contains(r.Body, "scope=a+b") || !strings.HasPrefix(r.Header.Get("Authorization"), "Basic ")) {
			t.Errorf("token request %q %v", r.Body, r.Header)
		}
	}
	time.Sleep(time.Second) // two token requests are a second apart, whatever happens
	as.AcceptBearers()
	wait := w.crowd(t, 100, func(i int, c *conn) {
		token := fmt.Sprint("storm", i)
		as.AddToken(token, nil)
		if a, err := c.do(request("GET /fhir/Patient", bearer(token))); err != nil || a.status != 200 {
			t.Errorf("%v %v", err, a)
		}
	})
	wait()
	if n := as.Grants(); n != 2 {
		t.Errorf("%d token requests", n)
	}
	if w.metric(t, "introspection_sidecar_credential_expiry_timestamp_seconds") < float64(time.Now().Unix()) {
		t.Error("no expiry in the metrics")
	}
}

// H06, H08: a token endpoint that is away at start turns readiness red, isn't
// stormed, and is asked again.
func TestBlackboxTokenEndpointAway(t *testing.T) {
	t.Parallel()
	as := introspectiontest.NewServer(t)
	as.SetGrantAnswer(introspectiontest.Respond(400, http.Header{"Content-Type": {"application/json"}}, `{"error":"invalid_client","error_description":"CANARY"}`))
	w := startWith(t, as, env{
		"BEARER_TOKEN_FILE": "", "TOKEN_ENDPOINT": as.TokenEndpoint(), "CLIENT_ID": introspectiontest.DefaultClientID,
		"CLIENT_SECRET_FILE": writeFile(t, "s", introspectiontest.DefaultClientSecret),
	})
	began := time.Now()
	for range 20 {
		w.ask(t, "GET /fhir/Patient", good).refused(t, 503, "transient", "")
	}
	if w.get(t, "/readyz").status != 503 || w.get(t, "/livez").status != 200 {
		t.Error("readiness or liveness is wrong")
	}
	if n := as.Grants(); n > 2+int(time.Since(began)/time.Second) {
		t.Errorf("%d token requests in %v", n, time.Since(began))
	}
	if strings.Contains(w.stdout.String()+w.get(t, "/readyz").body, "CANARY") {
		t.Error("the endpoint's words are repeated")
	}
	as.SetGrantAnswer(nil)
	eventually(t, "ready", func() bool { return w.get(t, "/readyz").status == 200 })
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if as.Introspections() != 1 {
		t.Errorf("%d introspections", as.Introspections())
	}
}

func TestBlackboxSecretModes(t *testing.T) {
	t.Parallel()
	const id = "client:1"
	for _, mode := range []string{"client_secret_basic", "client_secret_post"} {
		as := introspectiontest.NewServerWith(t, introspectiontest.Config{Auth: introspectiontest.Auth(mode), ClientID: id, ClientSecret: "s%cr&t=+/~"})
		w := startWith(t, as, env{
			"BEARER_TOKEN_FILE": "", "INTROSPECTION_AUTH": mode, "CLIENT_ID": id, "CLIENT_SECRET_FILE": writeFile(t, "s", "s%cr&t=+/~\n"),
		})
		if mode == "client_secret_post" {
			// The contract has a body with only the token; this mode needs its two more.
			w.ask(t, "GET /fhir/Patient", good).is(t, 200)
			form, _ := url.ParseQuery(as.Requests()[0].Body)
			if len(form) != 3 || form.Get("client_secret") != "s%cr&t=+/~" || as.Requests()[0].Header["Authorization"] != nil {
				t.Errorf("form %v", form)
			}
			continue
		}
		w.ask(t, "GET /fhir/Patient", good).is(t, 200)
		if got := as.Requests()[0].Body; got != "token=good" {
			t.Errorf("form %q", got)
		}
	}
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Auth: introspectiontest.NoAuth})
	w := startWith(t, as, env{"BEARER_TOKEN_FILE": "", "INTROSPECTION_AUTH": "none"})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if as.Requests()[0].Header["Authorization"] != nil {
		t.Error("a credential where none was wanted")
	}
}

// H09: assertions are signed as configured, fresh each time, short-lived, and
// follow the key file.
func TestBlackboxClientAssertion(t *testing.T) {
	t.Parallel()
	first, second := rsaKey(t), ecKey(t)
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Auth: introspectiontest.ClientAssertion})
	key := writeFile(t, "key.pem", first.pem)
	w := startWith(t, as, env{
		"BEARER_TOKEN_FILE": "", "INTROSPECTION_AUTH": "client_assertion", "CLIENT_ID": introspectiontest.DefaultClientID,
		"CLIENT_KEY_FILE": key, "CLIENT_KEY_ID": "", "CACHE_INACTIVE_AGE": "0",
	})
	seen := map[string]bool{}
	check := func(verify func(signed, signature []byte) bool, alg string) {
		t.Helper()
		requests := as.Requests()
		form, _ := url.ParseQuery(requests[len(requests)-1].Body)
		if len(form) != 3 || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
			t.Fatalf("form %v", form)
		}
		parts := strings.Split(form.Get("client_assertion"), ".")
		if len(parts) != 3 {
			t.Fatal("no JWT")
		}
		var head struct{ Alg, Kid, Typ string }
		var claims struct {
			Iss, Sub, Jti string
			Aud           any
			Exp, Iat      float64
		}
		decode := func(s string, v any) []byte {
			b, err := base64.RawURLEncoding.DecodeString(s)
			if err != nil || v != nil && json.Unmarshal(b, v) != nil {
				t.Fatalf("%q: %v", s, err)
			}
			return b
		}
		decode(parts[0], &head)
		decode(parts[1], &claims)
		if !verify([]byte(parts[0]+"."+parts[1]), decode(parts[2], nil)) {
			t.Error("the signature doesn't verify")
		}
		left := claims.Exp - float64(time.Now().Unix())
		if head.Alg != alg || head.Kid == "" || claims.Iss != introspectiontest.DefaultClientID || claims.Sub != claims.Iss ||
			fmt.Sprint(claims.Aud) != as.Endpoint() && fmt.Sprint(claims.Aud) != "["+as.Endpoint()+"]" || left <= 0 || left > 300 || seen[claims.Jti] || claims.Jti == "" {
			t.Errorf("assertion %+v %+v", head, claims)
		}
		seen[claims.Jti] = true
	}
	for i := range 3 {
		w.ask(t, "GET /fhir/Patient", bearer(fmt.Sprint("a", i))).refused(t, 401, "login", "invalid_token")
		check(first.verify, "RS384")
	}
	tmp := key + ".new"
	if err := os.WriteFile(tmp, []byte(second.pem), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute) // settled long ago
	_ = os.Chtimes(tmp, old, old)
	if err := os.Rename(tmp, key); err != nil {
		t.Fatal(err)
	}
	w.ask(t, "GET /fhir/Patient", bearer("b")).refused(t, 401, "login", "invalid_token")
	check(second.verify, "ES384")
}

// The client credentials grant with a key: SMART Backend Services.
func TestBlackboxPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	as := introspectiontest.NewServer(t)
	w := startWith(t, as, env{
		"BEARER_TOKEN_FILE": "", "TOKEN_ENDPOINT": as.TokenEndpoint(), "CLIENT_ID": introspectiontest.DefaultClientID,
		"CLIENT_KEY_FILE": writeFile(t, "k", key.pem), "CLIENT_KEY_ID": "kid-1",
	})
	eventually(t, "ready", func() bool { return w.get(t, "/readyz").status == 200 })
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	for _, r := range as.Requests() {
		form, _ := url.ParseQuery(r.Body)
		switch {
		case strings.HasSuffix(r.URI, "/token") && (form.Get("grant_type") != "client_credentials" || form.Get("client_assertion") == "" || form.Has("client_secret") || r.Header["Authorization"] != nil):
			t.Errorf("token request %v", form)
		case strings.HasSuffix(r.URI, "/introspect") && (len(form) != 1 || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")):
			t.Errorf("introspection %v", form)
		}
	}
}

// Section 7: the public key can be registered by URL.
func TestBlackboxJWKS(t *testing.T) {
	t.Parallel()
	w := start(t, env{
		"BEARER_TOKEN_FILE": "", "INTROSPECTION_AUTH": "client_assertion", "CLIENT_ID": "c",
		"CLIENT_KEY_FILE": writeFile(t, "k", ecKey(t).pem), "CLIENT_KEY_ID": "kid-1",
	})
	a := w.get(t, "/jwks.json")
	a.is(t, 200)
	if !strings.Contains(a.body, `"kid-1"`) || strings.Contains(a.body, `"d"`) {
		t.Errorf("jwks %s", a.body)
	}
}
