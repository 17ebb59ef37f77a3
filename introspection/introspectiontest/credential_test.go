package introspectiontest_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// assertion makes a client assertion, good for a minute but for the changes.
// Nobody checks its signature.
func assertion(t *testing.T, jti string, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": introspectiontest.DefaultClientID, "sub": introspectiontest.DefaultClientID,
		"aud": "https://as.example", "exp": time.Now().Add(time.Minute).Unix(), "jti": jti,
	}
	for name, value := range changes {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatalf("json.Marshal: got error %v, want none", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES384"}`)) + "." + encode(payload) + "." + encode([]byte("signature"))
}

func withAssertion(form url.Values, assertion string) url.Values {
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return form
}

func TestCredentials(t *testing.T) {
	const id, secret = introspectiontest.DefaultClientID, introspectiontest.DefaultClientSecret
	token := func() url.Values { return url.Values{"token": {"t"}} }
	posted := func(id, secret string) url.Values {
		return url.Values{"token": {"t"}, "client_id": {id}, "client_secret": {secret}}
	}
	basic := func(id, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(id, secret) }
	}
	bare := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, tt := range []struct {
		name  string
		auth  introspectiontest.Auth
		form  url.Values
		spoil func(*http.Request)
		want  int
	}{
		{"basic", introspectiontest.ClientSecretBasic, token(), basic(id, secret), 200},
		{"basic, encoded", introspectiontest.ClientSecretBasic, token(), basic("%72esource-server", secret), 200},
		{"basic, wrongly encoded", introspectiontest.ClientSecretBasic, token(), basic(id, "%zz"), 401},
		{"basic, wrong secret", introspectiontest.ClientSecretBasic, token(), basic(id, "x"), 401},
		{"basic, wrong id", introspectiontest.ClientSecretBasic, token(), basic("x", secret), 401},
		{"basic wanted, bearer given", introspectiontest.ClientSecretBasic, token(), func(*http.Request) {}, 401},
		{"post", introspectiontest.ClientSecretPost, posted(id, secret), bare, 200},
		{"post, wrong secret", introspectiontest.ClientSecretPost, posted(id, "x"), bare, 401},
		{"post, nothing", introspectiontest.ClientSecretPost, token(), bare, 401},
		{"post and bearer", introspectiontest.ClientSecretPost, posted(id, secret), func(*http.Request) {}, 400},
		{"assertion", introspectiontest.ClientAssertion, withAssertion(token(), assertion(t, "1", nil)), bare, 200},
		{
			"assertion without type", introspectiontest.ClientAssertion,
			url.Values{"token": {"t"}, "client_assertion": {assertion(t, "2", nil)}},
			bare, 401,
		},
		{"assertion wanted, nothing given", introspectiontest.ClientAssertion, token(), bare, 401},
		{"assertion and hint", introspectiontest.ClientAssertion, withAssertion(
			url.Values{"token": {"t"}, "token_type_hint": {"access_token"}}, assertion(t, "3", nil)), bare, 400},
		{"none", introspectiontest.NoAuth, token(), bare, 200},
		{"none wanted, bearer given", introspectiontest.NoAuth, token(), func(*http.Request) {}, 400},
		{"mode that doesn't exist", "beaerr", token(), bare, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			as := introspectiontest.NewServerWith(t, introspectiontest.Config{Auth: tt.auth})
			req := request(t, as.Endpoint(), tt.form)
			tt.spoil(req)
			g, err := do(client(t), req)
			if err != nil {
				t.Fatalf("do: got error %v, want none", err)
			}
			if g.status != tt.want {
				t.Errorf("got %d %s, want %d", g.status, g.body, tt.want)
			}
		})
	}
}

func TestAssertion(t *testing.T) {
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{
		Auth: introspectiontest.ClientAssertion, AssertionAudience: "https://as.example",
	})
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, tt := range []struct {
		name, assertion string
		want            int
	}{
		{"first use", assertion(t, "1", nil), 200},
		{"second use", assertion(t, "1", nil), 401},
		{"audience in an array", assertion(t, "2", map[string]any{"aud": []string{"x", "https://as.example"}}), 200},
		{"another audience", assertion(t, "3", map[string]any{"aud": "https://other.example"}), 401},
		{"jti of a refused one", assertion(t, "3", nil), 401},
		{"no audience", assertion(t, "4", map[string]any{"aud": nil}), 401},
		{"expired", assertion(t, "5", map[string]any{"exp": in(-time.Second)}), 401},
		{"no exp", assertion(t, "6", map[string]any{"exp": nil}), 401},
		{"good for too long", assertion(t, "7", map[string]any{"exp": in(time.Hour)}), 401},
		{"another issuer", assertion(t, "8", map[string]any{"iss": "x"}), 401},
		{"another subject", assertion(t, "9", map[string]any{"sub": "x"}), 401},
		{"no jti", assertion(t, "", nil), 401},
		{"no JWT", "abc", 401},
		{"no JSON", "a.!!.c", 401},
		{"no signature", "e30.e30.", 401},
	} {
		req := request(t, as.Endpoint(), withAssertion(url.Values{"token": {"t"}}, tt.assertion))
		req.Header.Del("Authorization")
		g, err := do(client(t), req)
		if err != nil {
			t.Fatalf("do: got error %v, want none", err)
		}
		if g.status != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, g.status, tt.want)
		}
	}
}

// grant asks the token endpoint and returns its response.
func grant(t *testing.T, as *introspectiontest.Server, form url.Values, spoil func(*http.Request)) got {
	t.Helper()
	req := request(t, as.TokenEndpoint(), form)
	req.SetBasicAuth(introspectiontest.DefaultClientID, introspectiontest.DefaultClientSecret)
	if spoil != nil {
		spoil(req)
	}
	g, err := do(client(t), req)
	if err != nil {
		t.Fatalf("do: got error %v, want none", err)
	}
	return g
}

func TestGrant(t *testing.T) {
	as := introspectiontest.NewServer(t)
	grantType := func(name string) url.Values { return url.Values{"grant_type": {name}, "scope": {"introspect"}} }
	bare := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, tt := range []struct {
		name  string
		form  url.Values
		spoil func(*http.Request)
		want  int
	}{
		{"secret", grantType("client_credentials"), nil, 200},
		{"assertion", withAssertion(grantType("client_credentials"), assertion(t, "1", nil)), bare, 200},
		{"assertion again", withAssertion(grantType("client_credentials"), assertion(t, "1", nil)), bare, 401},
		{"no credential", grantType("client_credentials"), bare, 401},
		{"wrong secret", grantType("client_credentials"), func(r *http.Request) { r.SetBasicAuth("a", "b") }, 401},
		{"another grant", grantType("password"), nil, 400},
		{"GET", nil, func(r *http.Request) { r.Method = http.MethodGet }, 405},
	} {
		g := grant(t, as, tt.form, tt.spoil)
		if g.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, g.status, g.body, tt.want)
		}
		if m := g.members(t); g.status == 200 && (m["token_type"] != "Bearer" || m["expires_in"] != 300.0 || m["scope"] != "introspect") {
			t.Errorf("%s: got %s, want a bearer for 300 s with the scope", tt.name, g.body)
		}
	}
	if n := as.Grants(); n != 7 {
		t.Errorf("counted %d requests, want 7", n)
	}
	if n := as.Introspections(); n != 0 {
		t.Errorf("grants counted as %d introspections, want none", n)
	}
}

func TestGrantedBearer(t *testing.T) {
	now := &clock{now: time.Now()}
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Now: now.Now, Lifetime: time.Minute})
	fetch := func() string {
		return grant(t, as, url.Values{"grant_type": {"client_credentials"}}, nil).members(t)["access_token"].(string)
	}
	use := func(bearer string) int {
		req := request(t, as.Endpoint(), url.Values{"token": {"t"}})
		req.Header.Set("Authorization", "Bearer "+bearer)
		g, err := do(client(t), req)
		if err != nil {
			t.Fatalf("do: got error %v, want none", err)
		}
		return g.status
	}
	first, second := fetch(), fetch()
	if first == second {
		t.Error("got the same bearer twice, want another")
	}
	if got := use(first); got != 200 {
		t.Errorf("fresh: got %d, want 200", got)
	}
	now.advance(time.Minute)
	if got := use(first); got != 401 {
		t.Errorf("expired: got %d, want 401", got)
	}
	third := fetch()
	as.AcceptBearers()
	if got := use(third); got != 401 {
		t.Errorf("revoked: got %d, want 401", got)
	}
	as.SetGrantAnswer(introspectiontest.Change(func(m map[string]any) { delete(m, "expires_in") }))
	if m := grant(t, as, url.Values{"grant_type": {"client_credentials"}}, nil).members(t); m["access_token"] == nil || m["expires_in"] != nil {
		t.Errorf("changed grant: got %v, want a token without expires_in", m)
	}
}
