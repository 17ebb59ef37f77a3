package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
)

func TestKeysDiffer(t *testing.T) {
	k := newKeyer()
	long := strings.Repeat("x", 1000)
	seen := make(map[key]string)
	add := func(authority, token string) {
		t.Helper()
		name := fmt.Sprintf("%q %q", authority, token)
		this := k.key(authority, token)
		if other, ok := seen[this]; ok && other != name {
			t.Errorf("got the same key for %.100s and %.100s, want two", name, other)
		}
		seen[this] = name
	}
	for _, pair := range [][2]string{
		{"", ""},
		{"a", ""},
		{"", "a"},
		{"a", "b"},
		{"b", "a"},
		{"ab", ""},
		{"", "ab"},
		{"ab", "c"},
		{"a", "bc"},
		// The authority has a NUL of its own, between endpoint and client.
		{"a", "b\x00c"},
		{"a\x00b", "c"},
		{"a\x00", "b"},
		{"a", "\x00b"},
		{"a\x00b\x00c", ""},
		{"", "a\x00b\x00c"},
		{"https://as.test/introspect\x00bearer a", "token"},
		{"https://as.test/introspect\x00bearer b", "token"},
		{"https://as.test/introspect\x00none a", "token"},
		{"https://as.test/tenant/introspect\x00bearer a", "token"},
	} {
		add(pair[0], pair[1])
	}
	for n := range len(long) + 1 {
		add("as", long[:n])
		add("as", long[:n]+"y")
	}
	for i := range 8 * 128 { // one bit differs
		flipped := []byte(long[:128])
		flipped[i/8] ^= 1 << (i % 8)
		add("as", string(flipped))
	}
}

// TestRandomKeysDiffer is F14's last part.
func TestRandomKeysDiffer(t *testing.T) {
	n := 1 << 20
	if testing.Short() || raceEnabled() {
		n = 1 << 16
	}
	k := newKeyer()
	random := rand.NewChaCha8([32]byte{})
	seen := make(map[key]struct{}, n)
	token := make([]byte, 16)
	for range n {
		random.Read(token)
		seen[k.key("as", string(token))] = struct{}{}
	}
	if len(seen) != n {
		t.Errorf("got %d keys for %d tokens, want one each", len(seen), n)
	}
}

// TestKeysAreThisProcess is F19: another key, another process.
func TestKeysAreThisProcess(t *testing.T) {
	one, two := newKeyer(), newKeyer()
	first := one.key("as", "token")
	if one.key("as", "token") != first {
		t.Error("got another key the second time, want the same")
	}
	if two.key("as", "token") == first {
		t.Error("got one key for two processes, want two")
	}
}

// TestKeysInParallel: states of the pool don't mix.
func TestKeysInParallel(t *testing.T) {
	k := newKeyer()
	var want [64]key
	for i := range want {
		want[i] = k.key("as", strings.Repeat("x", i*7))
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 64 * 20 {
				n := (i*5 + worker*11) % len(want)
				if got := k.key("as", strings.Repeat("x", n*7)); got != want[n] {
					t.Errorf("got another key %d, want the same", n)
				}
			}
		})
	}
	wg.Wait()
}

// TestPoolKeepsNoToken looks into everything that stays behind a key.
func TestPoolKeepsNoToken(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100} { // 12 bytes to 1200: less and more than the hash's block
		k := newKeyer()
		state, _ := k.pool.New().(*keyState)
		k.pool.New = func() any { return state } // whether or not the pool gives it back
		token := strings.Repeat("secret-token", n)
		for range 2 { // a fresh state and a used one
			k.key("as", token)
			var held bytes.Buffer
			dump(&held, reflect.ValueOf(state))
			if held.Len() < 200 {
				t.Fatalf("looked at %d bytes only, want at least 200", held.Len())
			}
			if strings.Contains(held.String(), "secret") || strings.Contains(held.String(), "token") {
				t.Errorf("a token of %d bytes is kept, want none", len(token))
			}
		}
	}
}

// dump writes all bytes that v leads to, up to the capacity of slices.
func dump(to *bytes.Buffer, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			dump(to, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			dump(to, v.Field(i))
		}
	case reflect.Slice:
		v = v.Slice(0, v.Cap())
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			dump(to, v.Index(i))
		}
	case reflect.Uint8:
		to.WriteByte(byte(v.Uint()))
	case reflect.Uint32, reflect.Uint64:
		binary.Write(to, binary.BigEndian, v.Uint())
	}
}

func TestTokenRef(t *testing.T) {
	one := newFixture(t, always(nil, nil), nil)
	two := newFixture(t, always(nil, nil), nil)
	ref := one.TokenRef("token")
	if !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(ref) {
		t.Errorf("got reference %q, want eight hex digits", ref)
	}
	if ref != one.TokenRef("token") || ref == one.TokenRef("tokem") || ref == two.TokenRef("token") {
		t.Error("got references that don't tell tokens apart, or tell processes' tokens together, want neither")
	}
}
