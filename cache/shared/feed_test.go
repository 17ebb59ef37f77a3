package shared

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

func (r *replica) publish(f cache.Filter) {
	r.t.Helper()
	if n, _, err := r.Purge(r.t.Context(), f, "admin"); err != nil || n != 7 {
		r.t.Fatalf("purging: got %d, %v, want 7 and no error", n, err)
	}
	synctest.Wait()
}

func TestPurgeReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		first.active("t1")
		first.active("t2")
		digest := sha256.Sum256([]byte("t1"))
		want := cache.Filter{TokenSHA256: &digest, Subject: "s", ClientID: "c", Patient: "p"}
		first.publish(want)
		if second.purges() != 1 || first.purges() != 0 {
			t.Fatalf("purges: got %d here, %d there, want 0 and 1", first.purges(), second.purges())
		}
		if got := second.purged[0]; *got.TokenSHA256 != digest || got.Subject != "s" || got.ClientID != "c" || got.Patient != "p" {
			t.Errorf("filter: got %+v, want %+v", got, want)
		}
		// What stands in the store is believed by nobody who knows of the purge.
		first.publish(cache.Filter{Subject: "sub-of-t1"})
		late := newReplica(t, store, as)
		late.active("t1")
		late.active("t2")
		first.active("t1")
		as.wantCalls(t, "t1", 2)
		as.wantCalls(t, "t2", 1)
		late.counted(1, "shared_cache_lookups_total", "stale")
	})
}

func TestPurgeOfEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		first.active("t1")
		second.publish(cache.Filter{})
		first.active("t1")
		second.active("t1")
		as.wantCalls(t, "t1", 2)
	})
}

// A response asked for before a purge is older than it, however late it comes.
func TestPurgeOvertakesAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.takes = time.Second
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		done := make(chan error)
		go func() { _, err := first.introspect("t1"); done <- err }()
		synctest.Wait()
		second.publish(cache.Filter{Patient: "p1"})
		if err := <-done; err != nil {
			t.Fatalf("got error %v, want none", err)
		}
		second.active("t1")
		as.wantCalls(t, "t1", 2)
	})
}

func TestReplayedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		first.publish(cache.Filter{})
		first.active("t1")
		store.mu.Lock()
		values := store.streams["fis:feed"][0].Values
		store.mu.Unlock()
		if _, err := store.Append(t.Context(), "fis:feed", values); err != nil {
			t.Fatalf("store.Append: got error %v, want none", err)
		}
		synctest.Wait()
		if got := second.purges(); got != 1 {
			t.Errorf("purges: got %d, want 1", got)
		}
		second.active("t1")
		as.wantCalls(t, "t1", 1)
	})
}

func TestForeignEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		// Sealed without the secret, with another, for another stream, not at all.
		other := testSecret(t, "z")
		for _, values := range [][][]byte{
			nil, {nil}, {[]byte("E")}, {[]byte(`{"id":"x"}`)},
		} {
			if _, err := store.Append(t.Context(), "fis:feed", values); err != nil {
				t.Fatalf("store.Append: got error %v, want none", err)
			}
		}
		for _, s := range []struct {
			secrets Secrets
			stream  string
		}{{other, "fis:feed"}, {testSecret(t, "a"), "other:feed"}} {
			values, err := newEvent(cache.Filter{}, "admin").seal(s.secrets, s.stream)
			if err != nil {
				t.Fatalf("seal: got error %v, want none", err)
			}
			if _, err := store.Append(t.Context(), "fis:feed", values); err != nil {
				t.Fatalf("store.Append: got error %v, want none", err)
			}
		}
		synctest.Wait()
		if got := r.purges(); got != 0 {
			t.Errorf("purges: got %d, want 0", got)
		}
		r.counted(6, "shared_cache_errors_total", "other")
		if got := strings.Count(r.log.String(), "doesn't open"); got != 1 {
			t.Errorf("log lines: got %d, want 1", got)
		}
		r.active("t1")
		newReplica(t, store, as).active("t1")
		as.wantCalls(t, "t1", 1)
	})
}

func TestFeedCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		first.active("t1")
		store.fault(errRefused, false)
		if _, _, err := first.Purge(t.Context(), cache.Filter{Subject: "sub-of-t1"}, "admin"); err == nil {
			t.Error("got no error, want one: the feed can't be reached")
		}
		time.Sleep(40 * time.Second)
		if age := second.feed.age(); age < 35*time.Second {
			t.Errorf("age of the feed: got %v, want at least 35s", age)
		}
		store.fault(nil, false)
		time.Sleep(10 * time.Second)
		if got := second.purges(); got != 1 {
			t.Errorf("purges: got %d, want 1: what couldn't be published is as soon as it can", got)
		}
		if age := second.feed.age(); age > feedBlock {
			t.Errorf("age of the feed: got %v, want at most %v", age, feedBlock)
		}
		first.active("t1")
		as.wantCalls(t, "t1", 2)
	})
}

func TestWipedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		for range 3 {
			first.publish(cache.Filter{Subject: "x"})
		}
		store.wipe()
		store.serial = 0 // ids begin again, below those that were read
		time.Sleep(2 * feedBlock)
		first.counted(1, "shared_cache_resets_total")
		second.counted(1, "shared_cache_resets_total")
		first.active("t1")
		second.active("t1")
		as.wantCalls(t, "t1", 1)
		first.publish(cache.Filter{Subject: "sub-of-t1"})
		if got := second.purges(); got != 4 {
			t.Errorf("purges: got %d, want 4", got)
		}
		second.active("t1")
		as.wantCalls(t, "t1", 2)
	})
}

// A purge published into a store that is wiped before anybody read it comes again.
func TestWipedBeforeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		event := newEvent(cache.Filter{Subject: "x"}, "admin")
		first.feed.events.publishing(event)
		first.feed.events.published(event) // and lost
		time.Sleep(5 * feedBlock)
		if got := second.purges(); got != 1 {
			t.Errorf("purges: got %d, want 1", got)
		}
		if got := len(first.feed.events.unpublished()); got != 0 {
			t.Errorf("unpublished: got %d, want 0", got)
		}
	})
}

func TestUnknownIncarnation(t *testing.T) {
	e := newEvents()
	e.begin(incarnation{1})
	if !e.purged(position{incarnation: incarnation{2}}, [32]byte{}, nil) {
		t.Error("a position in a store nobody knows: got believed, want not")
	}
	if e.purged(e.position(), [32]byte{}, nil) {
		t.Error("our own position: got not believed, want believed")
	}
}

func TestForgottenEvents(t *testing.T) {
	e := newEvents()
	e.begin(incarnation{1})
	old := e.position()
	var middle position
	for i := range uint64(maxEvents + 10) {
		e.reach(1, i+1)
		e.add(feedEvent{Filter: cache.Filter{Subject: "nobody"}, id: fmt.Sprint(i)})
		if i == 20 {
			middle = e.position()
		}
	}
	if got := len(e.kept); got != maxEvents {
		t.Errorf("kept: got %d, want %d", got, maxEvents)
	}
	if got := len(e.known); got != maxEvents {
		t.Errorf("known: got %d, want %d", got, maxEvents)
	}
	if !e.purged(old, [32]byte{}, nil) || !e.purged(position{}, [32]byte{}, nil) {
		t.Error("older than all that is remembered: got believed, want not")
	}
	if e.purged(middle, [32]byte{}, nil) {
		t.Error("inside of what is remembered: got not believed, want believed")
	}
}

// The store keeps the last events only; a replica that starts later can't know
// what was dropped.
func TestLateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first := newReplica(t, store, as)
		first.active("t1")
		store.mu.Lock()
		for range valkey.KeptEvents {
			store.serial++
			store.streams["fis:feed"] = append(store.streams["fis:feed"], valkey.Event{ID: fmt.Sprintf("1-%d", store.serial+5)})
		}
		store.mu.Unlock()
		late := newReplica(t, store, as)
		if !late.Connected() {
			t.Fatal("got a feed that isn't read to its end, want it read at once")
		}
		late.active("t1")
		as.wantCalls(t, "t1", 2)
	})
}

// A purge that a replica can't know of yet must not be missed by it.
func TestFeedUnreadAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		newReplica(t, store, as).active("t1")
		store.unread = errRefused
		late := newReplica(t, store, as)
		late.active("t1")
		as.wantCalls(t, "t1", 2)
		late.counted(0, "shared_cache_connected")
		late.counted(1, "shared_cache_lookups_total", "skipped")
	})
}
