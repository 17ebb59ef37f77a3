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
					t.Fatalf("os.WriteFile: got error %v, want none", err)
				}
			}
			swap := func(version string) { // as Kubernetes does
				_ = os.Mkdir(filepath.Join(dir, "..v"+version), 0o700)
				write("..v"+version+"/token", version+"\n")
				_ = os.Symlink("..v"+version, filepath.Join(dir, "..data_tmp"))
				if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
					t.Fatalf("os.Rename: got error %v, want none", err)
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
					t.Fatalf("os.Rename: got error %v, want none", err)
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
				t.Errorf("got %v refusals of the own credential, want at most 1", n)
			}
			if w.metric(t, "introspection_sidecar_credential_renewals_total", `result="ok"`) != 1 {
				t.Error("got no renewal in the metrics, want 1")
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
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
		written := time.Now().Add(-time.Duration(i+1) * time.Minute) // long enough ago to be whole
		if err := os.Chtimes(w.file, written, written); err != nil {
			t.Fatalf("os.Chtimes: got error %v, want none", err)
		}
		w.ask(t, "GET /fhir/Patient", bearer("x")).refused(t, 401, "login", "invalid_token")
	}
	_ = os.Remove(w.file)
	w.ask(t, "GET /fhir/Patient", bearer("x")).refused(t, 401, "login", "invalid_token")
	if log := w.stdout.String(); strings.Contains(log, "two") {
		t.Errorf("got %s, want a log without the file's content", log)
	}
	const msg = "replaced file can't be used, keeping the last good one"
	eventually(t, "the log tells of it", func() bool { return len(w.logs(msg)) > 0 })
	for _, line := range w.logs(msg) {
		if line["setting"] != "SIDECAR_BEARER_TOKEN_FILE" || line["field"] != nil {
			t.Errorf("got %v, want the setting's name", line)
		}
	}
}

// H04, H14: our own credential is refused: 503, readiness red, and recovery.
func TestBlackboxCredentialRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for probes")
	}
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.as.AcceptBearers()
	before := w.as.Introspections()
	w.ask(t, "GET /fhir/Patient", bearer("other")).refused(t, 503, "transient", "")
	if n := w.as.Introspections() - before; n > 2 {
		t.Errorf("got %d calls with a refused credential, want at most 2", n)
	}
	// Not by a client's token, but by probes of its own.
	eventually(t, "readiness turns red", func() bool { return w.get(t, "/readyz").status == 503 })
	if ready := w.get(t, "/readyz"); !json.Valid([]byte(ready.body)) {
		t.Errorf("readyz %s, want JSON", ready.body)
	}
	if w.get(t, "/livez").status != 200 {
		t.Error("got a red liveness, want 200 whatever the credential")
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200) // from the cache
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="credential_rejected"`, `code="5xx"`); n != 1 {
		t.Errorf("got %v requests counted as credential_rejected, want 1", n)
	}
	found := false
	for _, line := range w.logs("request") {
		found = found || line["decision"] == "credential_rejected" && line["level"] == "ERROR"
	}
	if !found {
		t.Error("got no error in the log, want one")
	}
	w.as.AcceptBearers(introspectiontest.DefaultBearer)
	eventually(t, "readiness comes back without any request", func() bool { return w.get(t, "/readyz").status == 200 })
	w.ask(t, "GET /fhir/Patient", bearer("other")).refused(t, 401, "login", "invalid_token")
	eventually(t, "each change of readiness stands in the log", func() bool { return len(w.logs("not ready")) == 1 && len(w.logs("ready")) == 2 })
	if fails, answers := len(w.logs("introspection endpoint fails")), len(w.logs("introspection endpoint answers again")); fails != 1 || answers != 1 {
		t.Errorf("%d lines that the endpoint fails, %d that it answers again, want one each", fails, answers)
	}
}

// TestBlackboxStrangersDecideNothing: an authorization server that answers 401 to
// tokens it doesn't know refuses the sidecar's probes as well; that takes nobody out
// of service.
func TestBlackboxStrangersDecideNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for probes")
	}
	t.Parallel()
	w := start(t, nil)
	w.as.SetAnswer(func(rw http.ResponseWriter, _ *http.Request, correct map[string]any) {
		if correct["active"] == true {
			introspectiontest.WriteJSON(rw, http.StatusOK, correct)
			return
		}
		introspectiontest.WriteJSON(rw, http.StatusUnauthorized, map[string]any{"detail": "Authentication credentials were not provided."})
	})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.ask(t, "GET /fhir/Patient", bearer("junk")).refused(t, 503, "transient", "")
	w.as.AddToken("another", nil)
	eventually(t, "a probe is refused", func() bool { return w.as.Introspections() > 3 })
	w.ask(t, "GET /fhir/Patient", bearer("another")).is(t, 200)
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ready := w.get(t, "/readyz"); ready.status != 200 {
			t.Fatalf("readyz %d %s, want 200", ready.status, ready.body)
		}
	}
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
		t.Errorf("got %d token requests, want 1", n)
	}
	for _, r := range as.Requests() {
		if strings.HasSuffix(r.URI, "/token") && (!strings.Contains(r.Body, "scope=a+b") || !strings.HasPrefix(r.Header.Get("Authorization"), "Basic ")) {
			t.Errorf("got token request %q %v, want both scopes and Basic credentials", r.Body, r.Header)
		}
	}
	time.Sleep(time.Second) // two token requests are a second apart, whatever happens
	as.AcceptBearers()
	wait := w.crowd(t, 100, func(i int, c *conn) {
		token := fmt.Sprint("storm", i)
		as.AddToken(token, nil)
		if a, err := c.do(request("GET /fhir/Patient", bearer(token))); err != nil || a.status != 200 {
			t.Errorf("got %v (%v), want 200", a, err)
		}
	})
	wait()
	if n := as.Grants(); n != 2 {
		t.Errorf("got %d token requests, want 2", n)
	}
	if w.metric(t, "introspection_sidecar_credential_expiry_timestamp_seconds") < float64(time.Now().Unix()) {
		t.Error("got an expiry that has passed in the metrics, want one to come")
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
		t.Error("got another readiness or liveness, want 503 and 200")
	}
	if n := as.Grants(); n > 2+int(time.Since(began)/time.Second) {
		t.Errorf("got %d token requests in %v, want at most one a second", n, time.Since(began))
	}
	if strings.Contains(w.stdout.String()+w.get(t, "/readyz").body, "CANARY") {
		t.Error("got the endpoint's words in log or readiness, want them nowhere")
	}
	as.SetGrantAnswer(nil)
	eventually(t, "ready", func() bool { return w.get(t, "/readyz").status == 200 })
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if as.Introspections() != 1 {
		t.Errorf("got %d introspections, want 1", as.Introspections())
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
				t.Errorf("got form %v, want token, client_id and client_secret, and no Authorization", form)
			}
			continue
		}
		w.ask(t, "GET /fhir/Patient", good).is(t, 200)
		if got := as.Requests()[0].Body; got != "token=good" {
			t.Errorf("got form %q, want the token only", got)
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
			t.Fatalf("got form %v, want token, client_assertion and client_assertion_type", form)
		}
		parts := strings.Split(form.Get("client_assertion"), ".")
		if len(parts) != 3 {
			t.Fatalf("got %d parts, want the three of a JWT", len(parts))
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
				t.Fatalf("got %q (%v), want base64url", s, err)
			}
			return b
		}
		decode(parts[0], &head)
		decode(parts[1], &claims)
		if !verify([]byte(parts[0]+"."+parts[1]), decode(parts[2], nil)) {
			t.Error("got a signature of another key, want ours")
		}
		left := claims.Exp - float64(time.Now().Unix())
		if head.Alg != alg || head.Kid == "" || claims.Iss != introspectiontest.DefaultClientID || claims.Sub != claims.Iss ||
			fmt.Sprint(claims.Aud) != as.Endpoint() && fmt.Sprint(claims.Aud) != "["+as.Endpoint()+"]" || left <= 0 || left > 300 || seen[claims.Jti] || claims.Jti == "" {
			t.Errorf("got assertion %+v %+v, want the client as issuer and subject, a new jti and up to five minutes", head, claims)
		}
		seen[claims.Jti] = true
	}
	for i := range 3 {
		w.ask(t, "GET /fhir/Patient", bearer(fmt.Sprint("a", i))).refused(t, 401, "login", "invalid_token")
		check(first.verify, "RS384")
	}
	tmp := key + ".new"
	if err := os.WriteFile(tmp, []byte(second.pem), 0o600); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	old := time.Now().Add(-time.Minute) // settled long ago
	_ = os.Chtimes(tmp, old, old)
	if err := os.Rename(tmp, key); err != nil {
		t.Fatalf("os.Rename: got error %v, want none", err)
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
			t.Errorf("got token request %v, want client_credentials with an assertion and no secret", form)
		case strings.HasSuffix(r.URI, "/introspect") && (len(form) != 1 || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")):
			t.Errorf("got introspection %v, want the token only, and a bearer", form)
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
		t.Errorf("got key set %s, want kid-1 without its private half", a.body)
	}
}
