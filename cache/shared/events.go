package shared

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

const (
	// maxEvents bounds the purges that a replica remembers; one takes some 200 bytes.
	maxEvents = valkey.KeptEvents

	// maxIncarnations bounds the lives of the store that are told apart.
	maxIncarnations = 16

	// maxMissed is how many readings to the feed's end an event of our own may be
	// missing from before it is sent again.
	maxMissed = 2
)

// mark is a position as this replica sees it: the incarnations it met are
// numbered, so that positions of different ones have an order.
type mark struct {
	generation int
	ms, n      uint64
}

func (m mark) compare(other mark) int {
	return cmp.Or(cmp.Compare(m.generation, other.generation), cmp.Compare(m.ms, other.ms), cmp.Compare(m.n, other.n))
}

// parseID reads a stream's entry id, "milliseconds-number".
func parseID(id string) (ms, n uint64, err error) {
	_, err = fmt.Sscanf(id, "%d-%d", &ms, &n)
	return ms, n, err
}

type keptEvent struct {
	mark  mark
	event feedEvent
}

// ownEvent is an event of this replica that it hasn't met in the feed yet.
type ownEvent struct {
	event  feedEvent
	sent   bool
	missed int // readings to the feed's end since
}

// events are the purges that this replica knows of, so that a verdict from the
// store can be compared with those that its writer didn't know of.
type events struct {
	mu           sync.Mutex
	incarnations []incarnation // the last of those seen
	dropped      int           // how many were seen before these
	at           mark          // up to where the feed was read
	first        mark          // the first entry of this incarnation
	entries      int           // read of this incarnation
	floor        mark          // nothing is known of events before
	kept         []keptEvent   // in the order of their marks
	known        map[string]bool
	own          map[string]*ownEvent
}

func newEvents() *events {
	return &events{known: make(map[string]bool), own: make(map[string]*ownEvent)}
}

// begin notes the store's incarnation and reports whether it is another one than
// before. The feed is read from its beginning then, and what we sent before may
// be gone.
func (e *events) begin(i incarnation) (reset bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.incarnations)
	if n > 0 && e.incarnations[n-1] == i {
		return false
	}
	e.incarnations = append(e.incarnations, i)
	if n == maxIncarnations {
		e.incarnations = e.incarnations[1:]
		e.dropped++
	}
	e.at = mark{generation: e.dropped + len(e.incarnations)}
	e.entries = 0
	for _, own := range e.own {
		own.sent = false
	}
	return n > 0
}

// position is up to where this replica knows the feed.
func (e *events) position() position {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.incarnations) == 0 {
		return position{}
	}
	return position{incarnation: e.incarnations[len(e.incarnations)-1], ms: e.at.ms, n: e.at.n}
}

// reach moves on to an entry of the feed, whatever it holds.
func (e *events) reach(ms, n uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at.ms, e.at.n = ms, n
	if e.entries++; e.entries == 1 {
		e.first = e.at
	}
	if e.entries >= valkey.KeptEvents && e.first.compare(e.floor) > 0 {
		e.floor = e.first // the store drops the oldest from here on
	}
}

// add takes the event that stands where the feed was read up to, and reports
// whether this replica still has to make that purge. One that stands there twice,
// because it was sent twice or replayed by somebody, spares the verdicts between.
func (e *events) add(event feedEvent) (news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known[event.id] {
		return false
	}
	e.known[event.id] = true
	e.kept = append(e.kept, keptEvent{mark: e.at, event: event})
	if len(e.kept) > maxEvents {
		delete(e.known, e.kept[0].event.id)
		e.floor = e.kept[0].mark
		e.kept = slices.Delete(e.kept, 0, 1)
	}
	_, own := e.own[event.id]
	delete(e.own, event.id)
	return !own
}

// publishing notes an event of this replica before it is sent: whatever stands
// in the store by now is older than it.
func (e *events) publishing(event feedEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.own) < maxEvents {
		e.own[event.id] = &ownEvent{event: event}
	}
}

// published notes that an event was sent.
func (e *events) published(event feedEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if own := e.own[event.id]; own != nil {
		own.sent, own.missed = true, 0
	}
}

// unpublished returns the events to send: those that couldn't be, and those that
// didn't come back though the feed was read to its end, because a store that
// failed over lost them.
func (e *events) unpublished() (out []feedEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, own := range e.own {
		own.missed++
		if !own.sent || own.missed > maxMissed {
			out = append(out, own.event)
		}
	}
	return out
}

// purged reports whether a verdict obtained when its writer knew the feed up to
// p may have been purged since. A position that can't be compared counts as that.
// The response is nil for an inactive verdict, which has no claims to match.
func (e *events) purged(p position, digest [sha256.Size]byte, r *introspection.Response) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, own := range e.own {
		if own.event.Filter.Matches(digest, r) {
			return true
		}
	}
	since := mark{} // before all events
	if p.incarnation != (incarnation{}) {
		i := slices.Index(e.incarnations, p.incarnation)
		if i < 0 {
			return true
		}
		since = mark{generation: e.dropped + i + 1, ms: p.ms, n: p.n}
	}
	if since.compare(e.floor) < 0 {
		return true // by an event that isn't remembered, for all we know
	}
	i, found := slices.BinarySearchFunc(e.kept, since, func(k keptEvent, m mark) int { return k.mark.compare(m) })
	if found {
		i++
	}
	return slices.ContainsFunc(e.kept[i:], func(k keptEvent) bool { return k.event.Filter.Matches(digest, r) })
}
