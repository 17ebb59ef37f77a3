package sharedcache

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/rueidis"
)

// secretsOf are what each token and its user can be known by; the random part comes
// first, so that no two begin alike.
func secretsOf(n int) (tokens []string, claims []map[string]string) {
	for range n {
		tokens = append(tokens, rand.Text())
		claims = append(claims, map[string]string{
			"sub": rand.Text() + "|user", "client_id": rand.Text() + "/client", "patient": rand.Text(),
			"scope": rand.Text() + "/*.rs patient/*.read",
		})
	}
	return tokens, claims
}

// TestDump: nothing that any of 10,000 tokens, their users, patients, clients and
// scopes can be known by stands in the store, in what it wrote to disk on the way, or
// in the names of its keys, however it is written.
func TestDump(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"), "rdbcompression no", "appendonly yes")
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	tokens, claims := secretsOf(10_000)
	wanted := search{}
	for i, token := range tokens {
		all := w.as.Claims()
		for name, value := range claims[i] {
			all[name] = value
			wanted.add(value)
		}
		wanted.add(token)
		w.as.AddToken(token, all)
	}
	for _, common := range []string{"module-7", "p.jansen", "Practitioner/", "patient/", "fhir.example", `"active"`, w.as.URL, "/introspect"} {
		wanted.add(common)
	}
	for batch := range slices.Chunk(tokens, 500) {
		if got := everywhere([]*sidecar{s}, batch); got[200] != len(batch) {
			t.Fatalf("got statuses %v, want 200 only", got)
		}
	}
	eventually(t, "all verdicts", func() bool { return len(store.verdicts(t, root)) == len(tokens) })
	for _, name := range []string{"sub", "client_id", "patient"} {
		if status, _ := s.purge("?" + name + "=" + url.QueryEscape(claims[0][name])); status != 200 {
			t.Errorf("purge: got status %d, want 200", status)
		}
	}
	written := store.written(t, root)
	if len(written) < 2*len(tokens)*512 {
		t.Fatalf("files of the store: got %d bytes, want all verdicts in them, twice", len(written))
	}
	if found := wanted.in(written); len(found) > 0 {
		t.Errorf("got %q in the store, want nothing readable", found)
	}
	// The search would have found any.
	hidden := base64.StdEncoding.EncodeToString([]byte("x" + claims[9_999]["patient"]))
	store.do(t, root, "SET", "planted", hidden)
	if found := wanted.in(store.written(t, root)); len(found) == 0 {
		t.Errorf("got nothing, want %q found, which was planted", hidden)
	}
	sizes := map[string]bool{}
	for _, key := range store.verdicts(t, root)[:1000] {
		sizes[store.do(t, root, "STRLEN", key)] = true
	}
	if len(sizes) > 2 {
		t.Errorf("lengths of values: got %v, want a multiple of 256 and the seal", sizes)
	}
}

// written returns what the store has on disk: a snapshot of now, and every command
// that changed anything.
func (s *server) written(t *testing.T, root rueidis.Client) (all []byte) {
	t.Helper()
	s.do(t, root, "SAVE")
	err := filepath.WalkDir(s.directory, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "conf" {
			return err
		}
		content, err := os.ReadFile(path)
		all = append(all, content...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
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

// TestForeignValues: a writer to the store puts what a replica has no room for, or what
// isn't a value, in the place of a verdict. That token is asked about anew; others stay
// shared, and who is known is served.
func TestForeignValues(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	known := w.tokens("known", 1)[0]
	s.wantStatus(known, 200)
	for i, foreign := range [][]string{
		{"SETRANGE", "16000000", "x"}, // longer than all that one response may have
		{"SETRANGE", "400000", "x"},
		{"RPUSH", "x"},
		{"XADD", "*", "e", "x"},
		{"HSET", "L", "x"},
	} {
		token := w.tokens(fmt.Sprint("foreign-", i), 1)
		before := store.verdicts(t, root)
		s.wantStatus(token[0], 200)
		place := slices.DeleteFunc(store.verdicts(t, root), func(key string) bool { return slices.Contains(before, key) })
		if len(place) != 1 {
			t.Fatalf("keys of one verdict: got %d, want 1", len(place))
		}
		store.do(t, root, "DEL", place[0])
		store.do(t, root, append([]string{foreign[0], place[0]}, foreign[1:]...)...)
		late := w.start(t, nil)
		late.connected()
		late.wantStatus(token[0], 200)
		w.wantCalls(t, token, 2)
		if foreign[0] != "SETRANGE" && late.log.count("shared cache lost") > 0 {
			t.Errorf("%s: got the store lost for a single key, want it used for others", foreign[0])
		}
		late.connected()
		late.wantStatus(known, 200)
		s.wantStatus(known, 200)
		late.end()
	}
	w.wantCalls(t, []string{known}, 1)
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

// leases counts the verdicts that are being asked for.
func (s *server) leases(t *testing.T, root rueidis.Client) (n int) {
	t.Helper()
	for _, name := range s.verdicts(t, root) {
		if s.do(t, root, "STRLEN", name) == "33" {
			n++
		}
	}
	return n
}
