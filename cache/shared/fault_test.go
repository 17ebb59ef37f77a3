package shared

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

var errRefused = errors.New("connection refused")

func refuse(c *Config) { c.Refuse = true }
func once(c *Config)   { c.Once = true }

func TestStoreDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		store.fault(errRefused, false)
		r := newReplica(t, store, as)
		r.active("t1")
		r.counted(0, "shared_cache_connected")
		r.counted(1, "shared_cache_lookups_total", "skipped")
		store.fault(nil, false)
		time.Sleep(5 * time.Second)
		r.counted(1, "shared_cache_connected")
		// What was found out meanwhile is shared.
		newReplica(t, store, as).active("t1")
		as.wantCalls(t, "t1", 1)
		if lost, back := strings.Count(r.log.String(), "shared cache lost"), strings.Count(r.log.String(), "shared cache back"); lost != 1 || back != 1 {
			t.Errorf("log: got %d lost, %d back, want 1 of each", lost, back)
		}
	})
}

func TestRefusedStoreIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.fault(errRefused, false)
		for i := range 20 {
			r.active(fmt.Sprint("t", i))
		}
		r.counted(1, "shared_cache_errors_total", "connection")
		r.counted(1, "shared_cache_lookups_total", "error")
		r.counted(19, "shared_cache_lookups_total", "skipped")
	})
}

func TestHungStoreIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.fault(nil, true)
		begin := time.Now()
		r.active("t1")
		if took := time.Since(begin); took > 300*time.Millisecond+as.takes {
			t.Errorf("got a verdict after %v, want three timeouts and a call", took)
		}
		begin = time.Now()
		r.active("t2")
		if took := time.Since(begin); took > as.takes {
			t.Errorf("got a verdict after %v, want it without the store", took)
		}
	})
}

// One request goes to see whether the store is back; the others don't wait.
func TestOneGoesToSee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.fault(nil, true)
		r.active("t")
		time.Sleep(closedFor)
		var wg sync.WaitGroup
		begin, slow := time.Now(), make(chan time.Duration, 20)
		for i := range 20 {
			wg.Go(func() {
				if _, err := r.introspect(fmt.Sprint("t", i)); err != nil {
					t.Errorf("r.introspect: got error %v, want none", err)
				}
				if took := time.Since(begin); took > as.takes {
					slow <- took
				}
			})
		}
		wg.Wait()
		if got := len(slow); got > 1 {
			t.Errorf("requests that waited for the store: got %d, want at most 1", got)
		}
	})
}

func TestTooManyOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.fault(nil, true)
		var wg sync.WaitGroup
		for i := range 2 * maxOperations {
			wg.Go(func() { _, _ = r.introspect(fmt.Sprint("t", i)) })
		}
		synctest.Wait()
		store.mu.Lock()
		waiting := store.waiting
		store.mu.Unlock()
		if waiting != maxOperations {
			t.Errorf("operations at once: got %d, want %d", waiting, maxOperations)
		}
		wg.Wait()
	})
}

// A burst waits for its turn: who goes without the store asks a second time.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		store.takes = 20 * time.Millisecond
		var wg sync.WaitGroup
		for i := range 2 * maxOperations {
			for _, r := range []*replica{first, second} {
				wg.Go(func() {
					if _, err := r.introspect(fmt.Sprint("t", i)); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		for i := range 2 * maxOperations {
			as.wantCalls(t, fmt.Sprint("t", i), 1)
		}
	})
}

// One hiccup in which many operations time out is one, not many in a row.
func TestHiccup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.fault(nil, true)
		time.AfterFunc(150*time.Millisecond, func() { store.fault(nil, false) })
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { _, _ = r.introspect(fmt.Sprint("t", i)) })
		}
		wg.Wait()
		r.counted(50, "shared_cache_lookups_total", "acquired")
		if got := strings.Count(r.log.String(), "shared cache lost"); got != 0 {
			t.Errorf("log: got %d times lost, want 0", got)
		}
	})
}

func TestRefuseWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		first, second := newReplica(t, store, as, refuse, once), newReplica(t, store, as, refuse, once)
		store.fault(nil, true)
		for range 3 {
			first.fails("t1", introspection.ErrUnavailable)
			second.fails("t1", introspection.ErrUnavailable)
		}
		as.wantCalls(t, "t1", 0)
		store.fault(nil, false)
		time.Sleep(5 * time.Second)
		first.active("t1")
		second.active("t1")
		as.wantCalls(t, "t1", 1)
	})
}

// With a server that answers once, an inactive verdict got alone proves nothing.
func TestOnceWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		first, second := newReplica(t, store, as, once), newReplica(t, store, as, once)
		store.fault(errRefused, false)
		first.active("t1")
		second.fails("t1", introspection.ErrUnavailable)
		var failure *introspection.Failure
		_, err := second.introspect("t1")
		if !errors.As(err, &failure) || failure.RetryAfter <= 0 {
			t.Errorf("got %v, want a failure that says when to come back", err)
		}
		store.fault(nil, false)
		time.Sleep(leaseTTL - time.Second)
		second.active("t1")
	})
}

func TestActiveWins(t *testing.T) {
	t.Run("published late by one without the store", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store, as := newFakeStore(), newAuthority()
			as.once = true
			slow, holder, third := newReplica(t, store, as), newReplica(t, store, as), newReplica(t, store, as)
			store.fault(errRefused, false)
			slow.active("t1")
			// The store is back, but before slow knows, holder asks and is told what a
			// server says that has spoken.
			store.fault(nil, false)
			holder.operations.gates.all[0].closed = false
			holder.fails("t1", introspection.ErrInactive)
			time.Sleep(2 * time.Second)
			third.active("t1")
			as.wantCalls(t, "t1", 2)
		})
	})
	t.Run("found instead of the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store, as := newFakeStore(), newAuthority()
			as.once = true
			var slow *replica
			holder := newReplica(t, store, as, func(c *Config) {
				ask := c.Source.Ask
				c.Source.Ask = func(ctx context.Context, r introspection.Request) (introspection.Answer, error) {
					store.mu.Lock()
					for key := range store.entries {
						delete(store.entries, key) // evicted
					}
					store.mu.Unlock()
					slow.active(r.Token)
					return ask(ctx, r)
				}
			})
			slow = newReplica(t, store, as)
			if v := holder.active("t1"); v.Lookup != Lookup {
				t.Errorf("lookup: got %q, want %q", v.Lookup, Lookup)
			}
		})
	})
	t.Run("is not replaced by inactive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store, as := newFakeStore(), newAuthority()
			writer := newReplica(t, store, as)
			writer.active("t1")
			l, err := writer.lookup(introspection.Request{Token: "t1"})
			if err != nil {
				t.Fatalf("writer.lookup: got error %v, want none", err)
			}
			l.mayHold = true
			c := &call{cache: writer.Cache, lookup: l}
			v, err := c.inactive(t.Context(), record{obtained: time.Now(), body: []byte(`{"active":false}`)})
			if err != nil || v.Response == nil {
				t.Errorf("got %v, %v, want the active verdict", v, err)
			}
			writer.active("t1")
			as.wantCalls(t, "t1", 1)
		})
	})
}

func TestLeaseLostWithOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as, once, func(c *Config) {
			ask := c.Source.Ask
			c.Source.Ask = func(ctx context.Context, r introspection.Request) (introspection.Answer, error) {
				store.wipe()
				return ask(ctx, r)
			}
		})
		r.fails("bad", introspection.ErrUnavailable)
	})
}

// A verdict obtained alone is older than what somebody found out since.
func TestLatePublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.fault(errRefused, false)
		r.active("t1")
		time.Sleep(leaseTTL + time.Second)
		other := newReplica(t, newFakeStore(), as)
		places, err := placesOf(other.config.Secrets(), "fis", other.config.Source.Authority(), "t1")
		if err != nil {
			t.Fatalf("placesOf: got error %v, want none", err)
		}
		value := places[0].seal(record{obtained: time.Now(), body: []byte(`{"active":false}`)})
		store.overwrite(places[0].key, value)
		store.fault(nil, false)
		time.Sleep(6 * time.Second)
		if got := store.verdicts()[places[0].key]; string(got) != string(value) {
			t.Error("the later verdict was replaced, want it to stand")
		}
	})
}

func TestLeftoversAreBounded(t *testing.T) {
	q := newQueue(nil, func() time.Duration { return 0 })
	for range 2 * maxJobs {
		q.add(&job{keys: []string{"k"}})
	}
	if got := len(q.jobs); got != maxJobs {
		t.Errorf("jobs: got %d, want %d", got, maxJobs)
	}
	for range maxJobs {
		q.add(&job{keys: []string{"k"}, values: [][]byte{make([]byte, 256<<10)}})
	}
	if q.queued > maxQueued {
		t.Errorf("bytes: got %d, want at most %d", q.queued, maxQueued)
	}
	for q.take() != nil {
	}
	if q.queued != 0 {
		t.Errorf("bytes of an empty queue: got %d, want 0", q.queued)
	}
}

func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.takes = time.Second
		r := newReplica(t, store, as)
		ctx, cancel := context.WithTimeout(t.Context(), 3*callTimeout)
		done := make(chan error)
		go func() { _, err := r.Introspect(ctx, introspection.Request{Token: "t1"}); done <- err }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
		r.counted(0, "shared_cache_errors_total", "connection")
		r.counted(0, "shared_cache_errors_total", "timeout")
		if got := len(store.verdicts()); got != 0 {
			t.Errorf("keys in the store: got %d, want 0: the lease is given back", got)
		}
	})
}

func TestSlots(t *testing.T) {
	for key, want := range map[string]int{
		"123456789": 12739, "": 0, "foo": 12182, "{user1000}.following": slotOf("user1000"), "a{}b": slotOf("a{}b"),
		"fis:{fis:feed}:incarnation": slotOf("fis:feed"),
	} {
		if got := slotOf(key); got != want {
			t.Errorf("slot of %q: got %d, want %d", key, got, want)
		}
	}
}

// A node that is away takes its own keys with it.
func TestPartOfClusterAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		cluster := func(c *Config) { c.Sharded = true }
		first, second := newReplica(t, store, as, cluster), newReplica(t, store, as, cluster)
		store.refuses = func(key string) bool { return slotOf(key) < slots/4 && strings.HasPrefix(key, "fis:v1:") }
		for i := range 100 {
			first.active(fmt.Sprint("t", i))
			second.active(fmt.Sprint("t", i))
		}
		shared := 0
		for i := range 100 {
			if as.callsFor(fmt.Sprint("t", i)) == 1 {
				shared++
			}
		}
		if shared < 60 || shared > 90 {
			t.Errorf("tokens that were shared: got %d of 100, want about 75", shared)
		}
		if lost := strings.Count(first.log.String(), "shared cache lost"); lost != 1 {
			t.Errorf("log: got %d times lost, want 1", lost)
		}
	})
}
