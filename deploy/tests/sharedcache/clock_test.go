package sharedcache

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStoreClock: the store's clock is set an hour ahead, then back. What a verdict is
// worth is not for that clock to say, and no purge is missed.
func TestStoreClock(t *testing.T) {
	library := os.Getenv("LIBFAKETIME")
	if library == "" {
		t.Fatal("LIBFAKETIME must name a library; run.sh sets it")
	}
	// Of Debian's Redis the allocator gets in the way of the library.
	store := newServer(t, binaryOf(t, "VALKEY_9"), accounts()...)
	clock := filepath.Join(store.directory, "clock")
	overwrite(t, clock, "+0")
	store.environment = []string{"LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=" + clock, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"}
	store.start(t)
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	all := w.replicas(t, 3)
	purges := 0
	purge := func(when, token string) {
		t.Helper()
		if status, body := all[0].purge("?sub=sub-of-" + token); status != 200 || body["published"] != true {
			t.Errorf("purge %s: got %d %v, want 200, published", when, status, body)
		}
		purges++
		for _, s := range all[1:] {
			within(t, 2*time.Second, "the purge "+when, func() bool { return s.metric("purges_total", "feed") == float64(purges) })
		}
	}
	for i, change := range []string{"+0", "+3600", "-3600", "+0"} {
		before := store.do(t, root, "TIME")
		overwrite(t, clock, change)
		if i > 0 {
			eventually(t, "another time at the store", func() bool { return store.do(t, root, "TIME")[:8] != before[:8] })
		}
		name := fmt.Sprint("clock-", i)
		token := w.tokens(name, 3)
		if got := everywhere(all, token); got[200] != len(all)*len(token) {
			t.Errorf("%s: got statuses %v, want 200 only", change, got)
		}
		w.wantCalls(t, token, 1)
		purge(name, token[0]) // its id in the stream may have to lie ahead of the clock
		if got := everywhere(all, token); got[200] != len(all)*len(token) {
			t.Errorf("%s, after the purge: got statuses %v, want 200 only", change, got)
		}
		w.wantCalls(t, token[:1], 2)
		w.wantCalls(t, token[1:], 1)
	}
}
