package client_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
)

const testIssuer = "https://as.example.org"

// keySite serves public keys and counts how often it is read.
type keySite struct {
	*httptest.Server
	reads atomic.Int64
	down  atomic.Bool
	keys  atomic.Pointer[[]jose.JSONWebKey]
}

func (s *keySite) add(key *ecdsa.PrivateKey, kid string) {
	var keys []jose.JSONWebKey
	if old := s.keys.Load(); old != nil {
		keys = *old
	}
	keys = append(keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: "ES256", Use: "sig"})
	s.keys.Store(&keys)
}

func newKeySite(t *testing.T, key *ecdsa.PrivateKey) *keySite {
	t.Helper()
	s := &keySite{}
	s.add(key, "k1")
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.reads.Add(1)
		if s.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: *s.keys.Load()})
	}))
	t.Cleanup(s.Close)
	return s
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("ecdsa.GenerateKey: got error %v, want none", err)
	}
	return key
}

func sign(t *testing.T, key crypto.Signer, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatalf("jose.NewSigner: got error %v, want none", err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatalf("Claims: got error %v, want none", err)
	}
	return token
}

func newPrecheck(t *testing.T, location string, now func() time.Time) *client.Precheck {
	t.Helper()
	p, err := client.NewPrecheck(client.PrecheckConfig{
		Issuer: testIssuer, JWKS: func() string { return location }, HTTPClient: discoveryClient(t),
		ClockSkew: 5 * time.Second, Now: now,
	})
	if err != nil {
		t.Fatalf("client.NewPrecheck: got error %v, want none", err)
	}
	return p
}

func TestPrecheck(t *testing.T) {
	key, other := newKey(t), newKey(t)
	site := newKeySite(t, key)
	now := time.Unix(1_800_000_000, 0)
	p := newPrecheck(t, site.URL, func() time.Time { return now })
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": testIssuer, "exp": now.Unix() + 60, "sub": "s"}
		for name, value := range change {
			c[name] = value
		}
		return c
	}
	segment := base64.RawURLEncoding.EncodeToString
	body, _ := json.Marshal(claims(nil))
	unsigned := segment([]byte(`{"alg":"none"}`)) + "." + segment(body) + "."
	symmetric := segment([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + segment(body) + "." + segment([]byte("signature"))
	good := sign(t, key, "k1", claims(nil))
	for name, tt := range map[string]struct {
		token   string
		refused bool
	}{
		"good":                    {good, false},
		"good without exp":        {sign(t, key, "k1", map[string]any{"iss": testIssuer}), false},
		"good, nbf within leeway": {sign(t, key, "k1", claims(map[string]any{"nbf": now.Unix() + 5})), false},
		"opaque":                  {"2YotnFZFEjr1zCsicMWpAA", false},
		"opaque with two dots":    {"a.b.c", false},
		"forged":                  {sign(t, other, "k1", claims(nil)), true},
		"unknown key":             {sign(t, other, "k2", claims(nil)), true},
		"changed payload":         {good[:len(good)/2] + "A" + good[len(good)/2+1:], true},
		"another issuer":          {sign(t, key, "k1", claims(map[string]any{"iss": "https://evil.test"})), true},
		"issuer with slash":       {sign(t, key, "k1", claims(map[string]any{"iss": testIssuer + "/"})), true},
		"no issuer":               {sign(t, key, "k1", map[string]any{"exp": now.Unix() + 60}), true},
		"expired":                 {sign(t, key, "k1", claims(map[string]any{"exp": now.Unix()})), true},
		"exp in milliseconds":     {sign(t, key, "k1", claims(map[string]any{"exp": now.UnixMilli()})), true},
		"not yet valid":           {sign(t, key, "k1", claims(map[string]any{"nbf": now.Unix() + 6})), true},
		"alg none":                {unsigned, true},
		"alg HS256":               {symmetric, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := p.Refuses(t.Context(), tt.token); got != tt.refused {
				t.Errorf("refused %t, want %t", got, tt.refused)
			}
		})
	}
}

// A new key counts at once, however short ago the keys were read.
func TestPrecheckNewKey(t *testing.T) {
	key := newKey(t)
	site := newKeySite(t, key)
	now := time.Unix(1_800_000_000, 0)
	p := newPrecheck(t, site.URL, func() time.Time { return now })
	claims := map[string]any{"iss": testIssuer}
	if p.Refuses(t.Context(), sign(t, key, "k1", claims)) {
		t.Fatal("good token refused, want it to pass")
	}
	next := newKey(t)
	site.add(next, "k2")
	// The library may still hand out the read before.
	for deadline := time.Now().Add(5 * time.Second); p.Refuses(t.Context(), sign(t, next, "k2", claims)); {
		if time.Now().After(deadline) || site.reads.Load() > 2 {
			t.Fatal("a token that was signed with the new key is refused, want it to pass")
		}
	}
	if p.Refuses(t.Context(), sign(t, key, "k1", claims)) {
		t.Error("a token that was signed with the old key is refused, want it to pass")
	}
}

// A flood of unknown key ids costs three reads of the keys per interval.
func TestPrecheckUnknownKeyFlood(t *testing.T) {
	key, other := newKey(t), newKey(t)
	site := newKeySite(t, key)
	now := time.Unix(1_800_000_000, 0)
	p := newPrecheck(t, site.URL, func() time.Time { return now })
	for round := range int64(3) {
		junk := func(i int) {
			token := sign(t, other, fmt.Sprintf("kid-%d-%d", round, i), map[string]any{"iss": testIssuer})
			if !p.Refuses(t.Context(), token) {
				t.Fatal("token with an unknown key passed, want it refused")
			}
		}
		// The library may still hand out the read before; then it reads again.
		for deadline := time.Now().Add(5 * time.Second); site.reads.Load() < 3*(round+1); junk(0) {
			if time.Now().After(deadline) {
				t.Fatal("keys are not read in a new interval, want them to be")
			}
		}
		for i := range 20 {
			junk(i)
		}
		if got := site.reads.Load(); got != 3*(round+1) {
			t.Fatalf("round %d: keys were read %d times, want %d", round, got, 3*(round+1))
		}
		now = now.Add(10 * time.Second)
	}
}

// Without keys the endpoint decides on what they are needed for, and on nothing
// else; keys that were read stay good.
func TestPrecheckKeysUnavailable(t *testing.T) {
	key := newKey(t)
	site := newKeySite(t, key)
	site.down.Store(true)
	now := time.Unix(1_800_000_000, 0)
	p := newPrecheck(t, site.URL, func() time.Time { return now })
	good := sign(t, key, "k1", map[string]any{"iss": testIssuer})
	forged := sign(t, newKey(t), "k1", map[string]any{"iss": testIssuer})
	if p.Refuses(t.Context(), good) || p.Refuses(t.Context(), forged) {
		t.Error("refused without keys, want both to pass")
	}
	foreign := sign(t, key, "k1", map[string]any{"iss": "https://evil.test"})
	segment := base64.RawURLEncoding.EncodeToString
	body := segment([]byte(`{"iss":"` + testIssuer + `"}`))
	for _, token := range []string{foreign, segment([]byte(`{"alg":"none"}`)) + "." + body + ".", segment([]byte(`{"alg":"HS256"}`)) + "." + body + ".eA"} {
		if !p.Refuses(t.Context(), token) {
			t.Errorf("%s passes without keys, want it refused", token)
		}
	}
	site.down.Store(false)
	now = now.Add(10 * time.Second)
	// The library may still hand out the failed read that was under way.
	for deadline := time.Now().Add(5 * time.Second); !p.Refuses(t.Context(), forged); {
		if time.Now().After(deadline) {
			t.Fatal("keys are back, and not used, want them to be")
		}
	}
	if p.Refuses(t.Context(), good) {
		t.Error("good token refused, want it to pass")
	}
	site.down.Store(true)
	now = now.Add(10 * time.Second)
	if p.Refuses(t.Context(), good) || !p.Refuses(t.Context(), forged) {
		t.Error("keys that were good a moment ago are forgotten, want them used")
	}
	if newPrecheck(t, "", time.Now).Refuses(t.Context(), forged) {
		t.Error("refused while the keys' URL isn't known, want it to pass")
	}
}

// A refused token never gets to the endpoint; a good one always does.
func TestClientPrecheck(t *testing.T) {
	key := newKey(t)
	keys := newKeySite(t, key)
	var asked atomic.Int64
	as := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"active":false}`))
	}))
	t.Cleanup(as.Close)
	httpClient := discoveryClient(t)
	credential, err := credential.New(credential.Config{Auth: credential.AuthNone})
	if err != nil {
		t.Fatalf("credential.New: got error %v, want none", err)
	}
	client, err := client.New(client.Config{
		Endpoint: func() string { return as.URL }, Credential: credential, HTTPClient: httpClient,
		Timeout: 5 * time.Second, MaxConcurrent: 1, Precheck: newPrecheck(t, keys.URL, time.Now),
	})
	if err != nil {
		t.Fatalf("client.New: got error %v, want none", err)
	}
	for _, tt := range []struct {
		token string
		calls int64
	}{
		{sign(t, newKey(t), "k1", map[string]any{"iss": testIssuer}), 0},
		{sign(t, key, "k1", map[string]any{"iss": testIssuer}), 1},
		{"opaque", 2},
	} {
		if _, err := client.Introspect(t.Context(), introspection.Request{Token: tt.token}); !errors.Is(err, introspection.ErrInactive) {
			t.Errorf("got %v, want inactive", err)
		}
		if asked.Load() != tt.calls {
			t.Errorf("%d calls, want %d", asked.Load(), tt.calls)
		}
	}
}
