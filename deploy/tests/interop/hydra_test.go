package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hydra is a running Ory Hydra, whose store is in memory.
type hydra struct {
	t             *testing.T
	public, admin string
}

func startHydra(t *testing.T) *hydra {
	t.Helper()
	public, admin := freePort(t), freePort(t)
	h := &hydra{t: t, public: "http://127.0.0.1:" + public, admin: "http://127.0.0.1:" + admin}
	config := writeFile(t, "hydra.yml", fmt.Sprintf(`
serve: {public: {host: 127.0.0.1, port: %s}, admin: {host: 127.0.0.1, port: %s}}
urls: {self: {issuer: %q}, login: "http://127.0.0.1:1/login", consent: "http://127.0.0.1:1/consent"}
secrets: {system: [a-secret-for-tests-only]}
log: {level: warn}
`, public, admin, h.public))
	cmd := exec.Command(tool(t, "HYDRA"), "serve", "all", "--dev", "-c", config)
	cmd.Env = []string{"DSN=memory", "SQA_OPT_OUT=true", "PATH=/usr/bin:/bin", "HOME=" + t.TempDir()}
	p := start(t, "Hydra", cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.log.tail())
		}
	})
	p.await(t, h.admin+"/health/ready")
	// It would make some when it issues the first token, of 4096 bits, and lose the code
	// for that token when it takes too long.
	for _, set := range []string{"hydra.openid.id-token", "hydra.jwt.access-token"} {
		h.call(http.MethodPut, h.admin+"/admin/keys/"+set, object{"keys": []object{rsaJWK(t, set)}})
	}
	return h
}

// call sends JSON to a URL, and returns the JSON that comes.
func (h *hydra) call(method, target string, body any) (answer object) {
	h.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	res := send(h.t, request(h.t, method, target, string(encoded), "Content-Type", "application/json"))
	if res.status > 299 {
		h.t.Fatalf("%s %s: got status %d, want 2xx\n%s", method, target, res.status, res.body)
	}
	_ = json.Unmarshal([]byte(res.body), &answer)
	return answer
}

// register makes a client whose access tokens are opaque or JWTs.
func (h *hydra) register(id, strategy string) {
	h.t.Helper()
	h.call(http.MethodPost, h.admin+"/admin/clients", object{
		"client_id": id, "client_secret": id + "-secret", "access_token_strategy": strategy,
		"grant_types": []string{"client_credentials", "authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"redirect_uris": []string{"http://127.0.0.1:1/cb"}, "scope": "openid offline patient/*.rs", "audience": []string{fhirAudience},
		"token_endpoint_auth_method": "client_secret_basic",
	})
}

// fhirAudience is what the guide calls the FHIR server.
const fhirAudience = "https://fhir.example.org/fhir"

// login goes through the code flow in the place of a browser and of the consent app,
// which accepts with what the guide shows.
func (h *hydra) login(id string, consent object) tokens {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	browser := *client
	browser.Jar = jar
	visit := func(target string) *url.URL {
		res := sendBy(h.t, &browser, request(h.t, http.MethodGet, target, ""))
		location, err := url.Parse(res.header.Get("Location"))
		if err != nil || res.status/100 != 3 {
			h.t.Fatalf("GET %s: got status %d, want a redirect\n%s", target, res.status, res.body)
		}
		return location
	}
	accept := func(what string, at *url.URL, body object) string {
		target := fmt.Sprintf("%s/admin/oauth2/auth/requests/%s/accept?%s_challenge=%s", h.admin, what, what, url.QueryEscape(at.Query().Get(what+"_challenge")))
		to, _ := h.call(http.MethodPut, target, body)["redirect_to"].(string)
		return to
	}
	query := url.Values{
		"client_id": {id}, "response_type": {"code"}, "scope": {"openid offline patient/*.rs"}, "state": {"a-long-enough-state"},
		"redirect_uri": {"http://127.0.0.1:1/cb"}, "audience": {fhirAudience},
	}
	at := visit(h.public + "/oauth2/auth?" + query.Encode())
	at = visit(accept("login", at, object{"subject": "berta"}))
	at = visit(accept("consent", at, consent))
	form := url.Values{"grant_type": {"authorization_code"}, "code": {at.Query().Get("code")}, "redirect_uri": {"http://127.0.0.1:1/cb"}}
	body := postForm(h.t, h.public+"/oauth2/token", form, id, id+"-secret")
	text := func(name string) string { value, _ := body[name].(string); return value }
	return tokens{text("access_token"), text("refresh_token"), text("id_token")}
}

// guide carries out the guide, and returns what it has the consent app accept with.
func (h *hydra) guide() (consent object) {
	h.t.Helper()
	folder, token, data := h.t.TempDir(), writeFile(h.t, "token", "ignored"), "127.0.0.1:"+freePort(h.t)
	if err := os.Symlink(tool(h.t, "HYDRA"), filepath.Join(folder, "hydra")); err != nil {
		h.t.Fatal(err)
	}
	g := guide{
		t: h.t, name: "hydra.md",
		substitutes: []string{
			"https://hydra-admin.auth.svc:4445", h.admin, "https://hydra.example.org", h.public,
			">introspection-token", ">" + token, "/run/secrets/introspection-token", token,
			"http://127.0.0.1:8080/fhir", echo(h.t), "http://127.0.0.1:8000", "http://" + data,
		},
		environment: []string{"PATH=" + folder + ":" + os.Getenv("PATH"), "HOME=" + folder},
		sets:        func(settings env) { startSidecar(h.t, settings.with(env{"LISTEN_ADDRESS": data})) },
		json: func(text string) {
			if err := json.Unmarshal([]byte(text), &consent); err != nil {
				h.t.Fatal(err)
			}
		},
	}
	g.run()
	return consent
}

// TestHydra asks Ory Hydra on its admin port, about opaque tokens and about JWTs.
func TestHydra(t *testing.T) {
	h := startHydra(t)
	settings := env{
		"UPSTREAM_URL": echo(t), "INTROSPECTION_ENDPOINT": h.admin + "/admin/oauth2/introspect", "INTROSPECTION_AUTH": "none",
		"REQUIRED_AUDIENCES": fhirAudience, "REQUIRED_ISSUERS": h.public, "CACHE_INACTIVE_AGE": "0", "CACHE_MAX_AGE": soon.String(),
	}
	consent := h.guide()
	for _, strategy := range []string{"opaque", "jwt"} {
		t.Run(strategy, func(t *testing.T) {
			h := &hydra{t: t, public: h.public, admin: h.admin}
			h.register("app-"+strategy, strategy)
			all := h.login("app-"+strategy, consent)
			if got := strings.Count(all.access, "."); (got == 2) != (strategy == "jwt") {
				t.Fatalf("dots in the access token: got %d", got)
			}
			a := authority{t: t, name: "Hydra 2.3, " + strategy, endpoint: settings["INTROSPECTION_ENDPOINT"]}
			a.look(all.access, all.refresh, all.id)
			s := startSidecar(t, settings)
			s.wantContext("a good token", all.access, map[string]string{
				"X-Launch-Patient": "123", "X-Launch-User": "Practitioner/456", "X-Launch-Subject": "berta", "X-Launch-Scope": "openid offline patient/*.rs",
			})
			s.wantStatus("junk", "junk", http.StatusUnauthorized)
			s.wantStatus("a refresh token", all.refresh, http.StatusUnauthorized)
			s.wantStatus("an ID token", all.id, http.StatusUnauthorized)
			other, _ := postForm(t, h.public+"/oauth2/token", url.Values{"grant_type": {"client_credentials"}}, "app-"+strategy, "app-"+strategy+"-secret")["access_token"].(string)
			s.wantStatus("a token without the audience", other, http.StatusUnauthorized)
			if output, code := check(t, s.settings, "-token-file", writeFile(t, "token", all.access)); code != 0 {
				t.Errorf("check: got exit %d, want 0\n%s", code, output)
			}
			postForm(t, h.public+"/oauth2/revoke", url.Values{"token": {all.access}}, "app-"+strategy, "app-"+strategy+"-secret")
			eventually(t, "the revoked token to die", func() bool { return s.get(all.access).status == http.StatusUnauthorized })
		})
	}
}
