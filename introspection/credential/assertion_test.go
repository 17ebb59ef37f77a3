package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Keys are made once: RSA is slow under the race detector.
var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	p256   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	edKey  = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// keyPEM writes a key as PKCS#8.
func keyPEM(t testing.TB, key any) string {
	t.Helper()
	return pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
}

func keyJWK(t testing.TB, jwk jose.JSONWebKey) string {
	t.Helper()
	return string(must(jwk.MarshalJSON()))
}

// assertionOf takes an assertion apart with the public key, and checks what
// holds for every one.
func assertionOf(t *testing.T, form url.Values, public any, algorithm jose.SignatureAlgorithm) (jose.Header, map[string]any) {
	t.Helper()
	if got := form.Get("client_assertion_type"); got != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("got client_assertion_type %q, want that of RFC 7523", got)
	}
	token, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{algorithm})
	if err != nil {
		t.Fatalf("jwt.ParseSigned: got error %v, want none", err)
	}
	claims := map[string]any{}
	if err := token.Claims(public, &claims); err != nil {
		t.Fatalf("signature: got error %v, want none", err)
	}
	header := token.Headers[0]
	if typ := header.ExtraHeaders[jose.HeaderType]; typ != "JWT" {
		t.Errorf("got typ %v, want JWT", typ)
	}
	return header, claims
}

func assertionConfig(key string) Config {
	return Config{Auth: AuthClientAssertion, ClientID: "sidecar", ClientKey: fixed(key)}
}

func TestAssertionAlgorithms(t *testing.T) {
	for _, tt := range []struct {
		set, want jose.SignatureAlgorithm
		key       crypto.Signer
	}{
		{"RS256", "RS256", rsaKey()},
		{"RS384", "RS384", rsaKey()},
		{"RS512", "RS512", rsaKey()},
		{"PS256", "PS256", rsaKey()},
		{"PS384", "PS384", rsaKey()},
		{"", "RS384", rsaKey()},
		{"ES256", "ES256", p256()},
		{"", "ES256", p256()},
		{"ES384", "ES384", p384()},
		{"", "ES384", p384()},
		{"EdDSA", "EdDSA", edKey()},
		{"", "EdDSA", edKey()},
	} {
		t.Run(string(tt.want), func(t *testing.T) {
			cfg := assertionConfig(keyPEM(t, tt.key))
			cfg.Algorithm = string(tt.set)
			now := time.Unix(1_800_000_000, 999)
			cfg.Now = func() time.Time { return now }
			h, form, _ := mustAttach(t, mustCredential(t, cfg))
			if len(h) != 0 {
				t.Errorf("got headers %v beside an assertion, want none", h)
			}
			if names := slices.Sorted(maps.Keys(form)); !slices.Equal(names, []string{"client_assertion", "client_assertion_type", "token"}) {
				t.Errorf("got form members %q, want the token and the assertion", names)
			}
			header, claims := assertionOf(t, form, tt.key.Public(), tt.want)
			thumbprint := must((&jose.JSONWebKey{Key: tt.key.Public()}).Thumbprint(crypto.SHA256))
			if want := base64.RawURLEncoding.EncodeToString(thumbprint); header.KeyID != want {
				t.Errorf("kid %q, want the thumbprint %q", header.KeyID, want)
			}
			jti, _ := claims["jti"].(string)
			delete(claims, "jti")
			if len(jti) < 26 { // 128 bits in base 32
				t.Errorf("got jti %q, want 128 bits", jti)
			}
			want := map[string]any{
				"iss": "sidecar", "sub": "sidecar", "aud": "https://as.test/introspect",
				"iat": float64(1_800_000_000 - 30), "exp": float64(1_800_000_000 + 150),
			}
			if !maps.Equal(claims, want) {
				t.Errorf("claims %v, want %v", claims, want)
			}
		})
	}
}

// TestAssertionClocks is H09: an authorization server whose clock is two minutes
// off, either way, takes the assertion, and none sees more than five minutes.
func TestAssertionClocks(t *testing.T) {
	if life := assertionAge + assertionLife; life > 5*time.Minute {
		t.Errorf("got exp %v after iat, want at most 5m", life)
	}
	for _, off := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		left := assertionLife - off // as seen by the server
		if left <= 0 || left > 5*time.Minute {
			t.Errorf("got %v left for a clock that is %v off, want up to 5m", left, off)
		}
	}
}

func TestAssertionIsNewEveryTime(t *testing.T) {
	c := mustCredential(t, assertionConfig(keyPEM(t, edKey())))
	seen := map[any]bool{}
	for range 200 {
		_, form, _ := mustAttach(t, c)
		_, claims := assertionOf(t, form, edKey().Public(), "EdDSA")
		seen[claims["jti"]] = true
	}
	if len(seen) != 200 {
		t.Errorf("got %d different jti in 200 assertions, want 200", len(seen))
	}
	_, _, gen := mustAttach(t, c)
	expectRenew(t, c, gen, true) // the next one is another assertion
}

func TestAssertionAudience(t *testing.T) {
	endpoint := ""
	for _, tt := range []struct{ set, want string }{
		{"", "https://as.test/introspect"},
		{"introspection", "https://as.test/introspect"},
		{"issuer", "https://as.test/"},
		{"token", "https://as.test/token"},
		{"https://elsewhere.test", "https://elsewhere.test"},
	} {
		t.Run(tt.set, func(t *testing.T) {
			cfg := assertionConfig(keyPEM(t, edKey()))
			cfg.Audience, cfg.Issuer = tt.set, "https://as.test/"
			cfg.TokenEndpoint = func() string { return endpoint }
			c := mustCredential(t, cfg)
			if tt.set == "token" { // not discovered yet
				if _, err := c.Attach(t.Context(), "https://as.test/introspect", nil, url.Values{}); err == nil {
					t.Error("got an assertion without the audience asked for, want an error")
				}
				if err := c.Ready(); err == nil || err.Error() != "token endpoint is not known yet" {
					t.Errorf("Ready: got %v, want that the token endpoint is not known yet", err)
				}
				endpoint = "https://as.test/token"
			}
			if err := c.Ready(); err != nil {
				t.Errorf("Ready: got %v, want none", err)
			}
			_, form, _ := mustAttach(t, c)
			if _, claims := assertionOf(t, form, edKey().Public(), "EdDSA"); claims["aud"] != tt.want {
				t.Errorf("aud %v, want %q", claims["aud"], tt.want)
			}
		})
	}
}

func TestKeyID(t *testing.T) {
	withKid := keyJWK(t, jose.JSONWebKey{Key: p256(), KeyID: "of-the-key"})
	for _, tt := range []struct{ name, set, key, want string }{
		{"the key's own", "", withKid, "of-the-key"},
		{"the setting wins", "of-the-setting", withKid, "of-the-setting"},
		{"setting for PEM", "of-the-setting", keyPEM(t, p256()), "of-the-setting"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := assertionConfig(tt.key)
			cfg.KeyID = tt.set
			_, form, _ := mustAttach(t, mustCredential(t, cfg))
			if header, _ := assertionOf(t, form, p256().Public(), "ES256"); header.KeyID != tt.want {
				t.Errorf("kid %q, want %q", header.KeyID, tt.want)
			}
		})
	}
}

func TestKeyFormats(t *testing.T) {
	ec := pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(p384())))
	for _, tt := range []struct {
		name, key string
		public    crypto.PublicKey
		want      jose.SignatureAlgorithm
	}{
		{"PKCS#1", pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey())), rsaKey().Public(), "RS384"},
		{"SEC 1", ec, p384().Public(), "ES384"},
		{"SEC 1 after its curve", pemOf("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}) + ec, p384().Public(), "ES384"},
		{"text before the PEM", "Bag Attributes\n" + ec, p384().Public(), "ES384"},
		{"JWK RSA", keyJWK(t, jose.JSONWebKey{Key: rsaKey()}), rsaKey().Public(), "RS384"},
		{"JWK with its own algorithm", keyJWK(t, jose.JSONWebKey{Key: rsaKey(), Algorithm: "PS256", Use: "sig"}), rsaKey().Public(), "PS256"},
		{"JWK Ed25519", "\n " + keyJWK(t, jose.JSONWebKey{Key: edKey()}) + "\n", edKey().Public(), "EdDSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, form, _ := mustAttach(t, mustCredential(t, assertionConfig(tt.key)))
			assertionOf(t, form, tt.public, tt.want)
		})
	}
}

func TestKeyFaults(t *testing.T) {
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	mixed := *p256()
	mixed.D = other.D //nolint:staticcheck // a JWK may hold this, and only D shows it
	public, err := x509.MarshalPKIXPublicKey(p256().Public())
	if err != nil {
		t.Fatalf("x509.MarshalPKIXPublicKey: got error %v, want none", err)
	}
	const neither = "is neither a PEM nor a JWK private key"
	for _, tt := range []struct{ name, key, algorithm, want string }{
		{"empty", "", "", neither},
		{"text", canary, "", neither},
		{"broken PEM", "-----BEGIN PRIVATE KEY-----\n" + canary, "", neither},
		{"broken DER", pemOf("PRIVATE KEY", []byte(canary)), "", neither},
		{"broken PKCS#1", pemOf("RSA PRIVATE KEY", []byte(canary)), "", neither},
		{"broken SEC 1", pemOf("EC PRIVATE KEY", []byte(canary)), "", neither},
		{"public key", pemOf("PUBLIC KEY", public), "", neither},
		{"encrypted", pemOf("ENCRYPTED PRIVATE KEY", []byte(canary)), "", "is encrypted; the key must be in the clear"},
		{"encrypted the old way", "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "", "is encrypted; the key must be in the clear"},
		{"JWK public", keyJWK(t, jose.JSONWebKey{Key: p256().Public()}), "", neither},
		{"JWK symmetric", keyJWK(t, jose.JSONWebKey{Key: []byte(canary + canary)}), "", "is of a kind or curve that no supported algorithm signs with"},
		{"JWK for encryption", keyJWK(t, jose.JSONWebKey{Key: p256(), Use: "enc"}), "", neither},
		{"JWK with unknown algorithm", keyJWK(t, jose.JSONWebKey{Key: rsaKey(), Algorithm: "PS512"}), "", "is an RSA key, which can't sign with the alg that it names"},
		{"JWK set", `{"keys":[` + keyJWK(t, jose.JSONWebKey{Key: p256()}) + `]}`, "", neither},
		{"JWK broken", `{"kty":"` + canary, "", neither},
		{"JWK of two halves", keyJWK(t, jose.JSONWebKey{Key: &mixed}), "", "private and public half don't belong together"},
		{"short RSA", keyPEM(t, small), "", "is an RSA key of less than 2048 bits"},
		{"P-521", keyPEM(t, must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))), "", "is of a kind or curve that no supported algorithm signs with"},
		{"ES384 with P-256", keyPEM(t, p256()), "ES384", "is an EC key on P-256, which can't sign with ES384; it can with ES256"},
		{"ES256 with RSA", keyPEM(t, rsaKey()), "ES256", "is an RSA key, which can't sign with ES256; it can with RS384, RS256, RS512, PS256, PS384"},
		{"RS384 with Ed25519", keyPEM(t, edKey()), "RS384", "is an Ed25519 key, which can't sign with RS384; it can with EdDSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := assertionConfig(tt.key)
			cfg.Algorithm = tt.algorithm
			_, err := New(cfg)
			if err == nil || err.Error() != "ClientKey: "+tt.want {
				t.Fatalf("fault %v, want %q", err, tt.want)
			}
			introspectiontest.NoCanary(t, "error", err.Error())
		})
	}
}

// TestKeyIsReplaced is H09: a key replaced on disk is used for the next
// assertion, and a bad one isn't.
func TestKeyIsReplaced(t *testing.T) {
	var log introspectiontest.Log
	registry := prometheus.NewRegistry()
	file := introspectiontest.NewFile(keyPEM(t, p256()))
	cfg := assertionConfig("")
	cfg.ClientKey, cfg.Logger, cfg.Registerer = fileOf(file), log.Logger(), registry
	c := mustCredential(t, cfg)
	parsed, parse := 0, keysOf(c).key.Parse
	keysOf(c).key.Parse = func(content []byte) (*signingKey, error) { parsed++; return parse(content) }
	expect := func(key crypto.Signer, algorithm jose.SignatureAlgorithm, parses int) {
		t.Helper()
		for range 3 {
			_, form, _ := mustAttach(t, c)
			assertionOf(t, form, key.Public(), algorithm)
		}
		if parsed != parses {
			t.Errorf("parsed %d times, want %d", parsed, parses)
		}
	}
	expect(p256(), "ES256", 0)
	file.Replace(keyPEM(t, p384()))
	expect(p384(), "ES384", 1)
	file.Replace(canary)
	expect(p384(), "ES384", 2)
	file.Fail(errors.New("gone"))
	expect(p384(), "ES384", 2)
	file.Replace(keyPEM(t, edKey()))
	expect(edKey(), "EdDSA", 3)

	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("got %d log lines for two faults, want 2:\n%s", lines, log.String())
	}
	introspectiontest.NoCanary(t, "log", log.String())
	expectRenewals(t, registry, 2, 2)
}

func TestJWKS(t *testing.T) {
	file := introspectiontest.NewFile(keyPEM(t, rsaKey()))
	cfg := assertionConfig("")
	cfg.ClientKey, cfg.KeyID, cfg.Algorithm = fileOf(file), "k1", "RS512"
	c := mustCredential(t, cfg)
	raw, err := c.JWKS()
	if err != nil {
		t.Fatalf("c.JWKS: got error %v, want none", err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(raw, &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("got %s (%v), want one key", raw, err)
	}
	members := slices.Sorted(maps.Keys(set.Keys[0]))
	if !slices.Equal(members, []string{"alg", "e", "kid", "kty", "n", "use"}) {
		t.Errorf("got members %q, want the public half only", members)
	}
	_, form, _ := mustAttach(t, c)
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	header, _ := assertionOf(t, form, rsaKey().Public(), "RS512")
	if found := keys.Key(header.KeyID); len(found) != 1 || found[0].Algorithm != "RS512" {
		t.Errorf("got no key %q in %s, want it for RS512", header.KeyID, raw)
	}
	if raw, err := mustCredential(t, Config{Auth: AuthNone}).JWKS(); raw != nil || err != nil {
		t.Errorf("JWKS without a key: got %s (%v), want nothing", raw, err)
	}
}

// keysOf is what signs at the introspection endpoint.
func keysOf(c *Credential) *assertions {
	a, _ := c.authenticator.(*assertions)
	return a
}
