package credential

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// seeded is one of many keys that are cheap to make.
func seeded(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func thumbprint(public crypto.PublicKey) string {
	return base64.RawURLEncoding.EncodeToString(must((&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)))
}

// rotation is a credential whose key and clock are a test's.
type rotation struct {
	*testing.T
	*Credential
	file *introspectiontest.File
	now  time.Time
}

func newRotation(t *testing.T, key, keyID string) *rotation {
	t.Helper()
	r := &rotation{T: t, file: introspectiontest.NewFile(key), now: time.Unix(1_800_000_000, 0)}
	cfg := assertionConfig("")
	cfg.ClientKey, cfg.KeyID, cfg.Now = fileOf(r.file), keyID, func() time.Time { return r.now }
	r.Credential = mustCredential(t, cfg)
	return r
}

// replaceAfter lets time pass, puts another key there and signs with it.
func (r *rotation) replaceAfter(d time.Duration, key string) {
	r.Helper()
	r.now = r.now.Add(d)
	r.file.Replace(key)
	mustAttach(r.T, r.Credential)
}

// kids returns the published key ids in their order, and checks that nothing of
// a private key stands beside them.
func (r *rotation) kids() (kids []string) {
	r.Helper()
	raw, err := r.JWKS()
	if err != nil {
		r.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(raw, &set); err != nil {
		r.Fatal(err)
	}
	for _, key := range set.Keys {
		for name := range key {
			if !slices.Contains([]string{"alg", "crv", "e", "kid", "kty", "n", "use", "x", "y"}, name) {
				r.Errorf("member %s of a key is no public one: %s", name, raw)
			}
		}
		if key["use"] != "sig" || key["alg"] == nil {
			r.Errorf("key %v", key)
		}
		kids = append(kids, fmt.Sprint(key["kid"]))
	}
	if sorted := slices.Sorted(slices.Values(kids)); len(slices.Compact(sorted)) != len(kids) {
		r.Errorf("two keys share a kid: %q", kids)
	}
	return kids
}

func (r *rotation) expect(want ...string) {
	r.Helper()
	if got := r.kids(); !slices.Equal(got, want) {
		r.Errorf("published %q, want %q", got, want)
	}
}

// TestJWKSOverlap: a key that was replaced is published for another hour, after
// the one that assertions are signed with now.
func TestJWKSOverlap(t *testing.T) {
	one, two, three := seeded(1), seeded(2), seeded(3)
	id1, id2, id3 := thumbprint(one.Public()), thumbprint(two.Public()), thumbprint(three.Public())
	r := newRotation(t, keyPEM(t, one), "")
	r.expect(id1)
	r.replaceAfter(0, keyPEM(t, two))
	r.expect(id2, id1)
	r.replaceAfter(30*time.Minute, keyPEM(t, three))
	r.expect(id3, id2, id1)
	r.now = r.now.Add(30*time.Minute - 1)
	r.expect(id3, id2, id1)
	r.now = r.now.Add(1)
	r.expect(id3, id2)
	r.now = r.now.Add(30 * time.Minute)
	r.expect(id3)

	r.replaceAfter(0, canary) // can't be used
	r.expect(id3)
	r.replaceAfter(time.Hour, keyPEM(t, one))
	r.expect(id1, id3)
	r.replaceAfter(time.Minute, keyPEM(t, three)) // back again
	r.expect(id3, id1)
	r.replaceAfter(0, keyPEM(t, three)+"\n")
	r.expect(id3, id1)
	r.now = r.now.Add(time.Hour)
	r.expect(id3)
}

// TestJWKSNotices: publishing doesn't wait for the next assertion.
func TestJWKSNotices(t *testing.T) {
	r := newRotation(t, keyPEM(t, seeded(1)), "")
	r.file.Replace(keyPEM(t, seeded(2)))
	r.expect(thumbprint(seeded(2).Public()), thumbprint(seeded(1).Public()))
}

func TestJWKSBounded(t *testing.T) {
	r := newRotation(t, keyPEM(t, seeded(0)), "")
	for n := range byte(100) {
		r.replaceAfter(time.Second, keyPEM(t, seeded(n+1)))
	}
	r.expect(thumbprint(seeded(100).Public()), thumbprint(seeded(99).Public()), thumbprint(seeded(98).Public()),
		thumbprint(seeded(97).Public()), thumbprint(seeded(96).Public()))
}

// TestJWKSOneKeyID: with a kid that is set, the replaced key can't stay: a
// server that looks the kid up would find either.
func TestJWKSOneKeyID(t *testing.T) {
	r := newRotation(t, keyPEM(t, seeded(1)), "fixed")
	r.replaceAfter(0, keyPEM(t, seeded(2)))
	r.expect("fixed")
	raw := must(r.JWKS())
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	if key, _ := set.Keys[0].Key.(ed25519.PublicKey); !key.Equal(seeded(2).Public()) {
		t.Errorf("published %s, want the new key", raw)
	}
}

// TestJWKSPublicOnly: whatever the kind of key and the form it comes in, none
// of its secret numbers is published, now or after it was replaced.
func TestJWKSPublicOnly(t *testing.T) {
	for name, key := range map[string]any{"RSA": rsaKey(), "P-256": p256(), "P-384": p384(), "Ed25519": edKey()} {
		jwk := keyJWK(t, jose.JSONWebKey{Key: key, KeyID: "own"})
		for _, content := range []string{keyPEM(t, key), jwk} {
			r := newRotation(t, content, "")
			r.kids()
			r.replaceAfter(0, keyPEM(t, seeded(9)))
			if kids := r.kids(); len(kids) != 2 {
				t.Errorf("%s: published %q, want two keys", name, kids)
			}
			var private map[string]any
			if err := json.Unmarshal([]byte(jwk), &private); err != nil {
				t.Fatalf("json.Unmarshal: got error %v, want none", err)
			}
			raw := string(must(r.JWKS()))
			for _, member := range []string{"d", "p", "q", "dp", "dq", "qi"} {
				if value, _ := private[member].(string); value != "" && strings.Contains(raw, value) {
					t.Errorf("%s: %s is published, want public members only", name, member)
				}
			}
			if private["d"] == nil {
				t.Errorf("%s: got no private member to look for in %q, want one", name, slices.Sorted(maps.Keys(private)))
			}
		}
	}
}

func TestJWKSParallel(t *testing.T) {
	r := newRotation(t, keyPEM(t, seeded(0)), "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range byte(20) {
				r.file.Replace(keyPEM(t, seeded(n)))
				if raw, err := r.JWKS(); err != nil || !json.Valid(raw) {
					t.Errorf("got %s (%v), want JSON", raw, err)
				}
			}
		})
	}
	wg.Wait()
}
