package shared

import (
	"context"
	"errors"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

// Store is what the cache wants of a store; *valkey.Store is one. Every command
// ends with its context.
type Store interface {
	// SetNX sets key for ttl (zero: for ever) unless it has a value, and returns
	// that. Nil: it was set.
	SetNX(ctx context.Context, key string, value []byte, ttl time.Duration) (found []byte, err error)
	// Set sets key for ttl whatever it has.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Swap replaces the old value of key for ttl, or removes it when value is nil,
	// and reports whether key still had it.
	Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) (swapped bool, err error)
	// Append adds an entry to a stream, and reports whether a replica has it too.
	Append(ctx context.Context, stream string, values [][]byte) (replicated bool, err error)
	// Read returns the entries after a position, and waits up to block for the first.
	Read(ctx context.Context, stream, after string, block time.Duration) ([]valkey.Event, error)
}

// errSkipped says that the store wasn't asked, because it failed just now.
var errSkipped = errors.New("shared cache is skipped")

// Operations as they stand in metrics.
const (
	acquireOp = "acquire"
	storeOp   = "store"
	releaseOp = "release"
	feedOp    = "feed"
)

// operations are the commands under one roof: each with a deadline, counted, and
// skipped while the store is away.
type operations struct {
	store   Store
	timeout time.Duration
	gates   *gates
	metrics *metrics
}

func (o *operations) setNX(ctx context.Context, key string, value []byte, ttl time.Duration) (found []byte, err error) {
	err = o.run(ctx, acquireOp, key, func(ctx context.Context) error {
		found, err = o.store.SetNX(ctx, key, value, ttl)
		return err
	})
	return found, err
}

func (o *operations) set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return o.run(ctx, storeOp, key, func(ctx context.Context) error { return o.store.Set(ctx, key, value, ttl) })
}

// swap is release without a value, else store.
func (o *operations) swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) (swapped bool, err error) {
	name := storeOp
	if value == nil {
		name = releaseOp
	}
	err = o.run(ctx, name, key, func(ctx context.Context) error {
		swapped, err = o.store.Swap(ctx, key, old, value, ttl)
		return err
	})
	return swapped, err
}

// run makes one operation if the gate lets it.
func (o *operations) run(ctx context.Context, name, key string, operation func(context.Context) error) error {
	waitCtx, stop := context.WithTimeout(ctx, o.timeout)
	pass, err := o.gates.of(key).enter(waitCtx)
	stop()
	if err != nil {
		return err
	}
	opCtx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	begin := time.Now()
	err = operation(opCtx)
	took := time.Since(begin)
	o.metrics.duration[name].Observe(took.Seconds())
	if err != nil && ctx.Err() != nil {
		pass.leave(verdictUnknown, "") // the caller gave up, which says nothing about the store
		return err
	}
	o.judge(pass, took, err)
	return err
}

// judge counts a failure and tells the gate.
func (o *operations) judge(pass *pass, took time.Duration, err error) {
	if err == nil {
		pass.leave(verdictGood, "")
		return
	}
	reason := valkey.Reason(err)
	o.metrics.errors[reason].Inc()
	if valkey.WrongType(err) {
		pass.leave(verdictGood, "") // one key that somebody else wrote
		return
	}
	if reason == valkey.Timeout && took > o.timeout+o.timeout/2 {
		pass.leave(verdictUnknown, "") // the clock was late as well: it is this process that is slow
		return
	}
	pass.leave(verdictBad, reason)
}
