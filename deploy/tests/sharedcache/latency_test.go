package sharedcache

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var windows = flag.Int("windows", 3, "seconds with and seconds without a store, in turn, to measure known tokens in")

// sample is what was seen of known tokens in one state of the store.
type sample struct {
	latencies []time.Duration
	cpu       time.Duration // of the sidecar, other requests included
}

func (s *sample) String() string {
	slices.Sort(s.latencies)
	n := len(s.latencies)
	at := func(share float64) time.Duration {
		return s.latencies[min(n-1, int(float64(n)*share))].Round(time.Microsecond)
	}
	return fmt.Sprintf("%d requests, p50 %v, p90 %v, p99 %v, p99.9 %v, %v of processor time for each",
		n, at(.5), at(.9), at(.99), at(.999), s.cpu/time.Duration(n))
}

// processorTime is what the process has used so far.
func (s *sidecar) processorTime() time.Duration {
	s.t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // a hundred ticks a second
}

// TestKnownTokensWhileHung measures requests with tokens that are in memory, beside some
// with others, while the store responds and while it hangs, in turn, so that both see the
// same machine. What it logs is told in docs/performance.md; what it wants is that
// they are all served, from memory.
func TestKnownTokensWhileHung(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	known := w.tokens("known", 100)
	everywhere([]*sidecar{s}, known)
	hits := s.metric("cache_lookups_total", `"hit"`)
	others := w.tokens("other", 2*20**windows)
	var running, hung sample
	for i := range 2 * *windows {
		state := &running
		if i%2 == 1 {
			state = &hung
			store.signal(t, syscall.SIGSTOP)
		}
		before := s.processorTime()
		stop := make(chan struct{})
		var load sync.WaitGroup
		load.Go(func() {
			for _, token := range others[20*i : 20*i+20] {
				s.wantStatus(token, 200)
				time.Sleep(time.Second / 20) // so many a second
			}
			close(stop)
		})
		var mu sync.Mutex
		for range 2 {
			load.Go(func() {
				var latencies []time.Duration
				for j := 0; ; j++ {
					select {
					case <-stop:
						mu.Lock()
						defer mu.Unlock()
						state.latencies = append(state.latencies, latencies...)
						return
					default:
					}
					begin := time.Now()
					s.wantStatus(known[j%len(known)], 200)
					latencies = append(latencies, time.Since(begin))
				}
			})
		}
		load.Wait()
		state.cpu += s.processorTime() - before
		if state == &hung {
			store.signal(t, syscall.SIGCONT)
			s.connected()
		}
	}
	t.Logf("store responds: %v", &running)
	t.Logf("store hangs:    %v", &hung)
	want := float64(len(running.latencies) + len(hung.latencies))
	if got := s.metric("cache_lookups_total", `"hit"`) - hits; got < want {
		t.Errorf("hits in memory: got %v, want %v", got, want)
	}
	if got := s.metric("shared_cache_errors_total", "timeout"); got == 0 {
		t.Error("timeouts: got 0, want some")
	}
}
