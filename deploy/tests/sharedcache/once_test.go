package sharedcache

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestOnce: 8 replicas are asked about 300 tokens at the same time, of which the
// authorization server tells the truth once.
func TestOnce(t *testing.T) {
	for _, name := range []string{"REDIS_7", "VALKEY_8", "VALKEY_9"} {
		t.Run(name, func(t *testing.T) {
			store := startStore(t, binaryOf(t, name))
			w := newWorld(t, true, store.settings(t))
			// A response that is late on a machine that others use too isn't lost.
			w.settings["INTROSPECTION_TIMEOUT"] = "10s"
			w.as.SetAnswer(introspectiontest.Delay(10*time.Millisecond, nil))
			all := w.replicas(t, 8)
			for round := range *rounds {
				tokens := w.tokens(fmt.Sprint("round", round), 300)
				if got := everywhere(all, tokens); got[200] != len(all)*len(tokens) {
					t.Errorf("round %d: got statuses %v, want 200 only", round, got)
				}
				w.wantCalls(t, tokens, 1)
			}
			if t.Failed() {
				explain(t, all)
			}
		})
	}
}

// TestSameVerdict: the second replica asks nobody, and the FHIR server sees the same.
func TestSameVerdict(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	w := newWorld(t, true, store.settings(t))
	all := w.replicas(t, 2)
	token := w.tokens("t", 1)[0]
	_, first := all[0].get(token)
	_, second := all[1].get(token)
	if len(first) == 0 || fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("context headers: got %v, want %v", second, first)
	}
	w.wantCalls(t, []string{token}, 1)
	// A replica that starts later knows it, too.
	late := w.start(t, nil)
	late.connected()
	late.wantStatus(token, 200)
	w.wantCalls(t, []string{token}, 1)
	if got := late.metric("shared_cache_lookups_total", `result="hit"`); got != 1 {
		t.Errorf("shared hits: got %v, want 1", got)
	}
	if got := late.metric("cache_lookups_total", `result="miss"`); got != 1 {
		t.Errorf("misses in memory: got %v, want 1", got)
	}
}

// TestRollingRestart: replicas are replaced one by one while clients ask about
// tokens old and new; none is refused and none fails.
func TestRollingRestart(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	w := newWorld(t, true, store.settings(t))
	var mu sync.Mutex
	all := w.replicas(t, 3)
	pick := func(i int) *sidecar {
		mu.Lock()
		defer mu.Unlock()
		return all[i%len(all)]
	}
	tokens := w.tokens("rolling", 2000)
	var asked, bad atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := c; ; i += 7 {
				select {
				case <-stop:
					return
				default:
				}
				s := pick(i)
				s.inUse.RLock()
				status, _ := s.get(tokens[i%len(tokens)])
				s.inUse.RUnlock()
				if asked.Add(1); status != 200 {
					bad.Add(1)
				}
			}
		})
	}
	// Each restart comes after its share of the requests.
	for i := range all {
		within(t, 20*patience, "requests", func() bool { return asked.Load() > int64(i)**requests/4 })
		fresh := w.start(t, nil)
		mu.Lock()
		old := all[i]
		all[i] = fresh
		mu.Unlock()
		old.inUse.Lock() // the balancer sends it nothing more, and what it has ends
		old.end()
		old.inUse.Unlock()
	}
	within(t, 20*patience, "requests", func() bool { return asked.Load() > *requests })
	close(stop)
	clients.Wait()
	if bad.Load() > 0 {
		t.Errorf("failed requests: got %d of %d, want 0", bad.Load(), asked.Load())
	}
	for _, token := range tokens {
		if got := w.as.IntrospectionsOf(token); got > 1 {
			t.Fatalf("calls about %s: got %d, want at most 1", token, got)
		}
	}
	t.Logf("%d requests", asked.Load())
}

// TestHolderDies: the replica that asks is killed. Nobody asks beside it; who comes
// after its lease is told what the server says by then.
func TestHolderDies(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_8"))
	w := newWorld(t, false, store.settings(t))
	w.settings["INTROSPECTION_TIMEOUT"] = "1s"
	release := make(chan struct{})
	w.as.SetAnswer(introspectiontest.Hold(release, nil))
	holder, other := w.start(t, nil), w.start(t, nil)
	holder.connected()
	other.connected()
	token := w.tokens("t", 1)[0]
	go holder.get(token)
	eventually(t, "a call", func() bool { return w.as.IntrospectionsOf(token) == 1 })
	holder.kill()
	close(release)
	w.as.SetAnswer(nil)
	begin := time.Now()
	status, _ := other.get(token)
	took := time.Since(begin)
	// The lease lasts 4 s, a request that waits for it 4 s.
	if status != 200 && status != 503 || took < 2*time.Second {
		t.Errorf("got status %d after %v, want it to wait for the lease", status, took)
	}
	eventually(t, "a verdict", func() bool { status, _ := other.get(token); return status == 200 })
	w.wantCalls(t, []string{token}, 2)
}
