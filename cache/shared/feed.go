package shared

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

const (
	// feedBlock is how long one read waits for an event; then the incarnation is
	// looked at again.
	feedBlock = 2 * time.Second

	// publishTimeout bounds the publishing of a purge: somebody waits for it, and
	// a replica is waited for.
	publishTimeout = time.Second

	minFeedBackoff = 200 * time.Millisecond
	maxFeedBackoff = 5 * time.Second
)

// feed carries purges to all replicas: a stream in the store, of which each
// replica knows its position. Nothing is lost while a connection is.
type feed struct {
	operations *operations
	stream     string
	life       string // the key of the incarnation
	secrets    func() Secrets
	apply      func(cache.Filter)
	elapsed    func() time.Duration
	patience   time.Duration // from the start, in which a first try that failed isn't the last
	logger     *slog.Logger
	events     *events
	foreign    sync.Once // logs that an entry doesn't open

	lastRead atomic.Int64  // elapsed time
	caughtUp atomic.Bool   // the feed was read to its end once
	tried    chan struct{} // closed when that was tried for long enough
}

// age is the time since the feed was read to its end, or since the start.
func (f *feed) age() time.Duration { return f.elapsed() - time.Duration(f.lastRead.Load()) }

// ready reports whether the feed was read to its end. A replica that has just
// started waits for the first try, or as long as an outage is waited out: what others
// know is then not asked again.
func (f *feed) ready(ctx context.Context) bool {
	select {
	case <-f.tried:
	case <-ctx.Done():
	}
	return f.caughtUp.Load()
}

// run reads the feed until ctx ends.
func (f *feed) run(ctx context.Context) {
	backoff := minFeedBackoff
	first := sync.OnceFunc(func() { close(f.tried) })
	defer first()
	for ctx.Err() == nil {
		err := f.round(ctx)
		if f.caughtUp.Load() || err != nil && f.elapsed() >= f.patience {
			first()
		}
		if err == nil {
			backoff = minFeedBackoff
			continue
		}
		timer := time.NewTimer(backoff/2 + rand.N(backoff))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		backoff = min(2*backoff, maxFeedBackoff)
	}
}

// round looks whether the store is still the same, sends what couldn't be sent,
// and reads what came. Its first operation is also what finds out, without any
// request, that the store went or came back.
func (f *feed) round(ctx context.Context) error {
	if err := f.look(ctx); err != nil {
		return err
	}
	for _, event := range f.events.unpublished() {
		if _, err := f.publish(ctx, event); err != nil {
			return err
		}
	}
	block := feedBlock
	if !f.caughtUp.Load() {
		block = 0
	}
	entries, err := f.read(ctx, block)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		f.take(entry)
	}
	if len(entries) < valkey.ReadCount {
		f.lastRead.Store(int64(f.elapsed()))
		f.caughtUp.Store(true)
	}
	return nil
}

// look gives the store an incarnation, or finds the one it has.
func (f *feed) look(ctx context.Context) error {
	mine := newIncarnation()
	found, err := f.operations.setNX(ctx, f.life, mine[:], 0)
	switch {
	case err != nil:
		return err
	case found == nil:
	case len(found) == len(mine):
		mine = incarnation(found)
	default:
		return fmt.Errorf("incarnation of %d bytes", len(found))
	}
	if f.events.begin(mine) {
		f.operations.metrics.resets.Inc()
		f.logger.Warn("shared cache was emptied")
	}
	return nil
}

// read isn't let through by the gate: it has a connection of its own, on which it
// may wait.
func (f *feed) read(ctx context.Context, block time.Duration) ([]valkey.Event, error) {
	readCtx, cancel := context.WithTimeout(ctx, block+publishTimeout)
	defer cancel()
	at := f.events.position()
	entries, err := f.operations.store.Read(readCtx, f.stream, fmt.Sprintf("%d-%d", at.ms, at.n), block)
	if err != nil && ctx.Err() == nil {
		f.operations.metrics.errors[valkey.Reason(err)].Inc()
	}
	return entries, err
}

// take applies one entry. The event is known before the purge begins: a lookup
// that the purge doesn't catch meets the event.
func (f *feed) take(entry valkey.Event) {
	ms, n, err := parseID(entry.ID)
	if err != nil {
		return
	}
	f.events.reach(ms, n)
	event, err := openEvent(f.secrets(), f.stream, entry.Values)
	if err != nil {
		f.operations.metrics.errors[valkey.Other].Inc()
		f.foreign.Do(func() { f.logger.Error("entry of the purge feed doesn't open") })
		return
	}
	if f.events.add(event) {
		f.apply(event.Filter)
	}
}

// publish sends an event that is known here. Until this replica meets it in the
// feed it takes nothing from the store that the filter matches, and it sends one
// that couldn't be sent again.
func (f *feed) publish(ctx context.Context, event feedEvent) (replicated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return f.send(ctx, event)
}

func (f *feed) send(ctx context.Context, event feedEvent) (replicated bool, err error) {
	values, err := event.seal(f.secrets(), f.stream)
	if err != nil {
		return false, err
	}
	begin := time.Now()
	replicated, err = f.operations.store.Append(ctx, f.stream, values)
	f.operations.metrics.duration[feedOp].Observe(time.Since(begin).Seconds())
	if err != nil {
		f.operations.metrics.errors[valkey.Reason(err)].Inc()
		return false, err
	}
	f.events.published(event)
	return replicated, nil
}
