package client

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// maxWaiting bounds the requests that wait for a place; each costs a few KiB.
const maxWaiting = 4096

// queue bounds the calls to the endpoint.
type queue struct {
	slots   chan struct{}
	waiting atomic.Int64
	timeout time.Duration // of waiting for a place
}

func newQueue(places int, timeout time.Duration) *queue {
	return &queue{slots: make(chan struct{}, places), timeout: timeout}
}

// errAbandoned ends a call that nobody waits for any more.
func errAbandoned() error {
	return introspection.Failf(introspection.ErrUnavailable, "nobody waits for the verdict")
}

// acquire waits for one of the places, at most the timeout, and calls queued, unless
// that is nil, when it has to. Those who wait get them in the order in which they came.
func (q *queue) acquire(ctx context.Context, queued func(), abandoned <-chan struct{}) error {
	select {
	case q.slots <- struct{}{}:
		return nil
	default:
	}
	if q.waiting.Add(1) > maxWaiting {
		q.waiting.Add(-1)
		return introspection.Failf(introspection.ErrBusy, "queue is full")
	}
	defer q.waiting.Add(-1)
	if queued != nil {
		queued()
	}
	timer := time.NewTimer(q.timeout)
	defer timer.Stop()
	select {
	case q.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return introspection.Failf(introspection.ErrBusy, "no place came free within %v", q.timeout)
	case <-abandoned:
		return errAbandoned()
	case <-ctx.Done():
		return introspection.Failf(introspection.ErrUnavailable, "%v", ctx.Err())
	}
}

func (q *queue) release() { <-q.slots }
