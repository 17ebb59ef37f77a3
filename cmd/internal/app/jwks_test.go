package app

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	return string(content)
}

// privateMember is one of RFC 7518 §6 that only the owner of a key may know.
var privateMember = regexp.MustCompile(`"(d|p|q|dp|dq|qi|oth|k)"\s*:`)

// publishedKeys reads a key set, checks that it is a public one, and returns
// the key ids in their order.
func publishedKeys(t *testing.T, raw string) (kids []string) {
	t.Helper()
	if member := privateMember.FindString(raw); member != "" {
		t.Fatalf("got a private %s, want public members only", member)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(raw), &set); err != nil {
		t.Fatalf("got %s (%v), want a JWK Set", raw, err)
	}
	for _, key := range set.Keys {
		if !key.IsPublic() || !key.Valid() || key.Use != "sig" || key.Algorithm == "" {
			t.Errorf("got key %s, want a valid public one for signatures", raw)
		}
		kids = append(kids, key.KeyID)
	}
	return kids
}

// thumbprints computes the RFC 7638 thumbprints of the keys themselves.
func thumbprints(t *testing.T, raw string) (prints []string) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(raw), &set); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	for _, key := range set.Keys {
		sum, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatalf("key.Thumbprint: got error %v, want none", err)
		}
		prints = append(prints, base64.RawURLEncoding.EncodeToString(sum))
	}
	return prints
}

// TestJWKSRoute: /jwks.json is there with a key only, in whatever mode uses one.
func TestJWKSRoute(t *testing.T) {
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	assertion := []string{"SIDECAR_BEARER_TOKEN_FILE", "", "SIDECAR_INTROSPECTION_AUTH", "client_assertion", "SIDECAR_CLIENT_ID", "c"}
	for _, tt := range []struct {
		name  string
		pairs []string
		kid   string // "" for the thumbprint, "none" for no route
	}{
		{"bearer file", nil, "none"},
		{"secret", []string{"SIDECAR_INTROSPECTION_AUTH", "client_secret_basic", "SIDECAR_CLIENT_ID", "c", "SIDECAR_CLIENT_SECRET_FILE", writeFile(t, "s", "secret")}, "none"},
		{"RSA", append(slices.Clone(assertion), "SIDECAR_CLIENT_KEY_FILE", writeFile(t, "k", rsaKey(t))), ""},
		{"EC", append(slices.Clone(assertion), "SIDECAR_CLIENT_KEY_FILE", writeFile(t, "k", ecKey(t))), ""},
		{"set kid", append(slices.Clone(assertion), "SIDECAR_CLIENT_KEY_FILE", writeFile(t, "k", ecKey(t)), "SIDECAR_CLIENT_KEY_ID", "kid-1"), "kid-1"},
		{"grant", grantWith("SIDECAR_TOKEN_ENDPOINT", as.TokenEndpoint(), "SIDECAR_CLIENT_KEY_FILE", writeFile(t, "k", ecKey(t))), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sc := assemble(t, as, answerOK, tt.pairs...)
			w := sc.admin(http.MethodGet, "/jwks.json")
			if tt.kid == "none" {
				if w.Code != http.StatusNotFound {
					t.Errorf("got %d %s, want 404", w.Code, w.Body)
				}
				return
			}
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/jwk-set+json" || w.Header().Get("Cache-Control") != "public, max-age=60" {
				t.Errorf("got %d %v, want 200, a JWK Set, kept for a minute", w.Code, w.Header())
			}
			want := tt.kid
			if want == "" {
				want = thumbprints(t, w.Body.String())[0]
			}
			if got := publishedKeys(t, w.Body.String()); !slices.Equal(got, []string{want}) {
				t.Errorf("key ids %q, want %q", got, want)
			}
			if code := sc.admin(http.MethodHead, "/jwks.json").Code; code != http.StatusOK {
				t.Errorf("HEAD: got %d, want 200", code)
			}
			if w := sc.admin(http.MethodPost, "/jwks.json"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: got %d, Allow %q, want 405 and GET, HEAD", w.Code, w.Header().Get("Allow"))
			}
		})
	}
}

// TestJWKSRotation: after the key file was replaced both keys are published,
// the one that signs now first.
func TestJWKSRotation(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "key.pem")
	put(t, path, rsaKey(t), time.Hour)
	sc := assemble(t, introspectiontest.NewServer(t), answerOK, "SIDECAR_BEARER_TOKEN_FILE", "",
		"SIDECAR_INTROSPECTION_AUTH", "client_assertion", "SIDECAR_CLIENT_ID", "c", "SIDECAR_CLIENT_KEY_FILE", path)
	keys := func() []string { return publishedKeys(t, sc.admin(http.MethodGet, "/jwks.json").Body.String()) }
	first := keys()
	swap(t, path, ecKey(t), time.Minute)
	if both := keys(); len(first) != 1 || len(both) != 2 || both[1] != first[0] || both[0] == first[0] {
		t.Errorf("published %q, then %q, want the new key before the old one", first, both)
	}
}
