package interop

import (
	"crypto/elliptic"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOIDCProvider asks node's oidc-provider: opaque tokens can be introspected, JWTs not.
func TestOIDCProvider(t *testing.T) {
	admin, key := "127.0.0.1:"+freePort(t), ecKey(t, elliptic.P384())
	port := freePort(t)
	base := "http://127.0.0.1:" + port
	settings := env{
		"UPSTREAM_URL": echo(t), "ISSUER_URL": base, "CLIENT_ID": "sidecar", "INTROSPECTION_AUTH": "client_secret_basic",
		"CLIENT_SECRET_FILE": writeFile(t, "secret", "sidecar-secret"), "REQUIRED_TOKEN_TYPES": "Bearer", "CACHE_INACTIVE_AGE": "0",
	}
	byKey := settings.with(env{
		"INTROSPECTION_AUTH": "client_assertion", "CLIENT_ID": "sidecar-key", "CLIENT_SECRET_FILE": "-",
		"CLIENT_KEY_FILE": key, "CLIENT_KEY_ID": "es384-1", "ADMIN_ADDRESS": admin,
	})
	assertion := startSidecar(t, byKey)
	cmd := exec.Command("node", "oidc-provider.mjs")
	cmd.Dir = nodeFolder(t)
	cmd.Env = append(os.Environ(), "PORT="+port, "JWKS="+send(t, request(t, http.MethodGet, "http://"+admin+"/jwks.json", "")).body)
	start(t, "oidc-provider", cmd).await(t, base+"/.well-known/openid-configuration")

	(&guide{t: t, name: "README.md", substitutes: []string{"https://as.example.org", base}}).run()
	login := postForm(t, base+"/login", nil, "", "")
	text := func(name string) string { value, _ := login[name].(string); return value }
	a := authority{t: t, name: "oidc-provider 9.13", endpoint: base + "/token/introspection", authorize: func(r *http.Request) { r.SetBasicAuth("sidecar", "sidecar-secret") }}
	a.look(text("access_token"), text("refresh_token"), text("id_token"))

	s := startSidecar(t, settings)
	eventually(t, "readiness", s.ready)
	s.wantContext("an opaque token", text("access_token"), map[string]string{
		"X-Launch-Patient": "123", "X-Launch-User": "Practitioner/456", "X-Launch-Tenant": "Caf%C3%A9", "X-Launch-Fhir-Context": `[{"reference":"Task/7"}]`,
	})
	s.wantStatus("junk", "junk", http.StatusUnauthorized)
	s.wantStatus("a refresh token, which it calls active", text("refresh_token"), http.StatusUnauthorized)
	jwt, _ := postForm(t, base+"/token", url.Values{"grant_type": {"client_credentials"}, "resource": {"urn:fhir:jwt"}}, "app", "app-secret")["access_token"].(string)
	s.wantStatus("a JWT, which it doesn't introspect", jwt, http.StatusServiceUnavailable)

	eventually(t, "readiness", assertion.ready)
	assertion.wantStatus("a good token, asked about by assertion", text("access_token"), http.StatusOK)
	post := startSidecar(t, settings.with(env{"INTROSPECTION_AUTH": "client_secret_post", "CLIENT_ID": "sidecar-post", "CLIENT_SECRET_FILE": writeFile(t, "secret", "sidecar-post-secret")}))
	eventually(t, "readiness", post.ready)
	post.wantStatus("a good token, asked about by secret in the form", text("access_token"), http.StatusOK)
	s = startSidecar(t, settings.with(env{"CACHE_MAX_AGE": "500ms"}))
	eventually(t, "readiness", s.ready)
	s.wantStatus("before the revocation", text("access_token"), http.StatusOK)
	postForm(t, base+"/token/revocation", url.Values{"token": {text("access_token")}}, "app", "app-secret")
	eventually(t, "the revoked token to die", func() bool { return s.get(text("access_token")).status == http.StatusUnauthorized })
}

// TestDjangoOAuthToolkit asks django-oauth-toolkit by a bearer of the sidecar's own.
func TestDjangoOAuthToolkit(t *testing.T) {
	port := freePort(t)
	base := "http://127.0.0.1:" + port
	script, err := filepath.Abs("python/authority.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", script)
	cmd.Env = append(os.Environ(), "PORT="+port, "PYTHONPATH="+tool(t, "PYTHON"))
	start(t, "django-oauth-toolkit", cmd).await(t, base+"/")

	login := postForm(t, base+"/login", nil, "", "")
	access, _ := login["access_token"].(string)
	refresh, _ := login["refresh_token"].(string)
	own, _ := postForm(t, base+"/o/token/", url.Values{"grant_type": {"client_credentials"}, "scope": {"introspection"}}, "sidecar", "sidecar-secret")["access_token"].(string)
	a := authority{t: t, name: "django-oauth-toolkit 3.4", endpoint: base + "/o/introspect/", authorize: func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+own) }}
	a.look(access, refresh, "")

	settings := env{"UPSTREAM_URL": echo(t), "INTROSPECTION_ENDPOINT": a.endpoint, "CACHE_INACTIVE_AGE": "0"}
	grant := env{"TOKEN_ENDPOINT": base + "/o/token/", "TOKEN_SCOPE": "introspection", "CLIENT_ID": "sidecar", "CLIENT_SECRET_FILE": writeFile(t, "secret", "sidecar-secret")}
	for name, own := range map[string]env{
		"grant":  grant,
		"file":   {"BEARER_TOKEN_FILE": writeFile(t, "own", own)},
		"secret": grant.with(env{"INTROSPECTION_AUTH": "client_secret_basic", "TOKEN_ENDPOINT": "-", "TOKEN_SCOPE": "-"}),
	} {
		t.Run(name, func(t *testing.T) {
			s := startSidecar(t, settings.with(own))
			eventually(t, "readiness", s.ready)
			s.wantContext("a good token", access, map[string]string{"X-Launch-Scope": "user/*.rs", "X-Launch-Client-Id": "app", "X-Launch-Patient": ""})
			s.wantStatus("junk", "junk", http.StatusUnauthorized)
			s.wantStatus("a refresh token", refresh, http.StatusUnauthorized)
			if output, code := check(t, s.settings, "-token-file", writeFile(t, "token", access)); code != 0 {
				t.Errorf("check: got exit %d, want 0\n%s", code, output)
			}
		})
	}
	output, code := check(t, settings.with(env{"BEARER_TOKEN_FILE": writeFile(t, "own", "nobody")}))
	if code != 1 || !strings.Contains(output, "SIDECAR_") {
		t.Errorf("check with a bearer that nobody knows: got exit %d, want 1 and advice\n%s", code, output)
	}
}

// postForm posts a form, as a client if id isn't empty, and returns the JSON that comes.
func postForm(t *testing.T, target string, form url.Values, id, secret string) (body object) {
	t.Helper()
	req := request(t, http.MethodPost, target, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		req.SetBasicAuth(id, secret)
	}
	res := send(t, req)
	if res.status > 299 {
		t.Fatalf("POST %s: got status %d, want 2xx\n%s", target, res.status, res.body)
	}
	_ = json.Unmarshal([]byte(res.body), &body)
	return body
}

// nodeFolder has this suite's programs for node beside the packages that they import.
func nodeFolder(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.Symlink(filepath.Join(tool(t, "NODE"), "node_modules"), filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}
	programs, err := filepath.Glob("node/*.mjs")
	if err != nil || len(programs) == 0 {
		t.Fatalf("got %d programs (%v), want some", len(programs), err)
	}
	for _, program := range programs {
		content, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(program)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// soon is how long a verdict may be believed after a revocation in these tests.
const soon = 500 * time.Millisecond
