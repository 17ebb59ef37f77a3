package shared

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func TestSecondReplicaAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		if v := first.active("t1"); v.Lookup != "" || v.Age != 0 {
			t.Errorf("first: got lookup %q, age %v, want none", v.Lookup, v.Age)
		}
		time.Sleep(20 * time.Second)
		v := second.active("t1")
		if v.Lookup != "shared" || v.Age != 20*time.Second {
			t.Errorf("second: got lookup %q, age %v, want shared, 20s", v.Lookup, v.Age)
		}
		if got := v.Response.Text(introspection.Patient); got != "p1" {
			t.Errorf("patient: got %q, want p1", got)
		}
		as.wantCalls(t, "t1", 1)
		first.counted(1, "shared_cache_lookups_total", "acquired")
		second.counted(1, "shared_cache_lookups_total", "hit")
	})
}

func TestReplicasWithOtherClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		// The writer keeps no patient; the reader's verdict has it all the same.
		writer := newReplica(t, store, as, func(c *Config) {
			c.Source.Decode = func(a introspection.Answer) (*introspection.Response, error) {
				return introspectiontest.Decode(a.Body, introspection.NewClaimSet(introspection.Subject), time.Now())
			}
		})
		reader := newReplica(t, store, as)
		if got := writer.active("t1").Response.Text(introspection.Patient); got != "" {
			t.Errorf("writer's patient: got %q, want none", got)
		}
		if got := reader.active("t1").Response.Text(introspection.Patient); got != "p1" {
			t.Errorf("reader's patient: got %q, want p1", got)
		}
	})
}

func TestOneCallForAllReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		var replicas []*replica
		for range 8 {
			replicas = append(replicas, newReplica(t, store, as, func(c *Config) { c.Once = true }))
		}
		var wg sync.WaitGroup
		for i := range 50 {
			for _, r := range replicas {
				wg.Go(func() {
					if _, err := r.introspect(fmt.Sprint("t", i)); err != nil {
						t.Errorf("t%d: got %v, want an active verdict", i, err)
					}
				})
			}
		}
		wg.Wait()
		for i := range 50 {
			as.wantCalls(t, fmt.Sprint("t", i), 1)
		}
	})
}

func TestJunkNeverReachesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		r.fails("refused", introspection.ErrInactive)
		if got := len(store.verdicts()); got != 0 {
			t.Errorf("keys in the store: got %d, want 0", got)
		}
		as.wantCalls(t, "refused", 0)
	})
}

func TestStoreHoldsNothingReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		r.active("a-token-of-someone")
		r.fails("bad-token", introspection.ErrInactive)
		for key, value := range store.verdicts() {
			if got := len(value) - 1 - 28; got%padding != 0 {
				t.Errorf("%s: got %d bytes beside the seal, want a multiple of %d", key, got, padding)
			}
			dump := key + string(value)
			digest := sha256.Sum256([]byte("a-token-of-someone"))
			for _, secret := range []string{
				"a-token-of-someone", "bad-token", "sub-of-", "patient", "app", "active", "as.example", string(digest[:]),
			} {
				for _, form := range []string{
					secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)),
				} {
					if strings.Contains(dump, form) {
						t.Errorf("%q stands in the store, want nothing readable", form)
					}
				}
			}
		}
	})
}

func TestAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.exp = nil
		writer := newReplica(t, store, as, func(c *Config) { c.NoExpAge = time.Hour })
		reader := newReplica(t, store, as, func(c *Config) { c.NoExpAge = 30 * time.Second })
		limited := newReplica(t, store, as, func(c *Config) { c.NoExpAge, c.MaxAge = time.Hour, 10*time.Second })
		writer.active("t1")
		time.Sleep(9 * time.Second)
		if v := limited.active("t1"); v.Age != 9*time.Second {
			t.Errorf("age: got %v, want 9s: counted from the response, not from its reading", v.Age)
		}
		time.Sleep(20 * time.Second)
		reader.active("t1")
		as.wantCalls(t, "t1", 1)
		time.Sleep(2 * time.Second)
		if v := reader.active("t1"); v.Age != 0 {
			t.Errorf("age: got %v, want 0: the verdict was too old", v.Age)
		}
		as.wantCalls(t, "t1", 2)
		reader.counted(1, "shared_cache_lookups_total", "stale")
	})
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.exp = func() int64 { return time.Now().Add(2 * time.Second).Unix() }
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		first.active("t1")
		// The store's clock doesn't matter.
		store.mu.Lock()
		for key, e := range store.entries {
			store.entries[key] = fakeEntry{value: e.value}
		}
		store.mu.Unlock()
		time.Sleep(3 * time.Second)
		second.fails("t1", introspection.ErrInactive)
	})
}

func TestClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		writer, near, far := newReplica(t, store, as), newReplica(t, store, as), newReplica(t, store, as)
		near.skew, far.skew = -3*time.Second, -6*time.Second
		writer.active("t1")
		if v := near.active("t1"); v.Age != 0 {
			t.Errorf("age by a clock that is 3s behind: got %v, want 0", v.Age)
		}
		as.wantCalls(t, "t1", 1)
		far.active("t1")
		as.wantCalls(t, "t1", 2)
		far.counted(1, "shared_cache_lookups_total", "stale")
	})
}

func TestInactive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		first.fails("bad", introspection.ErrInactive)
		second.fails("bad", introspection.ErrInactive)
		as.wantCalls(t, "bad", 1)
		second.counted(1, "shared_cache_lookups_total", "inactive")
		time.Sleep(maxInactiveAge)
		second.fails("bad", introspection.ErrInactive)
		as.wantCalls(t, "bad", 2)
	})
}

func TestInactiveIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as, func(c *Config) { c.InactiveAge = 0 })
		r.fails("bad", introspection.ErrInactive)
		if got := len(store.verdicts()); got != 0 {
			t.Errorf("keys in the store: got %d, want 0", got)
		}
	})
}

func TestFailureIsKeptForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		as.failing(&introspection.Failure{Kind: introspection.ErrThrottled})
		first.fails("t1", introspection.ErrThrottled)
		as.failing(nil)
		begin := time.Now()
		second.active("t1")
		if took := time.Since(begin); took > time.Second {
			t.Errorf("second: got a verdict after %v, want at once: the lease was given back", took)
		}
	})
}

func TestHolderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		l, err := r.lookup(introspection.Request{Token: "t1"})
		if err != nil {
			t.Fatalf("r.lookup: got error %v, want none", err)
		}
		if found, err := l.claim(t.Context()); found != nil || err != nil {
			t.Fatalf("got %v, %v, want the lease", found, err)
		}
		// Whoever waits gets the lease with enough time left, or is sent away.
		r.fails("t1", introspection.ErrUnavailable)
		as.wantCalls(t, "t1", 0)
		r.active("t1")
		as.wantCalls(t, "t1", 1)
		r.counted(1, "shared_cache_lookups_total", "acquired")
	})
}

func TestNoTimeLeftToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout-time.Millisecond)
		defer cancel()
		_, err := r.Introspect(ctx, introspection.Request{Token: "t1"})
		if !errors.Is(err, introspection.ErrUnavailable) {
			t.Errorf("got %v, want unavailable", err)
		}
		as.wantCalls(t, "t1", 0)
		r.active("t1")
	})
}

func TestPausedHolderWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		for _, token := range []string{"t1", "bad"} {
			r := newReplica(t, store, as, func(c *Config) {
				ask := c.Source.Ask
				c.Source.Ask = func(ctx context.Context, r introspection.Request) (introspection.Answer, error) {
					a, err := ask(ctx, r)
					// Meanwhile the lease ran out, and somebody else's inactive verdict
					// took its place.
					store.wipe()
					return a, err
				}
				elapsed := c.Elapsed
				c.Elapsed = func() time.Duration {
					if as.callsFor(token) > 0 {
						return elapsed() + leaseTTL
					}
					return elapsed()
				}
			})
			_, _ = r.introspect(token)
			if got := store.verdicts(); len(got) != 0 {
				t.Errorf("%s: got %d keys in the store, want none written after the lease", token, len(got))
			}
		}
	})
}

func TestLostResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		store.deaf = 1
		r.active("t1")
		as.wantCalls(t, "t1", 1)
		r.counted(1, "shared_cache_errors_total", "timeout")
		r.counted(1, "shared_cache_lookups_total", "acquired")
	})
}

func TestOtherAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		first := newReplica(t, store, as)
		second := newReplica(t, store, as, func(c *Config) {
			c.Source.Authority = func() string { return "https://other.example" }
		})
		first.active("t1")
		second.active("t1")
		as.wantCalls(t, "t1", 2)
	})
}

func TestAuthorityChangesWhileAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		name := "https://as.example/introspect"
		var mu sync.Mutex
		r := newReplica(t, store, as, func(c *Config) {
			c.Source.Authority = func() string { mu.Lock(); defer mu.Unlock(); return name }
			ask := c.Source.Ask
			c.Source.Ask = func(ctx context.Context, r introspection.Request) (introspection.Answer, error) {
				mu.Lock()
				name = "https://other.example"
				mu.Unlock()
				return ask(ctx, r)
			}
		})
		r.active("t1")
		if got := len(store.verdicts()); got != 0 {
			t.Errorf("keys in the store: got %d, want 0", got)
		}
	})
}

// Nobody asks about a token that a replica gave up waiting for.
func TestAbandonedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.takes = time.Second
		first, second := newReplica(t, store, as), newReplica(t, store, as)
		go first.introspect("t1")
		synctest.Wait()
		abandoned, begin := make(chan struct{}), time.Now()
		time.AfterFunc(100*time.Millisecond, func() { close(abandoned) })
		_, err := second.Introspect(t.Context(), introspection.Request{Token: "t1", Abandoned: abandoned})
		if took := time.Since(begin); !errors.Is(err, introspection.ErrUnavailable) || took != 100*time.Millisecond {
			t.Errorf("got %v after %v, want unavailable after 100ms", err, took)
		}
		time.Sleep(2 * time.Second)
		as.wantCalls(t, "t1", 1)
	})
}
