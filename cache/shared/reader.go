package shared

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// maxInactiveAge bounds how long an inactive verdict stands in the store. It only
// spares the calls of those who wait at the same time.
const maxInactiveAge = 5 * time.Second

// maxTTL keeps an entry with a far-away `exp` from staying for ever.
const maxTTL = 30 * 24 * time.Hour

// ages say how long a verdict may be believed, counted from when the
// authorization server gave it.
type ages struct {
	max, noExp, inactive time.Duration
	now                  func() time.Time
}

// left returns how much longer an active verdict of this age may be believed.
func (a ages) left(r *introspection.Response, age time.Duration) time.Duration {
	left := a.noExp - age
	if exp, ok := r.ExpiresAt(); ok {
		left = maxTTL
		if now := a.now(); exp < now.Add(maxTTL).Unix() {
			left = time.Unix(exp, 0).Sub(now)
		}
	}
	if a.max > 0 {
		left = min(left, a.max-age)
	}
	return left
}

// inactiveTTL is how long an inactive verdict is believed.
func (a ages) inactiveTTL() time.Duration { return min(a.inactive, maxInactiveAge) }

// reader judges what stands in the store.
type reader struct {
	ages
	skew    time.Duration
	decode  func(introspection.Answer) (*introspection.Response, error)
	purged  func(position, [sha256.Size]byte, *introspection.Response) bool
	metrics *metrics
	logger  *slog.Logger
	foreign sync.Once // logs that a value doesn't open
}

// read returns the verdict in a value, or nil if there is none to believe.
func (r *reader) read(p place, value []byte, digest [sha256.Size]byte) *finding {
	rec, ok := p.open(value)
	if !ok {
		r.metrics.lookups[resultUndecryptable].Inc()
		r.foreign.Do(func() {
			r.logger.Error("value in the shared cache doesn't open: somebody else wrote, moved or damaged it")
		})
		return nil
	}
	found := &finding{record: rec, age: r.now().Sub(rec.obtained)}
	if found.age < -r.skew {
		return r.stale() // a clock is wrong, and its age can't be told
	}
	found.age = max(0, found.age)
	if rec.active {
		// The writer's settings chose nothing: decoded here, by this replica's.
		found.response, found.err = r.decode(introspection.Answer{Body: rec.body, ObtainedAt: r.now().Add(-found.age)})
	} else {
		found.err = introspection.ErrInactive
	}
	switch {
	case r.purged(rec.position, digest, found.response):
		return r.stale()
	case found.response != nil && r.left(found.response, found.age) <= 0:
		return r.stale()
	case !rec.active && found.age >= r.inactiveTTL():
		return r.stale()
	}
	return found
}

func (r *reader) stale() *finding {
	r.metrics.lookups[resultStale].Inc()
	return nil
}

// finding is a verdict that stood in the store, or what is wrong with its body.
type finding struct {
	record   record
	response *introspection.Response
	err      error
	age      time.Duration
	missing  []place // that were visited before, and don't have it
}

// active reports whether the finding is an active verdict that may be believed.
func (f *finding) active() bool { return f != nil && f.err == nil }

// inactive reports whether the finding says that the token is inactive.
func (f *finding) inactive() bool { return f != nil && errors.Is(f.err, introspection.ErrInactive) }
