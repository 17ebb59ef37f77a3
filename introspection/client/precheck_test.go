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
	"strings"
	"sync"
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

// strangeKeys stand beside every set of keys, and none of them can be used.
var strangeKeys = []string{
	`{"kty":"EC","crv":"secp256k1","kid":"secp256k1","use":"sig","alg":"ES256K","x":"SVqB4JcUD6lsfvqMr-OKUNUphdNn64Eay60978ZlL74","y":"lf0u0pMj4lGAzZix5u4Cm5CMQIgMNpkwy163wtKYVKI"}`,
	`{"kty":"oct","kid":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
	`{"kty":"AKP","kid":"new","alg":"ML-DSA-44","pub":"AAAA"}`,
	`{"kty":"RSA","kid":"small","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIR","e":"AQAB"}`,
	`{"kty":"EC","crv":"P-256","kid":"enc","use":"enc","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
	`{"kid":7}`, `null`, `"text"`,
}

// keySite serves public keys and counts how often it is read.
type keySite struct {
	*httptest.Server
	reads atomic.Int64
	down  atomic.Bool
	delay atomic.Int64
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
		if d := s.delay.Load(); d > 0 {
			time.Sleep(time.Duration(d))
		}
		var set struct {
			Keys []any `json:"keys"`
		}
		for _, key := range *s.keys.Load() {
			set.Keys = append(set.Keys, key)
		}
		for _, raw := range strangeKeys {
			set.Keys = append(set.Keys, json.RawMessage(raw))
		}
		_ = json.NewEncoder(w).Encode(set)
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
	otherBody, _ := json.Marshal(claims(map[string]any{"sub": "another"}))
	unsigned := segment([]byte(`{"alg":"none"}`)) + "." + segment(body) + "."
	symmetric := segment([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + segment(body) + "." + segment([]byte("signature"))
	good := sign(t, key, "k1", claims(nil))
	for name, tt := range map[string]struct {
		token   string
		refused bool
	}{
		"good":                     {good, false},
		"good without exp":         {sign(t, key, "k1", map[string]any{"iss": testIssuer}), false},
		"good, nbf within leeway":  {sign(t, key, "k1", claims(map[string]any{"nbf": now.Unix() + 5})), false},
		"opaque":                   {"2YotnFZFEjr1zCsicMWpAA", false},
		"opaque with two dots":     {"a.b.c", false},
		"forged":                   {sign(t, other, "k1", claims(nil)), true},
		"unknown key":              {sign(t, other, "k2", claims(nil)), false},
		"no key id":                {sign(t, key, "", claims(nil)), false},
		"no key id, another key":   {sign(t, other, "", claims(nil)), false},
		"key that can't be used":   {sign(t, other, "secp256k1", claims(nil)), false},
		"symmetric key":            {sign(t, other, "oct", claims(nil)), false},
		"kind that is not known":   {sign(t, other, "new", claims(nil)), false},
		"small RSA key":            {segment([]byte(`{"alg":"RS256","kid":"small"}`)) + "." + segment(body) + "." + segment([]byte("s")), false},
		"key for encryption":       {sign(t, other, "enc", claims(nil)), false},
		"alg ES256K, unknown key":  {segment([]byte(`{"alg":"ES256K","kid":"k9"}`)) + "." + segment(body) + "." + segment([]byte("s")), false},
		"alg ML-DSA-44":            {segment([]byte(`{"alg":"ML-DSA-44","kid":"k1"}`)) + "." + segment(body) + "." + segment([]byte("s")), false},
		"alg RS256, EC key":        {segment([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." + segment(body) + "." + segment([]byte("s")), true},
		"alg HS256, symmetric key": {segment([]byte(`{"alg":"HS256","kid":"oct"}`)) + "." + segment(body) + "." + segment([]byte("s")), false},
		"alg HS256, unknown key":   {segment([]byte(`{"alg":"HS256","kid":"k9"}`)) + "." + segment(body) + "." + segment([]byte("s")), false},
		"alg None":                 {segment([]byte(`{"alg":"None"}`)) + "." + segment(body) + ".", true},
		"critical header":          {segment([]byte(`{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}`)) + "." + segment(body) + "." + segment([]byte("s")), false},
		"claims that are none":     {segment([]byte(`{"alg":"ES256","kid":"k1"}`)) + "." + segment([]byte("text")) + "." + segment([]byte("s")), false},
		"changed payload":          {strings.Replace(good, segment(body), segment(otherBody), 1), true},
		"another issuer":           {sign(t, key, "k1", claims(map[string]any{"iss": "https://evil.test"})), true},
		"issuer with slash":        {sign(t, key, "k1", claims(map[string]any{"iss": testIssuer + "/"})), true},
		"no issuer":                {sign(t, key, "k1", map[string]any{"exp": now.Unix() + 60}), false},
		"expired":                  {sign(t, key, "k1", claims(map[string]any{"exp": now.Unix()})), true},
		"exp in milliseconds":      {sign(t, key, "k1", claims(map[string]any{"exp": now.UnixMilli()})), false},
		"exp that is no date":      {sign(t, key, "k1", claims(map[string]any{"exp": "soon"})), false},
		"not yet valid":            {sign(t, key, "k1", claims(map[string]any{"nbf": now.Unix() + 6})), true},
		"alg none":                 {unsigned, true},
		"alg HS256":                {symmetric, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := p.Refuses(t.Context(), tt.token); got != tt.refused {
				t.Errorf("refused %t, want %t", got, tt.refused)
			}
		})
	}
}

// A new key counts at once, however short ago the keys were read, even under an old
// id.
func TestPrecheckNewKey(t *testing.T) {
	for _, kid := range []string{"k2", "k1"} {
		t.Run(kid, func(t *testing.T) {
			key := newKey(t)
			site := newKeySite(t, key)
			now := time.Unix(1_800_000_000, 0)
			p := newPrecheck(t, site.URL, func() time.Time { return now })
			claims := map[string]any{"iss": testIssuer}
			if p.Refuses(t.Context(), sign(t, key, "k1", claims)) {
				t.Fatal("refused a good token, want it asked about")
			}
			now = now.Add(time.Second)
			next := newKey(t)
			site.keys.Store(nil)
			site.add(next, kid)
			if p.Refuses(t.Context(), sign(t, next, kid, claims)) {
				t.Error("refused a token that was signed with the new key, want it asked about")
			}
			if refused := p.Refuses(t.Context(), sign(t, newKey(t), kid, claims)); !refused {
				t.Error("a forged token passes, want it refused")
			}
		})
	}
}

// Floods cost three reads of the keys per interval; strangers who use them up keep
// nobody's new key from being taken for one.
func TestPrecheckFloods(t *testing.T) {
	key, other := newKey(t), newKey(t)
	site := newKeySite(t, key)
	now := time.Unix(1_800_000_000, 0)
	p := newPrecheck(t, site.URL, func() time.Time { return now })
	claims := map[string]any{"iss": testIssuer}
	for round := range int64(3) {
		for i := range 20 {
			if p.Refuses(t.Context(), sign(t, other, fmt.Sprintf("kid-%d-%d", round, i), claims)) {
				t.Fatal("refused a token of an unknown key, want it asked about")
			}
			if !p.Refuses(t.Context(), sign(t, other, "k1", claims)) && (round > 0 || i > 0) {
				t.Fatal("a forged token passes, want it refused")
			}
			now = now.Add(time.Millisecond)
		}
		if got := site.reads.Load(); got != 3*(round+1) {
			t.Fatalf("round %d: the keys were read %d times, want %d", round, got, 3*(round+1))
		}
		now = now.Add(10 * time.Second)
	}
	for i := range 3 {
		p.Refuses(t.Context(), sign(t, other, fmt.Sprint("last", i), claims))
		now = now.Add(time.Millisecond)
	}
	next := newKey(t)
	site.add(next, "k2")
	if p.Refuses(t.Context(), sign(t, next, "k2", claims)) {
		t.Error("refused a token of a new key when the reads are used up, want it asked about")
	}
}

// Without keys the endpoint decides on what they are needed for, and on nothing
// else.
func TestPrecheckKeysUnavailable(t *testing.T) {
	key := newKey(t)
	site := newKeySite(t, key)
	site.down.Store(true)
	now := time.Unix(1_800_000_000, 0)
	p := newPrecheck(t, site.URL, func() time.Time { return now })
	good := sign(t, key, "k1", map[string]any{"iss": testIssuer})
	forged := sign(t, newKey(t), "k1", map[string]any{"iss": testIssuer})
	if p.Refuses(t.Context(), good) || p.Refuses(t.Context(), forged) {
		t.Error("refused without keys, want the endpoint asked")
	}
	foreign := sign(t, key, "k1", map[string]any{"iss": "https://evil.test"})
	segment := base64.RawURLEncoding.EncodeToString
	body := segment([]byte(`{"iss":"` + testIssuer + `"}`))
	for _, token := range []string{foreign, segment([]byte(`{"alg":"none"}`)) + "." + body + "."} {
		if !p.Refuses(t.Context(), token) {
			t.Errorf("%s passes without keys, want it refused", token)
		}
	}
	site.down.Store(false)
	now = now.Add(10 * time.Second)
	if !p.Refuses(t.Context(), forged) || p.Refuses(t.Context(), good) {
		t.Error("keys are back and not used, want the forged token refused and the good one asked about")
	}
	site.down.Store(true)
	now = now.Add(9 * time.Second)
	if p.Refuses(t.Context(), good) || !p.Refuses(t.Context(), forged) {
		t.Error("keys of a moment ago are forgotten, want them used")
	}
	now = now.Add(10 * time.Second)
	if p.Refuses(t.Context(), good) || p.Refuses(t.Context(), forged) {
		t.Error("refused by keys that may have changed, want the endpoint asked")
	}
	if newPrecheck(t, "", time.Now).Refuses(t.Context(), forged) {
		t.Error("refused while the keys' URL isn't known, want the endpoint asked")
	}
}

// A slow issuer holds up no request for long, nor one request the other.
func TestPrecheckSlowIssuer(t *testing.T) {
	key := newKey(t)
	site := newKeySite(t, key)
	p := newPrecheck(t, site.URL, time.Now)
	good := sign(t, key, "k1", map[string]any{"iss": testIssuer})
	site.delay.Store(int64(2 * time.Second))
	began := time.Now()
	var requests sync.WaitGroup
	for range 20 {
		requests.Go(func() {
			if p.Refuses(t.Context(), good) {
				t.Error("refused a good token, want it asked about")
			}
		})
	}
	requests.Wait()
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("took %v, want about half a second", took)
	}
	if got := site.reads.Load(); got != 1 {
		t.Errorf("the keys were read %d times, want once", got)
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
