package shared

import (
	"context"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

const (
	// maxOperations bounds those under way. What comes on top waits for its turn, as
	// long as one operation may take; then it is as if that had timed out.
	maxOperations = 256

	// maxTimeouts one after the other close the gate. One alone may be a hiccup, in
	// which many operations time out at once; any other failure closes it at once.
	maxTimeouts = 3

	// closedFor is how long the gate lets nobody through; then one goes to see.
	closedFor = time.Second

	// Where going without the store does harm, it takes more timeouts, and who waits
	// an outage out learns sooner that it is over.
	patientTimeouts  = 10
	patientClosedFor = 100 * time.Millisecond
)

// What an operation says about the store.
const (
	verdictUnknown = iota
	verdictGood
	verdictBad
)

// gate keeps requests from waiting for a store that is away: it opens and closes
// by what operations met, and lets one through from time to time.
type gate struct {
	elapsed  func() time.Duration
	changed  func(open bool, reason string) // told on edges only
	patience time.Duration                  // as long an outage is waited out

	places chan struct{} // one is taken by each operation under way

	mu       sync.Mutex
	closed   bool
	since    time.Duration // elapsed time of its closing
	until    time.Duration // elapsed time of the next try
	trying   bool          // one is seeing whether the store is back
	timeouts int
	timedOut time.Duration // elapsed time of the last of them
}

func newGate(elapsed func() time.Duration, patience time.Duration, changed func(open bool, reason string)) *gate {
	return &gate{elapsed: elapsed, changed: changed, patience: patience, places: make(chan struct{}, maxOperations)}
}

// limit is how many timeouts one after the other close the gate.
func (g *gate) limit() int {
	if g.patience > 0 {
		return patientTimeouts
	}
	return maxTimeouts
}

// pass is an operation's leave to use the store.
type pass struct {
	gate  *gate
	trial bool
	begun time.Duration // elapsed time
}

// enter returns a pass. It returns errSkipped while the gate is closed, and the
// error of a ctx that ends before there was a place.
func (g *gate) enter(ctx context.Context) (*pass, error) {
	trial, ok := g.admit()
	if !ok {
		return nil, errSkipped
	}
	select {
	case g.places <- struct{}{}:
		return &pass{gate: g, trial: trial, begun: g.elapsed()}, nil
	case <-ctx.Done():
		if trial {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.trying = false
		}
		return nil, ctx.Err()
	}
}

// admit reports whether the gate is open, or lets one go and see.
func (g *gate) admit() (trial, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		return false, true
	}
	if g.trying || g.elapsed() < g.until {
		return false, false
	}
	g.trying = true
	return true, true
}

// leave takes the pass back with what the operation met.
func (p *pass) leave(verdict int, reason string) {
	g := p.gate
	<-g.places
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.trial {
		g.trying = false
	}
	switch verdict {
	case verdictGood:
		g.timeouts = 0
		if g.closed && p.trial {
			g.closed = false
			g.changed(true, "")
		}
	case verdictBad:
		if reason == valkey.Timeout && (g.timeouts == 0 || p.begun >= g.timedOut) {
			g.timeouts++
			g.timedOut = g.elapsed()
		}
		if reason != valkey.Timeout || g.timeouts >= g.limit() || p.trial {
			g.close(reason)
		}
	}
}

func (g *gate) close(reason string) {
	now := g.elapsed()
	if !g.closed {
		g.closed, g.since = true, now
		g.changed(false, reason)
	}
	g.until = now + closedFor
	if now-g.since < g.patience {
		g.until = now + patientClosedFor
	}
}

// away is how long the store is known to have been away. Zero: it isn't, or somebody is
// just going to see.
func (g *gate) away() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed || g.trying {
		return 0
	}
	return g.elapsed() - g.since
}

// open reports whether the store answered last.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}
