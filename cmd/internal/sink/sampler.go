package sink

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// burst is how many lines of one kind are written in a window.
	burst = 20

	// window is how long a burst is counted, and how long what was left out of it may
	// go unmentioned.
	window = time.Second
)

// Sampler is a slog.Handler that writes the first lines of a burst and the number of
// the others: refusals cost a stranger nothing, and must not fill the disk. A burst is
// many lines about requests with the same decision and reason.
type Sampler struct {
	slog.Handler
	bursts *bursts
}

// bursts are shared by a Sampler and those that come of it.
type bursts struct {
	handler    slog.Handler // without attributes
	suppressed prometheus.Counter

	mu     sync.Mutex
	counts map[kind]*count
	ended  bool
}

// kind is what the lines of a burst have in common. Both come from constants, so that
// there are few.
type kind struct{ message, decision, reason string }

// count is that of one kind's lines in this window.
type count struct {
	written, left int64
	timer         *time.Timer // ends the window
}

// NewSampler returns a Sampler in front of handler.
func NewSampler(handler slog.Handler, registerer prometheus.Registerer) *Sampler {
	b := &bursts{
		handler: handler, counts: make(map[kind]*count),
		suppressed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_log_lines_suppressed_total",
			Help: "Log lines about refused requests that were left out of a burst of equal ones.",
		}),
	}
	registerer.MustRegister(b.suppressed)
	return &Sampler{handler, b}
}

// Handle implements slog.Handler.
func (s *Sampler) Handle(ctx context.Context, r slog.Record) error {
	if k, ok := kindOf(r); ok && !s.bursts.take(k) {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (s *Sampler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Sampler{s.Handler.WithAttrs(attrs), s.bursts}
}

// WithGroup implements slog.Handler.
func (s *Sampler) WithGroup(name string) slog.Handler {
	return &Sampler{s.Handler.WithGroup(name), s.bursts}
}

// Close writes what was left out and not reported yet. Lines that come later are all
// written.
func (s *Sampler) Close() {
	b := s.bursts
	b.mu.Lock()
	b.ended = true
	var kinds []kind
	for k, c := range b.counts {
		c.timer.Stop()
		kinds = append(kinds, k)
	}
	b.mu.Unlock()
	for _, k := range kinds {
		b.end(k)
	}
}

// kindOf tells which burst a line may belong to. Errors, which somebody has to look
// at, and lines without a decision never do.
func kindOf(r slog.Record) (k kind, ok bool) {
	if r.Level < slog.LevelInfo || r.Level >= slog.LevelError {
		return k, false
	}
	k.message = r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "decision":
			k.decision = a.Value.String()
		case "reason", "reported":
			k.reason = a.Value.String()
		}
		return true
	})
	return k, k.decision != ""
}

// take reports whether a line of the kind is to be written.
func (b *bursts) take(k kind) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return true
	}
	c := b.counts[k]
	if c == nil {
		c = &count{timer: time.AfterFunc(window, func() { b.end(k) })}
		b.counts[k] = c
	}
	if c.written < burst {
		c.written++
		return true
	}
	c.left++
	b.suppressed.Inc()
	return false
}

// end ends a window and tells what was left out of it.
func (b *bursts) end(k kind) {
	b.mu.Lock()
	c := b.counts[k]
	delete(b.counts, k)
	b.mu.Unlock()
	if c == nil || c.left == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "log lines suppressed", 0)
	r.AddAttrs(slog.Int64("lines", c.left), slog.String("decision", k.decision))
	if k.reason != "" {
		r.AddAttrs(slog.String("reason", k.reason))
	}
	_ = b.handler.Handle(context.Background(), r) // as any line: there is nobody to tell
}
