// Package cache remembers the verdicts of an introspection endpoint: it is an
// introspection.Introspector in front of another one.
//
// It decides only how long a verdict may be believed. An active response is
// kept until its `exp` and within the configured ages, an inactive one for a
// few seconds in a store of its own, so that junk can't displace good tokens.
// Failures are never kept. Requests that ask about the same token at the same
// time share one call, which outlives the request that started it: there are
// authorization servers that answer truthfully about a token only once.
//
// The cache holds no token. Its key is an HMAC-SHA-256 over authority and
// token under a random key of this process.
package cache

import (
	"context"
	"errors"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// The results of a lookup, as they stand in metrics and logs.
const (
	// Hit is an active verdict that may still be believed.
	Hit = "hit"
	// Miss is a token without a verdict; the endpoint is asked.
	Miss = "miss"
	// Expired is an active verdict past its time; the endpoint is asked.
	Expired = "expired"
	// InactiveHit is an inactive verdict that may still be believed.
	InactiveHit = "inactive_hit"
	// Coalesced is a token the endpoint is being asked about already.
	Coalesced = "coalesced"
)

const (
	// maxInactive bounds the inactive store; an entry takes about 200 bytes.
	maxInactive = 10_000

	// maxAge keeps the arithmetic of far-away `exp` values and of very long
	// configured ages from overflowing.
	maxAge = 10 * 365 * 24 * time.Hour

	// reapPerInsert is how many expired entries an insertion removes from the
	// old end, so that verdicts nobody asks for any more don't stay for ever.
	reapPerInsert = 2
)

// Config configures a Cache.
type Config struct {
	// Source is asked about tokens without a verdict. Required.
	Source introspection.Introspector
	// Authority names the endpoint and the credential that Source uses.
	// Verdicts of another authority are not found. Required.
	Authority func() string
	// Timeout bounds one call to Source, whoever waits for it. It must be above zero.
	Timeout time.Duration
	// MaxEntries bounds the active results. It must be above zero.
	MaxEntries int
	// MaxAge bounds how long an active result is believed; zero: until `exp`.
	MaxAge time.Duration
	// NoExpAge is how long an active result without `exp` is believed; zero:
	// it isn't kept.
	NoExpAge time.Duration
	// InactiveAge is how long an inactive result is believed; zero: it isn't kept.
	InactiveAge time.Duration
	// Now is the wall clock, which `exp` is compared with. Nil means time.Now.
	Now func() time.Time
	// Elapsed is a clock that no one can set, which ages are measured with.
	// Nil means the time since New.
	Elapsed func() time.Duration
	// Logger gets what only a bug can cause. Nil discards.
	Logger *slog.Logger
	// Registerer gets the cache's metrics. Nil: they are not exported.
	Registerer prometheus.Registerer
}

// Cache is an Introspector that remembers. Create it with New, end it with Close.
type Cache struct {
	config   Config
	keys     *keyer
	active   *store
	inactive *lru.Cache[key, time.Duration] // the elapsed time until which it is believed
	metrics  *metrics
	flights  flights
}

// New returns an empty cache. The error says which field of the Config is missing or
// out of bounds.
func New(config Config) (*Cache, error) { return newCache(config, hotEntries) }

// newCache is New with the number of verdicts that are kept ready to use.
func newCache(config Config, hot int) (*Cache, error) {
	if config.Source == nil || config.Authority == nil {
		return nil, errors.New("cache: Source and Authority are required")
	}
	if config.MaxEntries < 1 || config.Timeout <= 0 {
		return nil, errors.New("cache: MaxEntries and Timeout must be above zero")
	}
	if config.MaxAge < 0 || config.NoExpAge < 0 || config.InactiveAge < 0 {
		return nil, errors.New("cache: ages must not be negative")
	}
	config.NoExpAge, config.InactiveAge = min(config.NoExpAge, maxAge), min(config.InactiveAge, maxAge)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Elapsed == nil {
		began := time.Now()
		config.Elapsed = func() time.Duration { return time.Since(began) }
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	active, err := newStore(config.MaxEntries, hot)
	if err != nil {
		return nil, err
	}
	inactive, err := lru.New[key, time.Duration](maxInactive)
	if err != nil {
		return nil, err
	}
	c := &Cache{config: config, keys: newKeyer(), active: active, inactive: inactive}
	c.metrics = newMetrics(config.Registerer, active.Len, inactive.Len)
	c.flights.init()
	return c, nil
}

// Close ends the calls that are under way and waits for them.
func (c *Cache) Close() { c.flights.close() }

// TokenRef returns eight hex digits by which the log lines of one token can be
// told from those of another, in this process only.
func (c *Cache) TokenRef(token string) string {
	return c.keys.key(c.config.Authority(), token).ref()
}

// Introspect returns what is known about a token, or asks once on behalf of all
// who wait for it. When ctx ends first, it returns the context's error and the
// call goes on for the others; without others, only if it has begun.
func (c *Cache) Introspect(ctx context.Context, r introspection.Request) (v introspection.Verdict, err error) {
	k := c.keys.key(c.config.Authority(), r.Token)
	v = c.lookup(k)
	if v.Lookup != Hit && v.Lookup != InactiveHit {
		var f *flight
		f, v = c.join(k, v, r)
		if f != nil {
			c.count(v)
			v, err = c.flights.wait(ctx, f, v, r.Leaving)
			if v.Response != nil && v.Age > 0 {
				c.metrics.hitAge.Observe(v.Age.Seconds())
			}
			return v, err
		}
	}
	c.count(v)
	if v.Lookup == InactiveHit {
		return v, introspection.ErrInactive
	}
	return v, nil
}

// lookup looks without counting, because a request may look twice. The clock is
// read after the store, or a verdict that comes in between would have been
// stored in the future.
func (c *Cache) lookup(k key) introspection.Verdict {
	if e, ok := c.active.Get(k); ok {
		elapsed := c.config.Elapsed()
		if elapsed < e.until && !c.pastExp(e.response) {
			return introspection.Verdict{Response: e.response, Lookup: Hit, Age: elapsed - e.obtained}
		}
		return introspection.Verdict{Lookup: Expired}
	}
	if until, ok := c.inactive.Get(k); ok && c.config.Elapsed() < until {
		return introspection.Verdict{Lookup: InactiveHit}
	}
	return introspection.Verdict{Lookup: Miss}
}

// pastExp compares with the wall clock: RFC 7662 §4 forbids use past `exp`.
func (c *Cache) pastExp(r *introspection.Response) bool {
	exp, ok := r.ExpiresAt()
	return ok && c.config.Now().Unix() >= exp
}

func (c *Cache) count(v introspection.Verdict) {
	c.metrics.lookups[v.Lookup].Inc()
	if v.Lookup == Hit {
		c.metrics.hitAge.Observe(v.Age.Seconds())
	}
}

// ageOf returns how long ago the authorization server gave a response: nothing
// for one that came a moment ago, more for one that another replica got.
func (c *Cache) ageOf(r *introspection.Response) time.Duration {
	if r.ObtainedAt().IsZero() {
		return 0
	}
	return max(c.config.Now().Sub(r.ObtainedAt()), 0)
}

// land keeps a flight's result if it is a verdict, and forgets a failure.
func (c *Cache) land(k key, f *flight) {
	switch {
	case f.err == nil:
		c.storeActive(k, f.response)
	case errors.Is(f.err, introspection.ErrInactive):
		c.storeInactive(k, f.age)
	}
}

func (c *Cache) storeActive(k key, r *introspection.Response) {
	c.forget(k)
	elapsed, left := c.config.Elapsed(), c.left(r)
	if left <= 0 {
		return
	}
	// What has expired goes first, so that only a store that is too small for
	// living verdicts loses one, and counts it as that.
	c.metrics.evicted(activeLabel, reasonExpired, reap(c.active.GetOldest, c.active.Remove, func(e activeEntry) bool {
		return elapsed >= e.until || c.pastExp(e.response)
	}))
	if c.active.Add(k, activeEntry{response: r, obtained: elapsed - c.ageOf(r), until: elapsed + left}) {
		c.metrics.evicted(activeLabel, reasonCapacity, 1)
	}
}

// storeInactive counts the time from when the authorization server said so.
func (c *Cache) storeInactive(k key, age time.Duration) {
	c.forget(k)
	left := c.config.InactiveAge - age
	if left <= 0 {
		return
	}
	elapsed := c.config.Elapsed()
	c.metrics.evicted(inactiveLabel, reasonExpired, reap(c.inactive.GetOldest, c.inactive.Remove, func(until time.Duration) bool {
		return elapsed >= until
	}))
	if c.inactive.Add(k, elapsed+left) {
		c.metrics.evicted(inactiveLabel, reasonCapacity, 1)
	}
}

// forget removes the expired verdict that a new one replaces, even if that
// can't be kept: a wall clock that is set back must not bring it to life again.
func (c *Cache) forget(k key) {
	if c.active.Remove(k) {
		c.metrics.evicted(activeLabel, reasonExpired, 1)
	}
}

// left returns how long an active response may be believed from now on. Its age
// counts: a verdict that came from another replica lives no longer for it.
func (c *Cache) left(r *introspection.Response) time.Duration {
	age := c.ageOf(r)
	left := c.config.NoExpAge - age
	if exp, ok := r.ExpiresAt(); ok {
		left = maxAge
		if now := c.config.Now(); exp < now.Add(maxAge).Unix() {
			left = time.Unix(exp, 0).Sub(now)
		}
	}
	if c.config.MaxAge > 0 {
		left = min(left, c.config.MaxAge-age)
	}
	return left
}

// reap removes up to reapPerInsert entries from the old end while they are over.
// Landing one at a time is what keeps it from removing an entry that was
// renewed after it was looked at.
func reap[V any](oldest func() (key, V, bool), remove func(key) bool, over func(V) bool) int {
	for removed := range reapPerInsert {
		k, v, ok := oldest()
		if !ok || !over(v) || !remove(k) {
			return removed
		}
	}
	return reapPerInsert
}
