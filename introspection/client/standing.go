package client

import (
	"sync"
	"time"
)

const (
	// doubtInterval is the time between two probes while it isn't clear whether the
	// endpoint still takes our credential.
	doubtInterval = time.Second

	// refusedInterval is that time when it is clear that it doesn't; with the jitter
	// recovery is seen within five seconds of the cause's end.
	refusedInterval = 4 * time.Second

	// confirmInterval follows a probe that got through while our credential counted as
	// refused.
	confirmInterval = 250 * time.Millisecond

	// manyRefusals in a row of our own probes count, and manyVerdicts in a row end
	// that: of two nodes of one authorization server that disagree, each answers some.
	manyRefusals = 3
	manyVerdicts = 2

	// lately is how long a verdict outweighs refusals.
	lately = 10 * time.Second
)

// standing is what is known of how the sidecar itself stands with the endpoint. It
// decides on readiness, so that it goes by our own probes and by verdicts: the
// token of a client starts a doubt, and decides nothing. There are authorization
// servers that answer 401 to a token they don't know.
type standing struct {
	woken chan struct{} // a doubt began

	mu          sync.Mutex
	doubt       bool      // a refusal hasn't been explained yet
	refused     bool      // our credential counts as refused
	refusals    int       // probes in a row that were refused
	verdicts    int       // probes in a row that got through while refused
	lastVerdict time.Time // zero: none yet
	// random says that a refused probe was followed by a verdict: here random tokens
	// are refused, and refused probes mean nothing.
	random bool
}

func newStanding() *standing { return &standing{woken: make(chan struct{}, 1)} }

// ready reports whether our credential doesn't count as refused.
func (s *standing) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.refused
}

// judged notes that the endpoint took our credential and looked at a token.
func (s *standing) judged(probe bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastVerdict = time.Now()
	if !probe {
		s.random = s.random || s.refusals > 0
		s.refused, s.refusals = false, 0
		return
	}
	s.random, s.refusals, s.doubt = false, 0, false
	if s.refused {
		s.verdicts++
		s.refused = s.verdicts < manyVerdicts
	}
}

// refuse notes that the endpoint refused our credential.
func (s *standing) refuse(probe bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubt = true
	if !probe {
		select {
		case s.woken <- struct{}{}:
		default: // it is awake
		}
		return
	}
	s.verdicts = 0
	if s.refusals++; s.refusals < manyRefusals {
		return
	}
	if s.random {
		s.doubt, s.refusals = false, 0
	} else if s.lastVerdict.IsZero() || time.Since(s.lastVerdict) >= lately {
		s.refused = true
	}
}

// next returns how long to wait before the next probe, or false when none is needed.
func (s *standing) next() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refused && s.verdicts > 0:
		return confirmInterval, true
	case s.refused:
		return refusedInterval, true
	}
	return doubtInterval, s.doubt
}
