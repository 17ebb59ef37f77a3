package shared

import (
	"bytes"
	"context"
	"sync"
	"time"
)

const (
	// maxJobs and maxQueued bound what waits for the store to come back; the
	// oldest is dropped.
	maxJobs   = 256
	maxQueued = 8 << 20 // bytes of values

	// retryPause is between two tries of a job while the store is away.
	retryPause = 200 * time.Millisecond

	// lastWords bounds what is still tried when the process ends.
	lastWords = time.Second
)

// job is a write that nobody waits for: a verdict for the other replicas, or the
// end of a lease that they would wait for.
type job struct {
	keys   []string
	lease  []byte
	values [][]byte // one for each key; none: the lease is taken back
	fence  time.Duration
	until  time.Duration
}

func (j *job) size() int {
	return len(bytes.Join(j.values, nil))
}

// run makes the writes that are left. Before the fence, as long as its lease could
// have lasted, a verdict replaces whatever stands there: an inactive one that came
// later is what a server says that answers only once. After it somebody else may
// know better, so that it only takes a place that is empty.
func (j *job) run(ctx context.Context, o *operations, elapsed func() time.Duration) error {
	for len(j.keys) > 0 {
		var err error
		ttl := j.until - elapsed()
		switch {
		case ttl < time.Millisecond:
		case j.values == nil:
			_, err = o.swap(ctx, j.keys[0], j.lease, nil, 0)
		case elapsed() < j.fence:
			err = o.set(ctx, j.keys[0], j.values[0], ttl)
		default:
			_, err = o.setNX(ctx, j.keys[0], j.values[0], ttl)
		}
		if err != nil {
			return err
		}
		if j.keys = j.keys[1:]; j.values != nil {
			j.values = j.values[1:]
		}
	}
	return nil
}

// queue holds jobs while the store is away.
type queue struct {
	operations *operations
	elapsed    func() time.Duration

	mu     sync.Mutex
	jobs   []*job
	queued int
	wake   chan struct{}
}

func newQueue(o *operations, elapsed func() time.Duration) *queue {
	return &queue{operations: o, elapsed: elapsed, wake: make(chan struct{}, 1)}
}

// do makes the job's writes now, or later if that fails. The request's end must
// not be theirs: others wait.
func (q *queue) do(ctx context.Context, j *job) {
	if err := j.run(context.WithoutCancel(ctx), q.operations, q.elapsed); err != nil {
		q.add(j)
	}
}

func (q *queue) add(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs, q.queued = append(q.jobs, j), q.queued+j.size()
	for len(q.jobs) > maxJobs || q.queued > maxQueued {
		q.queued -= q.jobs[0].size()
		q.jobs = q.jobs[1:]
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) take() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return nil
	}
	j := q.jobs[0]
	q.jobs, q.queued = q.jobs[1:], q.queued-j.size()
	return j
}

// run makes the jobs until ctx ends, and then once more what is left.
func (q *queue) run(ctx context.Context) {
	for ctx.Err() == nil {
		j := q.take()
		if j == nil {
			select {
			case <-ctx.Done():
			case <-q.wake:
			}
			continue
		}
		if err := j.run(ctx, q.operations, q.elapsed); err == nil {
			continue
		}
		q.add(j)
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for j := q.take(); j != nil && ctx.Err() == nil; j = q.take() {
		_ = j.run(ctx, q.operations, q.elapsed) // nothing else is left to try
	}
}
