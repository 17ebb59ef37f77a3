package sharedcache

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/rueidis"
)

// TestDump: nothing that a token, a user or a patient can be known by stands in the
// store, however it is written.
func TestDump(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"), "rdbcompression no")
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	tokens := w.tokens("dumped", 1000)
	if got := everywhere([]*sidecar{s}, tokens); got[200] != len(tokens) {
		t.Fatalf("got statuses %v, want 200 only", got)
	}
	s.purge("?sub=sub-of-" + tokens[0])
	store.do(t, root, "SAVE")
	dump, err := os.ReadFile(filepath.Join(store.directory, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	if len(dump) < len(tokens)*512 {
		t.Fatalf("dump: got %d bytes, want all verdicts in it", len(dump))
	}
	secrets := append([]string{
		"sub-of-", "module-7", "p.jansen", "Practitioner", "patient/", "Task", "fhir.example", "active", w.as.URL, "introspect",
	}, tokens...)
	for _, secret := range secrets {
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
			base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if bytes.Contains(dump, []byte(form)) {
				t.Errorf("%q stands in the dump, want nothing readable", form)
			}
		}
	}
	sizes := map[string]bool{}
	for _, key := range store.keys(t, root) {
		if strings.HasPrefix(key, "fis:v1:") {
			sizes[store.do(t, root, "STRLEN", key)] = true
		}
	}
	if len(sizes) > 2 {
		t.Errorf("lengths of values: got %v, want a multiple of 256 and the seal", sizes)
	}
}

// TestForgery: a writer to the store who has a token of his own gets nothing that
// is another's.
func TestForgery(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	all := w.replicas(t, 2)
	token := w.tokens("victim", 1)
	all[0].wantStatus(token[0], 200)
	victim := store.verdicts(t, root)[0]
	all[0].wantStatus("his-own-dead-token", 401)
	var own string
	for _, key := range store.verdicts(t, root) {
		if key != victim {
			own = key
		}
	}
	store.do(t, root, "COPY", victim, own, "REPLACE")
	all[1].wantStatus("his-own-dead-token", 401)
	if got := all[1].metric("shared_cache_lookups_total", "undecryptable"); got != 1 {
		t.Errorf("undecryptable: got %v, want 1", got)
	}
	if got := all[1].log.count("doesn't open"); got != 1 {
		t.Errorf("log lines: got %d, want 1", got)
	}
	// Junk in the place of a verdict is replaced by one.
	store.do(t, root, "SET", victim, "junk")
	all[1].wantStatus(token[0], 200)
	late := w.start(t, nil)
	late.connected()
	late.wantStatus(token[0], 200)
	w.wantCalls(t, token, 2)
}

// keys returns all keys of the store.
func (s *server) keys(t *testing.T, root rueidis.Client) (keys []string) {
	t.Helper()
	keys, err := root.Do(context.Background(), root.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// verdicts returns the names of verdicts and leases.
func (s *server) verdicts(t *testing.T, root rueidis.Client) (names []string) {
	t.Helper()
	for _, key := range s.keys(t, root) {
		if strings.HasPrefix(key, "fis:v1:") {
			names = append(names, key)
		}
	}
	return names
}
