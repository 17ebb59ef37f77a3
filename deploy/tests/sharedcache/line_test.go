package sharedcache

import (
	"fmt"
	"maps"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lineFaults are what a network can do to the store's connections, and what replicas
// count then. Those without a reason are to be put up with: the store is still there.
var lineFaults = []struct {
	fault
	reason string
}{
	{fault{"latency", "downstream", `{"latency":20}`}, ""},
	{fault{"slicer", "downstream", `{"average_size":400,"size_variation":200,"delay":10}`}, ""},
	{fault{"slicer", "upstream", `{"average_size":100,"size_variation":50,"delay":10}`}, ""},
	{fault{"slow_close", "downstream", `{"delay":500}`}, ""},
	{fault{"latency", "downstream", `{"latency":400}`}, "timeout"},
	{fault{"latency", "upstream", `{"latency":400}`}, "timeout"},
	{fault{"timeout", "downstream", `{"timeout":0}`}, "timeout"},
	{fault{"timeout", "upstream", `{"timeout":0}`}, "timeout"},
	{fault{"bandwidth", "downstream", `{"rate":1}`}, "timeout"},
	{fault{"timeout", "downstream", `{"timeout":20}`}, "connection"},
	{fault{"reset_peer", "downstream", `{"timeout":0}`}, "connection"},
	{fault{"reset_peer", "upstream", `{"timeout":0}`}, "connection"},
	{fault{"limit_data", "downstream", `{"bytes":4000}`}, "connection"},
	{fault{"limit_data", "upstream", `{"bytes":4000}`}, "connection"},
	{fault{}, "connection"},
}

// lineWorld is one with a line to its store.
func lineWorld(t *testing.T, once bool) (*world, *line, *server) {
	t.Helper()
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	w := newWorld(t, once, store.settings(t))
	l := newLine(t, store.address)
	w.settings["SHARED_CACHE_ADDRESSES"] = l.address
	return w, l, store
}

// TestBrokenLine: whatever the network does, nobody is refused for it, nobody waits
// for longer than for the authorization server, and what replicas find out for
// themselves meanwhile is shared afterwards.
func TestBrokenLine(t *testing.T) {
	t.Parallel()
	w, l, store := lineWorld(t, false)
	root := store.root(t)
	all := w.replicas(t, 2)
	known := w.tokens("known", 5)
	everywhere(all, known)
	client.CloseIdleConnections() // each has its goroutines
	goroutines := all[0].metric("go_goroutines")
	sum := len(known)
	for i, f := range lineFaults {
		t.Run(f.String(), func(t *testing.T) {
			errors := func() float64 {
				return all[0].metric("shared_cache_errors_total", f.reason) + all[1].metric("shared_cache_errors_total", f.reason)
			}
			before := errors()
			l.breakBy(t, f.fault)
			tokens := w.tokens(fmt.Sprint("fault-", i), 40)
			begin := time.Now()
			if got := everywhere(all, append(tokens, known...)); got[200] != len(all)*(len(tokens)+len(known)) {
				t.Errorf("got statuses %v, want 200 only", got)
			}
			// The introspection itself takes no time here.
			if took := time.Since(begin); took > 2300*time.Millisecond {
				t.Errorf("slowest: got %v, want at most an introspection and 0.3s", took)
			}
			if f.reason == "" {
				w.wantCalls(t, tokens, 1)
				if got := errors() - before; got != 0 {
					t.Errorf("errors: got %v, want 0", got)
				}
			} else {
				eventually(t, "errors", func() bool { return errors() > before })
			}
			l.mend(t)
			for _, s := range all {
				s.connected()
			}
			sum += len(tokens)
			eventually(t, "what was found out meanwhile is shared", func() bool { return len(store.verdicts(t, root)) == sum })
			eventually(t, "no lease is left", func() bool { return store.leases(t, root) == 0 })
		})
	}
	late := w.start(t, nil)
	late.connected()
	calls := w.as.Introspections()
	for i := range lineFaults {
		for j := range 40 {
			late.wantStatus(fmt.Sprintf("fault-%d-%d", i, j), 200)
		}
	}
	if got := w.as.Introspections() - calls; got != 0 {
		t.Errorf("calls about what others knew: got %d, want 0", got)
	}
	client.CloseIdleConnections()
	eventually(t, "goroutines as before", func() bool { return all[0].metric("go_goroutines") < goroutines+20 })
}

// TestBrokenLineOnce: with refuse, no token of a server that answers once is used up
// or called inactive, whatever the network does and however much of it gets through.
func TestBrokenLineOnce(t *testing.T) {
	t.Parallel()
	w, l, _ := lineWorld(t, true)
	w.settings["SHARED_CACHE_ON_FAILURE"] = "refuse"
	all := w.replicas(t, 2)
	known := w.tokens("known", 5)
	everywhere(all, known)
	for i, f := range lineFaults {
		t.Run(f.String(), func(t *testing.T) {
			tokens := w.tokens(fmt.Sprint("fault-", i), 40)
			statuses := map[int]int{}
			ask := func() bool {
				got := everywhere(all, tokens)
				maps.Copy(statuses, got)
				return got[200] == len(all)*len(tokens)
			}
			var first sync.WaitGroup
			first.Go(func() { ask() }) // what is under way when it breaks
			l.breakBy(t, f.fault)
			first.Wait()
			served := ask()
			if f.reason == "" && !served {
				t.Errorf("got statuses %v, want 200 only", statuses)
			}
			if got := everywhere(all, known); got[200] != len(all)*len(known) {
				t.Errorf("known tokens: got statuses %v, want 200 only", got)
			}
			l.mend(t)
			eventually(t, "verdicts", ask)
			delete(statuses, 200)
			delete(statuses, 503)
			if len(statuses) > 0 {
				t.Errorf("got statuses %v too, want 200 and 503 with Retry-After only", statuses)
			}
			w.wantCalls(t, tokens, 1)
		})
	}
}

// TestShortOutages: without refuse, too, a short outage costs no token of a server that
// answers once, whatever it comes from.
func TestShortOutages(t *testing.T) {
	t.Parallel()
	store := startStore(t, binaryOf(t, "VALKEY_9"), "appendonly yes", "appendfsync always")
	w := newWorld(t, true, store.settings(t))
	// What is late on a machine that others use too isn't lost.
	w.settings["INTROSPECTION_TIMEOUT"] = "5s"
	l := newLine(t, store.address)
	w.settings["SHARED_CACHE_ADDRESSES"] = l.address
	all := w.replicas(t, 3)
	root := store.root(t)
	tries := 0
	try := func(name string, begin, end func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			tries++
			tokens := w.tokens(fmt.Sprint("try-", tries), 100)
			var halves sync.WaitGroup
			statuses := make([]map[int]int, 2)
			ask := func(half int) { statuses[half] = everywhere(all, tokens[50*half:50*half+50]) }
			halves.Go(func() { ask(0) }) // under way when it begins
			begin(t)
			halves.Go(func() { ask(1) })
			time.Sleep(700 * time.Millisecond) // how long it lasts
			end(t)
			halves.Wait()
			for _, got := range statuses {
				if got[200] != len(all)*50 {
					t.Errorf("got statuses %v, want 200 only", got)
				}
			}
			w.wantCalls(t, tokens, 1)
			if t.Failed() {
				explain(t, all)
			}
		})
	}
	for _, f := range lineFaults {
		try(f.String(), func(t *testing.T) { l.breakBy(t, f.fault) }, l.mend)
	}
	try("stopped", func(t *testing.T) { store.signal(t, syscall.SIGSTOP) }, func(t *testing.T) { store.signal(t, syscall.SIGCONT) })
	try("connections cut", func(t *testing.T) {
		for range 10 {
			store.do(t, root, "CLIENT", "KILL", "USER", "fis")
			time.Sleep(20 * time.Millisecond) // that they come back
		}
	}, func(*testing.T) {})
	try("restarted", func(*testing.T) { store.kill() }, store.start)
}

// TestStartBehindBrokenLine: a replica starts, is ready and serves, whatever its first
// connection meets, and shares as soon as it can.
func TestStartBehindBrokenLine(t *testing.T) {
	t.Parallel()
	w, l, _ := lineWorld(t, false)
	first := w.replicas(t, 1)[0]
	for i, f := range lineFaults {
		if f.reason == "" {
			continue
		}
		l.breakBy(t, f.fault)
		s := w.start(t, nil)
		s.wantStatus(w.tokens(fmt.Sprint("alone-", i), 1)[0], 200)
		l.mend(t)
		s.connected()
		first.connected()
		tries := 0
		eventually(t, "a token asked about once", func() bool {
			tries++
			token := w.tokens(fmt.Sprintf("shared-%d-%d", i, tries), 1)
			everywhere([]*sidecar{first, s}, token)
			return w.as.IntrospectionsOf(token[0]) == 1
		})
		s.end()
		if t.Failed() {
			t.Fatalf("after %v", f)
		}
	}
}
