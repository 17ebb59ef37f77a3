package shared

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// only returns the one value of the store and its key.
func only(t *testing.T, store *fakeStore) (key string, value []byte) {
	t.Helper()
	all := store.verdicts()
	if len(all) != 1 {
		t.Fatalf("keys in the store: got %d, want 1", len(all))
	}
	for key, value = range all {
	}
	return key, value
}

func (s *fakeStore) overwrite(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, value, time.Hour)
}

// An attacker who can write to the store and has a token of his own would like
// other claims for it.
func TestForgedForOwnToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		r.active("own")
		key, _ := only(t, store) // he sees the name when his own request makes it
		derived, err := hkdf.Key(sha256.New, []byte("own"), nil, verdictInfo+"https://as.example/introspect", sha256.Size)
		if err != nil {
			t.Fatalf("hkdf.Key: got error %v, want none", err)
		}
		aead, err := newAEAD(derived)
		if err != nil {
			t.Fatalf("newAEAD: got error %v, want none", err)
		}
		store.overwrite(key, place{key: key, aead: aead}.seal(record{
			active: true, obtained: time.Now(), body: []byte(`{"active":true,"sub":"sub-of-own","patient":"victim","scope":"system/*.cruds"}`),
		}))
		if got := r.active("own").Response.Text(introspection.Patient); got != "p1" {
			t.Errorf("patient: got %q, want p1", got)
		}
		r.counted(1, "shared_cache_lookups_total", "undecryptable")
	})
}

func TestMovedValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		r.active("admin")
		key, value := only(t, store)
		// Under another token's name.
		store.wipe()
		r.fails("bad-own", introspection.ErrInactive)
		other, _ := only(t, store)
		store.overwrite(other, value)
		r.fails("bad-own", introspection.ErrInactive)
		r.counted(1, "shared_cache_lookups_total", "undecryptable")
		// Under the same token's name of another release.
		store.wipe()
		release := newReplica(t, store, as, func(c *Config) { c.Prefix = "other" })
		store.overwrite(strings.Replace(key, "fis:", "other:", 1), value)
		release.active("admin")
		release.counted(1, "shared_cache_lookups_total", "undecryptable")
		as.wantCalls(t, "admin", 2)
	})
}

func TestNamesNeedTheSecret(t *testing.T) {
	name := func(letters, authority string) string {
		places, err := placesOf(testSecret(t, letters), "fis", authority, "t1")
		if err != nil {
			t.Fatalf("placesOf: got error %v, want none", err)
		}
		return places[0].key
	}
	if name("a", "x") == name("b", "x") {
		t.Error("two secrets: got one name, want two")
	}
	if name("a", "x") == name("a", "y") {
		t.Error("two authorities: got one name, want two")
	}
	if got := name("a", "x"); got != name("a", "x") || !strings.HasPrefix(got, "fis:v1:") || len(got) != len("fis:v1:")+43 {
		t.Errorf("got %q, want fis:v1: and 43 characters, always the same", got)
	}
}

func TestDamagedValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		r.active("t1")
		key, value := only(t, store)
		flipped := append([]byte{}, value...)
		flipped[len(flipped)-1] ^= 1
		for i, damaged := range [][]byte{
			{},
			[]byte("V"), []byte("X"), []byte("L"), []byte("Lshort"), flipped, value[:len(value)-1],
			[]byte(strings.Repeat("V", maxSealed+1)),
		} {
			store.overwrite(key, damaged)
			r.active("t1")
			as.wantCalls(t, "t1", i+2)
		}
		if got := strings.Count(r.log.String(), "doesn't open"); got != 1 {
			t.Errorf("log lines: got %d, want 1", got)
		}
	})
}

func TestRecord(t *testing.T) {
	want := record{
		active: true, obtained: time.UnixMilli(1_700_000_000_123),
		position: position{incarnation: incarnation{1, 2, 3}, ms: 1 << 60, n: 7}, body: []byte(`{"active":true}`),
	}
	plain := want.encode()
	got, ok := decodeRecord(append(plain, 0, 0, 0))
	if !ok || got.active != want.active || !got.obtained.Equal(want.obtained) || got.position != want.position ||
		string(got.body) != string(want.body) {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	for n := range plain {
		if _, ok := decodeRecord(plain[:n]); ok {
			t.Errorf("%d of %d bytes: got a record, want none", n, len(plain))
		}
	}
	plain[0] = 2
	if _, ok := decodeRecord(plain); ok {
		t.Error("neither active nor inactive: got a record, want none")
	}
}

func TestParseSecrets(t *testing.T) {
	long, other := []byte(strings.Repeat("k", 32)), []byte(strings.Repeat("\xff", 33))
	b64, hexed := base64.StdEncoding.EncodeToString(long), hex.EncodeToString(other)
	tests := []struct {
		name, content string
		want          int
		fault         string
	}{
		{"base64", b64, 1, ""},
		{"base64 with line end", b64 + "\r\n", 1, ""},
		{"base64url without padding", base64.RawURLEncoding.EncodeToString(other), 1, ""},
		{"hex", hexed + "\n", 1, ""},
		{"two", b64 + "\n" + hexed + "\n", 2, ""},
		{"empty", "", 0, "line 1 is not base64 or hex"},
		{"blank line between", b64 + "\n\n" + hexed, 0, "more than two lines"},
		{"second line empty", b64 + "\n ", 0, "line 2 is not base64 or hex"},
		{"16 bytes", base64.StdEncoding.EncodeToString(long[:16]), 0, "line 1 has 16 bytes after decoding, at least 32 are needed"},
		{"equal", b64 + "\n" + b64, 0, "the same secret"},
		{"equal in two forms", b64 + "\n" + hex.EncodeToString(long), 0, "the same secret"},
		{"a passphrase", "correct horse battery staple, and more of it", 0, "line 1 is not base64 or hex"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseSecrets([]byte(test.content))
			if len(got) != test.want || (err == nil) != (test.fault == "") {
				t.Fatalf("got %d secrets, error %v, want %d, %q", len(got), err, test.want, test.fault)
			}
			if err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("got error %q, want it to say %q", err, test.fault)
			}
			if err != nil && strings.Contains(err.Error(), "correct") {
				t.Errorf("got error %q, want no content in it", err)
			}
		})
	}
}

func TestRollover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		with := func(letters string) *replica {
			secrets := testSecret(t, letters)
			return newReplica(t, store, as, func(c *Config) {
				c.Once = true
				c.Secrets = func() Secrets { return secrets }
			})
		}
		replicas := []*replica{with("a"), with("ba"), with("b"), with("ab")}
		// Whoever comes first: all that share a secret, directly or by one between
		// them, make one call.
		for _, pair := range [][]int{{0, 1, 3}, {1, 0, 2, 3}, {3, 2, 0, 1}, {2, 1, 3}} {
			token := "t"
			for _, i := range pair {
				token += string('0' + rune(i))
			}
			for _, i := range pair {
				replicas[i].active(token)
			}
			as.wantCalls(t, token, 1)
		}
		// At once.
		done := make(chan error)
		for _, i := range []int{1, 3, 0} {
			go func() {
				_, err := replicas[i].introspect("together")
				done <- err
			}()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Errorf("got %v, want an active verdict", err)
			}
		}
		as.wantCalls(t, "together", 1)
	})
}
