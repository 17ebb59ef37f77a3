package sharedcache

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestFailoverDuringLease: the master dies while a replica asks on behalf of all. What
// it is told reaches the others through the next master, and nobody asks beside it.
func TestFailoverDuringLease(t *testing.T) {
	master, replica, settings := startSentinels(t)
	root := replica.root(t)
	w := newWorld(t, true, settings)
	w.settings["SHARED_CACHE_ON_FAILURE"] = "refuse"
	w.settings["INTROSPECTION_TIMEOUT"] = "10s"
	all := w.replicas(t, 2)
	token := w.tokens("t", 1)
	release := make(chan struct{})
	w.as.SetAnswer(introspectiontest.Hold(release, nil))
	holder := make(chan int, 1)
	go func() {
		status, _ := all[0].get(token[0])
		holder <- status
	}()
	eventually(t, "a call", func() bool { return w.as.IntrospectionsOf(token[0]) == 1 })
	eventually(t, "the lease at the replica", func() bool { return len(replica.verdicts(t, root)) == 1 })
	master.kill()
	waiter := make(chan int, 1)
	go func() {
		status, _ := all[1].get(token[0])
		waiter <- status
	}()
	eventually(t, "a new master", func() bool {
		// One that becomes the master cuts its connections.
		role, err := root.Do(t.Context(), root.B().Arbitrary("ROLE").Build()).ToAny()
		return err == nil && strings.Contains(fmt.Sprint(role), "master")
	})
	close(release)
	if got := <-holder; got != 200 {
		t.Errorf("who asked: got status %d, want 200", got)
	}
	if got := <-waiter; got != 200 && got != 503 {
		t.Errorf("who waited: got status %d, want 200 or, if the store is away for long, 503", got)
	}
	eventually(t, "the verdict everywhere", func() bool { return everywhere(all, token)[200] == 2 })
	w.wantCalls(t, token, 1)
}

// TestSlotsMove: a cluster is resharded under load. Nothing is asked about twice: what
// stands in a slot that moves goes with it.
func TestSlotsMove(t *testing.T) {
	nodes, settings := startCluster(t)
	w := newWorld(t, true, settings)
	w.settings["SHARED_CACHE_ON_FAILURE"] = "refuse"
	w.settings["INTROSPECTION_TIMEOUT"] = "10s"
	all := w.replicas(t, 2)
	before := w.tokens("before", 60)
	everywhere(all[:1], before)
	from, to := nodes[0], nodes[1]
	fromRoot, toRoot, others := from.root(t), to.root(t), nodes[2].root(t)
	names := slices.DeleteFunc(from.verdicts(t, fromRoot), func(name string) bool { return strings.Contains(name, "feed") })
	if len(names) < 5 {
		t.Fatalf("verdicts on the first node: got %d, want about twenty", len(names))
	}
	// New tokens all the while, of which some stand in slots that move.
	meanwhile := w.tokens("meanwhile", 200)
	asked := make(chan map[int]int)
	go func() {
		count := map[int]int{}
		for i := range meanwhile {
			for status, n := range everywhere(all, meanwhile[i:i+1]) {
				count[status] += n
			}
		}
		asked <- count
	}()
	ids := map[*server]string{}
	for node, root := range map[*server]rueidis.Client{from: fromRoot, to: toRoot} {
		ids[node] = node.do(t, root, "CLUSTER", "MYID")
	}
	host, port, _ := net.SplitHostPort(to.address)
	for _, name := range names {
		slot := from.do(t, fromRoot, "CLUSTER", "KEYSLOT", name)
		to.do(t, toRoot, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from])
		from.do(t, fromRoot, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
		everywhere(all[1:], before[:5]) // while it is neither here nor there
		for _, key := range strings.Fields(strings.Trim(from.do(t, fromRoot, "CLUSTER", "GETKEYSINSLOT", slot, "100"), "[]")) {
			from.do(t, fromRoot, "MIGRATE", host, port, key, "0", "5000", "AUTH2", "root", "root")
		}
		for node, root := range map[*server]rueidis.Client{to: toRoot, from: fromRoot, nodes[2]: others} {
			node.do(t, root, "CLUSTER", "SETSLOT", slot, "NODE", ids[to])
		}
	}
	got := <-asked
	if got[200]+got[503] != len(all)*len(meanwhile) || got[503] > len(all)*len(meanwhile)/10 {
		t.Errorf("meanwhile: got statuses %v, want 200, and 503 for a few at most", got)
	}
	late := w.start(t, nil)
	late.connected()
	everyone := append(all, late)
	tokens := append(before, meanwhile...)
	eventually(t, "all verdicts everywhere", func() bool { return everywhere(everyone, tokens)[200] == len(everyone)*len(tokens) })
	w.wantCalls(t, tokens, 1)
	if lost := all[0].log.count("shared cache lost"); lost > 0 {
		t.Logf("lost %d times", lost)
	}
}

// TestEvicted: a full store throws a lease away. Two replicas ask then, and what the one
// is told that is told the truth ends up with both.
func TestEvicted(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	root := store.root(t)
	w := newWorld(t, true, store.settings(t))
	w.settings["INTROSPECTION_TIMEOUT"] = "10s"
	all := w.replicas(t, 2)
	token := w.tokens("t", 1)
	release := make(chan struct{})
	w.as.SetAnswer(introspectiontest.Hold(release, nil))
	statuses := make(chan int, 2)
	ask := func(s *sidecar) {
		status, _ := s.get(token[0])
		statuses <- status
	}
	go ask(all[0])
	eventually(t, "a call", func() bool { return w.as.IntrospectionsOf(token[0]) == 1 })
	go ask(all[1])
	store.do(t, root, "DEL", store.verdicts(t, root)[0])
	eventually(t, "another call", func() bool { return w.as.IntrospectionsOf(token[0]) == 2 })
	close(release)
	// The other can't know that it had no lease of its own, and refuses once, if the truth
	// isn't there by then.
	if one, other := <-statuses, <-statuses; one != 200 && other != 200 {
		t.Errorf("got statuses %d and %d, want 200 for the one that was told the truth", one, other)
	}
	eventually(t, "the verdict everywhere", func() bool { return everywhere(all, token)[200] == 2 })
	w.wantCalls(t, token, 2)
}

// TestExpiry: a verdict ends with its token, for a replica that finds it later, too.
func TestExpiry(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_8"))
	w := newWorld(t, false, store.settings(t))
	all := w.replicas(t, 2)
	token := w.tokens("t", 1)
	claims := w.as.Claims()
	ends := time.Now().Add(3 * time.Second)
	claims["exp"] = ends.Unix()
	w.as.AddToken(token[0], claims)
	if got := everywhere(all[:1], token); got[200] != 1 {
		t.Fatalf("got statuses %v, want 200", got)
	}
	time.Sleep(time.Until(ends)) // what is waited for is the clock
	if got := everywhere(all, token); got[401] != 2 {
		t.Errorf("after its end: got statuses %v, want 401 only", got)
	}
}
