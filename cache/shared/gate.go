package shared

import (
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

const (
	// maxOperations bounds those under way; what comes on top goes without the
	// store, so that a slow one can't pile up goroutines.
	maxOperations = 256

	// maxTimeouts in a row close the gate. One alone may be a hiccup; any other
	// failure closes it at once.
	maxTimeouts = 3

	// closedFor is how long the gate lets nobody through; then one goes to see.
	closedFor = time.Second
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
	elapsed func() time.Duration
	changed func(open bool, reason string) // told on edges only

	mu       sync.Mutex
	closed   bool
	until    time.Duration // elapsed time of the next try
	trying   bool          // one is seeing whether the store is back
	timeouts int
	inside   int
}

// pass is an operation's leave to use the store.
type pass struct {
	gate  *gate
	trial bool
}

// enter returns a pass, or says that the store is to be skipped.
func (g *gate) enter() (*pass, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside >= maxOperations {
		return nil, false
	}
	trial := g.closed
	if trial {
		if g.trying || g.elapsed() < g.until {
			return nil, false
		}
		g.trying = true
	}
	g.inside++
	return &pass{gate: g, trial: trial}, true
}

// leave takes the pass back with what the operation met.
func (p *pass) leave(verdict int, reason string) {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
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
		if reason == valkey.Timeout {
			g.timeouts++
		}
		if reason != valkey.Timeout || g.timeouts >= maxTimeouts || p.trial {
			g.close(reason)
		}
	}
}

func (g *gate) close(reason string) {
	g.until = g.elapsed() + closedFor
	if !g.closed {
		g.closed = true
		g.changed(false, reason)
	}
}

// open reports whether the store answered last.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}
