package shared

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

// pauses are between two looks at another replica's lease; the last repeats.
var pauses = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 50 * time.Millisecond,
}

// minPause and maxPause bound the pause after an operation that failed.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// lookup is one search for the verdict on one token.
type lookup struct {
	operations *operations
	reader     *reader
	elapsed    func() time.Duration
	places     []place
	digest     [sha256.Size]byte
	lease      []byte
	leaseTTL   time.Duration
	abandoned  <-chan struct{} // closed when nobody waits any more
	patience   time.Duration   // goes without the store when that was away for so long

	mayHold bool          // a lease of ours may stand in the store
	since   time.Duration // elapsed time before that was asked for
	waited  bool
}

// errOutOfTime says that the search ended with the time, or with those who waited.
var errOutOfTime = errors.New("another replica is asking, and took too long")

// claim returns the verdict that stands in the store, or nil with the lease of all
// places in our hands: then nobody else asks the authorization server. While
// another replica has a lease it waits.
func (l *lookup) claim(ctx context.Context) (*finding, error) {
	for pause, failures := 0, 0; ; {
		begun := l.elapsed()
		found, busy, err := l.try(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, errOutOfTime
		case err != nil && l.away() < l.patience && !valkey.WrongType(err):
			// Trying again at once would keep a slow store slow.
			if !l.sleep(ctx, min(max(l.elapsed()-begun, minPause), maxPause)) {
				return nil, errOutOfTime
			}
			continue
		case err != nil && valkey.Reason(err) == valkey.Timeout && failures+1 < maxTimeouts:
			failures++
			continue
		case err != nil || !busy:
			return found, err
		}
		l.waited = true
		// When the store or this process has much to do, looking often makes it more.
		if !l.sleep(ctx, max(pauses[pause], 2*(l.elapsed()-begun))) {
			return nil, errOutOfTime
		}
		pause = min(pause+1, len(pauses)-1)
	}
}

// away is how long the store, or the part of it that has the places, has been away.
func (l *lookup) away() (longest time.Duration) {
	for _, p := range l.places {
		longest = max(longest, l.operations.gates.of(p.key).away())
	}
	return longest
}

// sleep reports whether there is still somebody who waits.
func (l *lookup) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-l.abandoned:
	}
	return !timer.Stop()
}

// try visits the places once. The lease is asked for in the same breath, so that
// a hit and a miss are one round trip.
func (l *lookup) try(ctx context.Context) (found *finding, busy bool, err error) {
	for i, p := range l.places {
		found, busy, err = l.visit(ctx, p)
		if err != nil {
			return nil, false, err
		}
		if found != nil {
			found.missing = l.places[:i]
			return found, false, nil
		}
		if busy {
			return nil, true, l.yield(ctx, l.places[:i])
		}
	}
	return nil, false, nil
}

// visit takes the lease at a place, unless there is a verdict or another's lease.
// What can't be used there gives way to our lease, if nobody is faster.
func (l *lookup) visit(ctx context.Context, p place) (found *finding, busy bool, err error) {
	if !l.mayHold {
		// Measured from before it was sent, a lease of ours is never thought to
		// last longer than it does.
		l.since = l.elapsed()
	}
	value, err := l.operations.setNX(ctx, p.key, l.lease, l.leaseTTL)
	switch {
	case errors.Is(err, errSkipped):
		return nil, false, err
	case err != nil:
		l.mayHold = true // who knows
		return nil, false, err
	case value == nil || bytes.Equal(value, l.lease): // the response to an earlier try may have been lost
		l.mayHold = true
		return nil, false, nil
	case len(value) == len(l.lease) && value[0] == leaseMark:
		return nil, true, nil
	}
	if found = l.reader.read(p, value, l.digest); found != nil {
		return found, false, nil
	}
	swapped, err := l.operations.swap(ctx, p.key, value, l.lease, l.leaseTTL)
	l.mayHold = l.mayHold || swapped || err != nil
	return nil, !swapped && err == nil, err
}

// yield gives back the leases of other places while one of them is another's: two
// replicas of which each knows only one of two secrets could wait for each other.
func (l *lookup) yield(ctx context.Context, held []place) error {
	for _, p := range held {
		if _, err := l.operations.swap(ctx, p.key, l.lease, nil, 0); err != nil {
			return err
		}
	}
	l.mayHold = false
	return nil
}

// held reports whether our lease can't have run out. Without it another replica
// may have asked, and this process may have stood still since it did.
func (l *lookup) held() bool { return l.elapsed()-l.since < l.leaseTTL }

// keys returns the names of places.
func keys(places []place) (keys []string) {
	for _, p := range places {
		keys = append(keys, p.key)
	}
	return keys
}

// release is the job that gives our leases back, or nil when there can be none.
func (l *lookup) release() *job {
	if !l.mayHold {
		return nil
	}
	return &job{keys: keys(l.places), lease: l.lease, until: l.since + l.leaseTTL}
}

// publish is the job that puts a verdict in places for ttl.
func (l *lookup) publish(places []place, r record, ttl time.Duration) *job {
	j := &job{keys: keys(places), lease: l.lease, fence: l.since + l.leaseTTL, until: l.elapsed() + ttl}
	for _, p := range places {
		j.values = append(j.values, p.seal(r))
	}
	return j
}
