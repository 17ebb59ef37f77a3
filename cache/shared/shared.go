package shared

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Lookup is the lookup result of a verdict that stood in the store, as it stands
// in logs and audit records.
const Lookup = "shared"

// Feed is the source of purges that another replica was told to make.
const Feed = "feed"

// retryAfter is what a client is told to wait while the store is away, or has
// been taken by another replica for too long.
const retryAfter = time.Second

// leaseSlack is how much longer a lease lasts than the call it is for.
const leaseSlack = 2 * time.Second

// Source asks the authorization server.
type Source struct {
	// Refuse returns an error for a token that can only be refused, without a call.
	Refuse func(ctx context.Context, token string) error
	// Ask makes one call, and returns a response that Decode takes for active or
	// inactive. It takes at most twice the timeout: waiting, then calling.
	Ask func(ctx context.Context, r introspection.Request) (introspection.Answer, error)
	// Decode returns the response of an active token, or introspection.ErrInactive.
	Decode func(a introspection.Answer) (*introspection.Response, error)
	// Authority names who is asked and who asks.
	Authority func() string
	// Timeout bounds one call.
	Timeout time.Duration
}

// Config configures a Cache.
type Config struct {
	// Source is asked about tokens without a verdict in the store.
	Source Source
	// Store is shared by all replicas.
	Store Store
	// Sharded says that the store is a cluster, of which a part may be away.
	Sharded bool
	// Secrets returns what the replicas have in common. There is at least one.
	Secrets func() Secrets
	// Prefix begins the name of every key.
	Prefix string
	// OperationTimeout bounds one operation of the store.
	OperationTimeout time.Duration
	// Refuse has tokens refused for now while the store is away, instead of asking
	// about them from each replica.
	Refuse bool
	// Once says that the authorization server answers truthfully once about a
	// token: an inactive verdict is believed only while the store is there to say
	// that no other replica asked.
	Once bool
	// MaxAge, NoExpAge and InactiveAge are those of the cache in front.
	MaxAge, NoExpAge, InactiveAge time.Duration
	// ClockSkew is how far a writer's clock may be ahead of ours.
	ClockSkew time.Duration
	// Purge forgets verdicts in the cache in front, and returns how many. The source
	// is that of a call to Cache.Purge, or Feed.
	Purge func(f cache.Filter, source string) int
	// Now is the wall clock. Nil means time.Now.
	Now func() time.Time
	// Elapsed is a clock that no one can set. Nil means the time since New.
	Elapsed func() time.Duration
	// Logger logs when the store is lost and when it is back. Nil discards.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: they are not exported.
	Registerer prometheus.Registerer
}

// Cache is an introspection.Introspector that shares verdicts with other
// replicas. It keeps none in memory. Run has to run beside it.
type Cache struct {
	config     Config
	operations *operations
	reader     *reader
	queue      *queue
	feed       *feed
}

// New returns a Cache. Its store doesn't have to be reachable.
func New(config Config) (*Cache, error) {
	source := config.Source
	if source.Refuse == nil || source.Ask == nil || source.Decode == nil || source.Authority == nil || source.Timeout <= 0 {
		return nil, errors.New("shared: all of Source is required")
	}
	if config.Store == nil || config.Secrets == nil || config.Prefix == "" || config.OperationTimeout <= 0 || config.Purge == nil {
		return nil, errors.New("shared: Store, Secrets, Prefix, OperationTimeout and Purge are required")
	}
	config.fill()
	c := &Cache{config: config}
	m := newMetrics(config.Registerer, c.Connected, func() time.Duration { return c.feed.age() })
	c.operations = &operations{
		store: config.Store, timeout: config.OperationTimeout, metrics: m,
		gates: newGates(config.Sharded, config.Elapsed, config.patience(), c.changed),
	}
	c.queue = newQueue(c.operations, config.Elapsed)
	c.feed = &feed{
		operations: c.operations, events: newEvents(), secrets: config.Secrets,
		apply: func(f cache.Filter) { config.Purge(f, Feed) },
		// In a cluster both keys have to be on one node, to be lost together: what
		// stands in braces is what the second is placed by.
		stream: config.Prefix + ":feed", life: config.Prefix + ":{" + config.Prefix + ":feed}:incarnation",
		elapsed: config.Elapsed, patience: config.patience(), logger: config.Logger, tried: make(chan struct{}),
	}
	c.reader = &reader{
		ages: ages{max: config.MaxAge, noExp: config.NoExpAge, inactive: config.InactiveAge, now: config.Now},
		skew: config.ClockSkew, decode: source.Decode, purged: c.feed.events.purged, metrics: m, logger: config.Logger,
	}
	return c, nil
}

func (config *Config) fill() {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Elapsed == nil {
		start := time.Now()
		config.Elapsed = func() time.Duration { return time.Since(start) }
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
}

// patience is how long an outage of the store is waited out, by those who would use
// the token up for all others if they went without. A flight has as much time beside
// what its own call may take.
func (config *Config) patience() time.Duration {
	if config.Once {
		return config.Source.Timeout
	}
	return 0
}

// Run reads the purge feed and makes what writes are left over, until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.queue.run(ctx) })
	c.feed.run(ctx)
	return nil
}

// Connected reports whether the store responds and its feed was read.
func (c *Cache) Connected() bool {
	return c.operations.gates.of(c.feed.life).open() && c.feed.caughtUp.Load()
}

func (c *Cache) changed(open bool, reason string) {
	if open {
		c.config.Logger.Warn("shared cache back")
		return
	}
	c.config.Logger.Warn("shared cache lost", "reason", reason)
}

// Purge forgets verdicts in the cache in front, has all other replicas do so, and
// returns how many were forgotten here. It reports whether another copy of the store
// has the event by then, where the store is of a kind that has copies. After an
// error the others are told as soon as the store is back.
func (c *Cache) Purge(ctx context.Context, filter cache.Filter, source string) (purged int, replicated bool, err error) {
	event := newEvent(filter, source)
	// Known before the purge here begins: what is looked up meanwhile doesn't come
	// back from the store.
	c.feed.events.publishing(event)
	purged = c.config.Purge(filter, source)
	replicated, err = c.feed.publish(ctx, event)
	return purged, replicated, err
}

// Introspect returns the verdict that another replica got, or asks on behalf of
// all of them. Tokens that can only be refused never reach the store.
func (c *Cache) Introspect(ctx context.Context, r introspection.Request) (introspection.Verdict, error) {
	if err := c.config.Source.Refuse(ctx, r.Token); err != nil {
		return introspection.Verdict{}, err
	}
	l, err := c.lookup(r)
	if err != nil {
		return introspection.Verdict{}, unavailable(err.Error())
	}
	call := &call{cache: c, lookup: l, request: r, authority: c.config.Source.Authority()}
	if !c.feed.ready(ctx) {
		// What was purged isn't known yet, so that nothing there can be believed.
		return call.without(ctx, errSkipped)
	}
	found, err := l.claim(ctx)
	switch {
	case errors.Is(err, errOutOfTime):
		call.giveBack(ctx)
		c.count(resultWaited)
		return introspection.Verdict{}, unavailable(err.Error())
	case err != nil:
		return call.without(ctx, err)
	case found != nil:
		return call.found(ctx, found)
	}
	return call.holding(ctx)
}

// lookup prepares the search for a token's verdict.
func (c *Cache) lookup(r introspection.Request) (*lookup, error) {
	places, err := placesOf(c.config.Secrets(), c.config.Prefix, c.config.Source.Authority(), r.Token)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return &lookup{
		operations: c.operations, reader: c.reader, elapsed: c.config.Elapsed,
		places: places, digest: sha256.Sum256([]byte(r.Token)),
		lease:    append([]byte{leaseMark}, hex.EncodeToString(id[:])...),
		leaseTTL: 2*c.config.Source.Timeout + leaseSlack, abandoned: r.Abandoned,
		patience: c.config.patience(),
	}, nil
}

func (c *Cache) count(result string) { c.operations.metrics.lookups[result].Inc() }

func unavailable(reason string) error {
	return &introspection.Failure{Kind: introspection.ErrUnavailable, Reason: reason, RetryAfter: retryAfter}
}
