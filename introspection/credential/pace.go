package credential

import (
	"math/rand/v2"
	"time"
)

const (
	// requestInterval is the least time between two token requests.
	requestInterval = time.Second
	// maxBackoff and the jitter of a quarter stay far enough below five seconds
	// that a request which hangs two seconds at the moment of recovery still
	// has its successor in time.
	maxBackoff = 2 * time.Second
	// maxRefusalBackoff is reached when new tokens are refused like the old one.
	maxRefusalBackoff = 5 * time.Second
	// refusalResetAfter is how long a token must have served for the next refusal
	// to count as a first one.
	refusalResetAfter = 30 * time.Second
)

// pace says when the next token request may be made.
type pace struct {
	lastStart time.Time // of a token request
	retryAt   time.Time // not before, whatever else
	failures  int       // in a row
	forced    int       // renewals in a row that were made because of a refusal
}

// started notes a token request, and whether it was made because the last token
// was refused.
func (p *pace) started(now time.Time, refused bool) {
	if refused {
		if now.Sub(p.lastStart) > refusalResetAfter {
			p.forced = 0
		}
		p.forced++
	}
	p.lastStart = now
}

// ended notes what came of it.
func (p *pace) ended(now time.Time, err error) {
	if err == nil {
		p.failures = 0
		return
	}
	wait := min(requestInterval<<min(p.failures, 8), maxBackoff)
	p.retryAt = now.Add(wait + rand.N(wait/4)) // jitter: replicas must not ask in step
	p.failures++
}

// earliest is when the next token request may be made; refused says that the
// token at hand was refused.
func (p *pace) earliest(refused bool) time.Time {
	if p.lastStart.IsZero() {
		return p.retryAt
	}
	interval := requestInterval
	if refused {
		// A token may be revoked a moment after it was obtained, so that the first
		// refusal is met at once. New tokens that are refused too must not be asked
		// for ever faster.
		interval = 0
		if p.forced > 0 {
			interval = min(requestInterval<<min(p.forced-1, 3), maxRefusalBackoff)
		}
	}
	if at := p.lastStart.Add(interval); at.After(p.retryAt) {
		return at
	}
	return p.retryAt
}
