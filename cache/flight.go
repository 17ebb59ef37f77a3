package cache

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// flight is one call to the source, shared by all who ask about its token.
type flight struct {
	key      key
	done     chan struct{}
	response *introspection.Response // nil beside an error
	lookup   string                  // of the source, if it looks somewhere
	age      time.Duration           // of the verdict, when it came
	err      error

	waiting   int           // guarded by flights.mu
	begun     bool          // the token may be on its way; guarded by flights.mu
	queued    chan struct{} // closed when the call waits for its turn
	abandoned chan struct{} // closed when nobody waits and it hasn't begun
}

// wait adds the flight's result to a lookup's, or returns the error of a ctx that
// ends first, or context.Canceled when leaving is closed and the call waits for its
// turn: one that doesn't costs nobody anything, and who has only said that it won't send
// more gets its response. Who started it also learns where the source found it.
func (fs *flights) wait(ctx context.Context, f *flight, v introspection.Verdict, leaving <-chan struct{}) (introspection.Verdict, error) {
	var queued <-chan struct{} // matters to who leaves
	for {
		select {
		case <-f.done:
			if f.lookup != "" && v.Lookup != Coalesced {
				v.Lookup = f.lookup
			}
			v.Response, v.Age = f.response, f.age
			return v, f.err
		case <-leaving:
			leaving, queued = nil, f.queued
		case <-queued:
			if fs.leaveUnbegun(f) {
				return v, context.Canceled
			}
			queued = nil
		case <-ctx.Done():
			fs.leave(f)
			return v, ctx.Err()
		}
	}
}

// leaveUnbegun is leave for a flight that hasn't begun; it reports whether that is so.
func (fs *flights) leaveUnbegun(f *flight) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.begun {
		return false
	}
	fs.leaveLocked(f)
	return true
}

// leave takes one of those who wait from a flight. A call that hasn't begun when
// the last one goes is dropped: clients that ask and leave must not keep others
// from their turn. One that has begun goes on, for its token may be gone.
func (fs *flights) leave(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.leaveLocked(f)
}

// leaveLocked is leave with fs.mu held.
func (fs *flights) leaveLocked(f *flight) {
	if f.waiting--; f.waiting > 0 || f.begun {
		return
	}
	fs.remove(f)
	close(f.abandoned)
}

// begin reports whether somebody waits for a flight, which then isn't dropped.
func (fs *flights) begin(f *flight) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.begun = f.waiting > 0
	return f.begun
}

// remove makes room for another flight of the same token. fs.mu is held.
func (fs *flights) remove(f *flight) {
	if fs.byKey[f.key] == f {
		delete(fs.byKey, f.key)
	}
}

// flights are the calls under way.
type flights struct {
	mu    sync.Mutex
	byKey map[key]*flight
	epoch uint64 // of the last purge
	// authorities are those whose verdicts were kept. There are few: one for
	// each endpoint that discovery ever found.
	authorities map[string]bool
	closed      bool
	wg          sync.WaitGroup
	ctx         context.Context //nolint:containedctx // the flights' own life, not a request's
	cancel      context.CancelFunc
}

func (fs *flights) init() {
	fs.byKey = make(map[key]*flight)
	fs.authorities = make(map[string]bool)
	fs.ctx, fs.cancel = context.WithCancel(context.Background())
}

func (fs *flights) close() {
	fs.mu.Lock()
	fs.closed = true
	fs.mu.Unlock()
	fs.cancel()
	fs.wg.Wait()
}

// join returns the flight to wait for and how it was found, or a verdict that
// came in since the lookup. The second look happens under the lock under which
// flights land, so that a token whose verdict has just been stored is never
// asked about again.
func (c *Cache) join(k key, first introspection.Verdict, r introspection.Request) (*flight, introspection.Verdict) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	if f, ok := c.flights.byKey[k]; ok {
		f.waiting++
		return f, introspection.Verdict{Lookup: Coalesced}
	}
	if v := c.lookup(k); v.Lookup == Hit || v.Lookup == InactiveHit {
		return nil, v
	}
	f := &flight{key: k, done: make(chan struct{}), waiting: 1, queued: make(chan struct{}), abandoned: make(chan struct{})}
	if c.flights.closed {
		f.err = unavailable("shutting down")
		close(f.done)
		return f, first
	}
	c.flights.byKey[k] = f
	c.flights.wg.Add(1)
	// The call must not end with the request that started it: the others still
	// wait for it, and the token may be gone once it was introspected.
	r.Queued = sync.OnceFunc(func() { close(f.queued) })
	r.Abandoned, r.Begin = f.abandoned, func() bool { return c.flights.begin(f) }
	go c.fly(c.flights.ctx, f, k, r, c.flights.epoch)
	return f, first
}

// fly makes the call and lands: under one lock the flight gives way to its
// verdict, then those who wait wake up.
func (c *Cache) fly(ctx context.Context, f *flight, k key, r introspection.Request, epoch uint64) {
	defer c.flights.wg.Done()
	defer close(f.done)
	// Deferred, because whatever ends this goroutine must not leave the others waiting.
	defer func() {
		// With another authority by now, nobody knows whose verdict this is.
		authority := c.config.Authority()
		keep := c.keys.key(authority, r.Token) == k
		c.flights.mu.Lock()
		defer c.flights.mu.Unlock()
		if epoch != c.flights.epoch {
			return // the purge took f out, and another may fly for the token since
		}
		c.flights.remove(f)
		if keep {
			c.flights.authorities[authority] = true
			c.land(k, f)
		}
	}()
	c.ask(ctx, f, r)
}

// ask calls the source. The flight gets either a response or an error, even if
// the source panics, ends its goroutine or returns neither.
func (c *Cache) ask(ctx context.Context, f *flight, r introspection.Request) {
	f.err = unavailable("internal error")
	defer func() {
		if p := recover(); p != nil {
			// The panic's text may hold anything; its type and place don't.
			c.config.Logger.Error("panic while introspecting",
				"panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	v, err := c.config.Source.Introspect(ctx, r)
	if v.Response == nil && err == nil {
		err = unavailable("no verdict and no error")
	}
	f.lookup, f.age = v.Lookup, v.Age
	if f.err = err; err == nil {
		f.response = v.Response
	}
}

func unavailable(reason string) error {
	return &introspection.Failure{Kind: introspection.ErrUnavailable, Reason: reason}
}
