package cache

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// flight is one call to the source, shared by all who ask about its token.
type flight struct {
	done     chan struct{}
	response *introspection.Response
	err      error
}

// wait returns the flight's result, or the error of a ctx that ends first.
func (f *flight) wait(ctx context.Context) (*introspection.Response, error) {
	select {
	case <-f.done:
		return f.response, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
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
func (c *Cache) join(k key, first verdict, token string, call *introspection.Call) (*flight, verdict) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	if f, ok := c.flights.byKey[k]; ok {
		return f, verdict{result: Coalesced}
	}
	if v := c.lookup(k); v.known() {
		return nil, v
	}
	f := &flight{done: make(chan struct{})}
	if c.flights.closed {
		f.err = unavailable("shutting down")
		close(f.done)
		return f, first
	}
	// The call must not end with the request that started it: the others still
	// wait for it, and the token may be gone once it was introspected.
	ctx := c.flights.ctx
	if call != nil {
		ctx = introspection.WithCall(ctx, &introspection.Call{CorrelationID: call.CorrelationID, TraceID: call.TraceID, Span: call.Span})
	}
	c.flights.byKey[k] = f
	c.flights.wg.Add(1)
	go c.fly(ctx, f, k, token, c.flights.epoch)
	return f, first
}

// fly makes the call and lands: under one lock the flight gives way to its
// verdict, then those who wait wake up.
func (c *Cache) fly(ctx context.Context, f *flight, k key, token string, epoch uint64) {
	defer c.flights.wg.Done()
	defer close(f.done)
	// Deferred, because whatever ends this goroutine must not leave the others waiting.
	defer func() {
		// With another authority by now, nobody knows whose answer this is.
		authority := c.config.Authority()
		keep := c.keys.key(authority, token) == k
		c.flights.mu.Lock()
		defer c.flights.mu.Unlock()
		if epoch != c.flights.epoch {
			return // the purge took f out, and another may fly for the token since
		}
		delete(c.flights.byKey, k)
		if keep {
			c.flights.authorities[authority] = true
			c.land(k, f)
		}
	}()
	c.ask(ctx, f, token)
}

// ask calls the source. The flight gets either a response or an error, even if
// the source panics, ends its goroutine or returns neither.
func (c *Cache) ask(ctx context.Context, f *flight, token string) {
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
	response, err := c.config.Source.Introspect(ctx, token)
	if response == nil && err == nil {
		err = unavailable("no answer and no error")
	}
	f.response, f.err = response, err
}

func unavailable(reason string) error {
	return &introspection.Failure{Kind: introspection.ErrUnavailable, Reason: reason}
}
