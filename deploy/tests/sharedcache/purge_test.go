package sharedcache

import (
	"testing"
	"time"
)

// TestPurge: a purge on one replica is one on all, within a second, and what was
// purged is asked about again once for all.
func TestPurge(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	all := w.replicas(t, 3)
	tokens := w.tokens("t", 2)
	everywhere(all, tokens)
	status, body := all[0].purge("?sub=sub-of-" + tokens[0])
	if status != 200 || body["purged"] != 1.0 || body["published"] != true || len(body) != 2 {
		t.Errorf("got %d %v, want 200, purged 1, published true", status, body)
	}
	for _, s := range all[1:] {
		within(t, time.Second, "the purge", func() bool {
			return s.metric("cache_evictions_total", `"purged"`) == 1 && s.metric("purges_total", "feed") == 1
		})
	}
	everywhere(all, tokens)
	w.wantCalls(t, tokens[:1], 2)
	w.wantCalls(t, tokens[1:], 1)

	// A replica whose connections are cut catches up.
	store.do(t, root, "CLIENT", "KILL", "USER", "fis")
	if status, _ := all[0].purge(""); status != 200 {
		status, _ = all[0].purge("") // the first may meet the cut connection
		if status != 200 {
			t.Errorf("got status %d, want 200", status)
		}
	}
	for _, s := range all[1:] {
		within(t, 5*time.Second, "the purge", func() bool { return s.metric("purges_total", "feed") >= 2 })
	}
	everywhere(all, tokens[:1])
	w.wantCalls(t, tokens[:1], 3)
}

// TestPurgeWithoutStore: the purge here is made, and the others are told later.
func TestPurgeWithoutStore(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"), "appendonly yes")
	w := newWorld(t, false, store.settings(t))
	w.settings["AUDIT_LOG"] = "stdout"
	all := w.replicas(t, 2)
	token := w.tokens("t", 1)
	everywhere(all, token)
	store.kill()
	status, body := all[0].purge("?sub=sub-of-" + token[0])
	if status != 503 || body["purged"] != 1.0 || body["published"] != false {
		t.Errorf("got %d %v, want 503, purged 1, published false", status, body)
	}
	eventually(t, "an audit record", func() bool { return all[0].log.count(`"cache_purge"`) == 1 })
	store.start(t)
	eventually(t, "the purge", func() bool { return all[1].metric("purges_total", "feed") == 1 })
	if got := all[1].metric("purge_feed_age_seconds"); got > 5 {
		t.Errorf("age of the feed: got %v, want at most 5", got)
	}
	everywhere(all, token)
	w.wantCalls(t, token, 2)
}
