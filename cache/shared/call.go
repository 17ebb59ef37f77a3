package shared

import (
	"context"
	"errors"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// call is what follows the search: a verdict that was found, or a call to the
// authorization server and what becomes of the response.
type call struct {
	cache     *Cache
	lookup    *lookup
	request   introspection.Request
	authority string
}

// noTime is why nobody was asked.
const noTime = "no time left to ask"

// found returns a verdict that stood in the store.
func (c *call) found(ctx context.Context, f *finding) (introspection.Verdict, error) {
	result := resultHit
	switch {
	case c.lookup.waited:
		result = resultWaited
	case f.inactive():
		result = resultInactive
	}
	c.cache.count(result)
	c.fill(ctx, f)
	return introspection.Verdict{Response: f.response, Lookup: Lookup, Age: f.age}, f.err
}

// fill puts a verdict that stands under one of two secrets under the other too,
// where we took the lease on the way.
func (c *call) fill(ctx context.Context, f *finding) {
	switch {
	case len(f.missing) == 0:
	case f.active():
		c.cache.queue.do(ctx, c.lookup.publish(f.missing, f.record, c.cache.reader.left(f.response, f.age)))
	default:
		c.giveBack(ctx)
	}
}

// giveBack ends our lease, so that others don't wait for nobody.
func (c *call) giveBack(ctx context.Context) {
	if j := c.lookup.release(); j != nil {
		c.cache.queue.do(ctx, j)
	}
}

// without goes on without the store.
func (c *call) without(ctx context.Context, cause error) (introspection.Verdict, error) {
	result := resultError
	if errors.Is(cause, errSkipped) {
		result = resultSkipped
	}
	c.cache.count(result)
	if c.cache.config.Refuse {
		c.later(c.lookup.release())
		return introspection.Verdict{}, unavailable("shared cache is unavailable")
	}
	if c.late(ctx) {
		c.later(c.lookup.release())
		return introspection.Verdict{}, unavailable(noTime)
	}
	if !c.lookup.mayHold {
		c.lookup.since = c.lookup.elapsed()
	}
	rec, response, err := c.ask(ctx)
	switch {
	case err == nil:
		c.later(c.verdict(rec, response))
	case errors.Is(err, introspection.ErrInactive) && c.cache.config.Once:
		// Another replica may have got the one true answer.
		c.later(c.lookup.release())
		return introspection.Verdict{}, unavailable("inactive, but the shared cache could not be asked")
	default:
		c.later(c.lookup.release())
	}
	return introspection.Verdict{Response: response}, err
}

// late reports whether so little time is left that the token might be used up, and
// its response lost.
func (c *call) late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < c.cache.config.Source.Timeout
}

// later leaves a job to the queue.
func (c *call) later(j *job) {
	if j != nil {
		c.cache.queue.add(j)
	}
}

// holding asks on behalf of all replicas.
func (c *call) holding(ctx context.Context) (introspection.Verdict, error) {
	if c.late(ctx) {
		c.giveBack(ctx)
		c.cache.count(resultWaited)
		return introspection.Verdict{}, unavailable(noTime)
	}
	c.cache.count(resultAcquired)
	rec, response, err := c.ask(ctx)
	switch {
	case err == nil:
		if j := c.verdict(rec, response); j != nil {
			c.cache.queue.do(ctx, j)
		}
	case errors.Is(err, introspection.ErrInactive):
		return c.inactive(ctx, rec)
	default:
		c.giveBack(ctx)
	}
	return introspection.Verdict{Response: response}, err
}

// ask calls, and returns what to keep of the response.
func (c *call) ask(ctx context.Context) (record, *introspection.Response, error) {
	source, position := c.cache.config.Source, c.cache.feed.events.position()
	answer, err := source.Ask(ctx, c.request)
	if err != nil {
		return record{}, nil, err
	}
	response, err := source.Decode(answer)
	return record{active: err == nil, obtained: answer.ObtainedAt, position: position, body: answer.Body}, response, err
}

// verdict is the job that shares an active verdict, or gives the lease back if
// there is nothing to share.
func (c *call) verdict(rec record, response *introspection.Response) *job {
	if !c.lookup.held() {
		return nil // stopped for so long, this process can't say how old its response is
	}
	ttl := c.cache.reader.left(response, 0)
	if ttl <= 0 || c.cache.config.Source.Authority() != c.authority {
		return c.lookup.release()
	}
	return c.lookup.publish(c.lookup.places, rec, ttl)
}

// inactive shares an inactive verdict, unless an active one came in: that is then
// the truth about a token of which a server speaks only once.
func (c *call) inactive(ctx context.Context, rec record) (introspection.Verdict, error) {
	believed := c.lookup.held()
	for _, p := range c.lookup.places {
		if !c.lookup.held() {
			break
		}
		active, ok := c.exchange(ctx, p, rec)
		if active != nil {
			return introspection.Verdict{Response: active.response, Lookup: Lookup, Age: active.age}, nil
		}
		believed = believed && ok
	}
	if c.cache.config.Once && !believed {
		return introspection.Verdict{}, unavailable("inactive, but the lease was lost")
	}
	return introspection.Verdict{}, introspection.ErrInactive
}

// exchange replaces our lease at a place by the verdict. If it isn't there any
// more, it returns the active verdict that is, and else whether nobody asked
// beside us.
func (c *call) exchange(ctx context.Context, p place, rec record) (active *finding, alone bool) {
	ctx = context.WithoutCancel(ctx)
	var value []byte
	ttl := c.cache.reader.inactiveTTL()
	if ttl > 0 {
		value = p.seal(rec)
	}
	swapped, err := c.cache.operations.swap(ctx, p.key, c.lookup.lease, value, ttl)
	if err != nil {
		c.later(c.lookup.release())
		return nil, false
	}
	if swapped {
		return nil, true
	}
	found, _, err := c.lookup.visit(ctx, p)
	if found.active() {
		return found, true
	}
	if err == nil {
		c.giveBack(ctx)
	}
	return nil, found.inactive()
}
