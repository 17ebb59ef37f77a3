package shared

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// outages are the ways in which a store can be away.
var outages = []struct {
	name string
	err  error
	hung bool
}{
	{"refused", errRefused, false},
	{"hung", nil, true},
}

// With a server that answers once, whoever asks without the store uses the token up for
// the others: a short outage is waited out.
func TestShortOutageIsWaitedOut(t *testing.T) {
	for _, outage := range outages {
		t.Run(outage.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, as := newFakeStore(), newAuthority()
				as.once = true
				replicas := []*replica{newReplica(t, store, as, once), newReplica(t, store, as, once)}
				var wg sync.WaitGroup
				ask := func(token string) {
					for _, r := range replicas {
						wg.Go(func() {
							if _, err := r.introspect(token); err != nil {
								t.Errorf("%s: got error %v, want none", token, err)
							}
						})
					}
				}
				store.fault(outage.err, outage.hung)
				time.AfterFunc(callTimeout-300*time.Millisecond, func() { store.fault(nil, false) })
				for i := range 12 {
					ask(fmt.Sprint("t", i))
					time.Sleep(100 * time.Millisecond)
				}
				wg.Wait()
				for i := range 12 {
					as.wantCalls(t, fmt.Sprint("t", i), 1)
				}
			})
		})
	}
}

// A long outage costs those at its beginning the time to wait for, and nobody else.
func TestLongOutageIsNotWaitedOut(t *testing.T) {
	for _, outage := range outages {
		t.Run(outage.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, as := newFakeStore(), newAuthority()
				r := newReplica(t, store, as, once)
				store.fault(outage.err, outage.hung)
				begin := time.Now()
				r.active("first")
				if took := time.Since(begin); took < callTimeout || took > 2*callTimeout {
					t.Errorf("first: got a verdict after %v, want it after %v or a bit more", took, callTimeout)
				}
				for i := range 20 {
					begin = time.Now()
					r.active(fmt.Sprint("t", i))
					if took := time.Since(begin); took > as.takes+100*time.Millisecond {
						t.Errorf("t%d: got a verdict after %v, want one try and a call at most", i, took)
					}
				}
			})
		})
	}
}

// When an outage was long, those who come when it is over wait for the one that goes to
// see.
func TestAfterLongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		first, second := newReplica(t, store, as, once), newReplica(t, store, as, once)
		store.fault(errRefused, false)
		first.active("first")
		second.active("second")
		time.Sleep(10 * callTimeout)
		store.fault(nil, false)
		store.mu.Lock()
		store.takes = 20 * time.Millisecond
		store.mu.Unlock()
		for _, r := range []*replica{first, second} {
			g := r.operations.gates.all[0]
			g.mu.Lock()
			g.until = 0 // so that a request is the next to go
			g.mu.Unlock()
		}
		var wg sync.WaitGroup
		for i := range 50 {
			for _, r := range []*replica{first, second} {
				wg.Go(func() { r.active(fmt.Sprint("t", i)) })
			}
		}
		wg.Wait()
		for i := range 50 {
			as.wantCalls(t, fmt.Sprint("t", i), 1)
		}
	})
}

// A replica that starts in a short outage waits for it, too.
func TestStartInShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		as.once = true
		newReplica(t, store, as, once).active("t1")
		store.fault(errRefused, false)
		late := newReplica(t, store, as, once)
		time.AfterFunc(callTimeout/2, func() { store.fault(nil, false) })
		late.active("t1")
		as.wantCalls(t, "t1", 1)
	})
}

// Who waited for another replica until the store went asks only with the time to hear
// the response.
func TestNoTimeLeftWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, as := newFakeStore(), newAuthority()
		r := newReplica(t, store, as)
		l, err := r.lookup(introspection.Request{Token: "t1"})
		if err != nil {
			t.Fatalf("r.lookup: got error %v, want none", err)
		}
		if _, err := l.claim(t.Context()); err != nil {
			t.Fatalf("l.claim: got error %v, want none", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*callTimeout)
		defer cancel()
		time.AfterFunc(callTimeout+time.Second, func() { store.fault(errRefused, false) })
		if _, err := r.Introspect(ctx, introspection.Request{Token: "t1"}); !errors.Is(err, introspection.ErrUnavailable) {
			t.Errorf("got error %v, want unavailable", err)
		}
		as.wantCalls(t, "t1", 0)
	})
}
