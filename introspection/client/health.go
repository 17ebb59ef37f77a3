package client

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// edgeInterval is the time in which one change of the endpoint's health may be
	// logged on average, edgeBurst how many at once: an endpoint that fails every
	// other call must not fill the log.
	edgeInterval = 10 * time.Second
	edgeBurst    = 6
)

// health tells the log when the endpoint begins to fail and when it answers again.
type health struct {
	logger *slog.Logger

	mu      sync.Mutex
	failing bool // as the log says
	since   time.Time
	failed  int // calls since then
	edges   int // lines that may be written
	refill  time.Time
}

// note takes the outcome of one call: nil when the endpoint gave a verdict.
func (h *health) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.failed++
	}
	if (err != nil) == h.failing || !h.mayTell() {
		return
	}
	if h.failing = err != nil; h.failing {
		h.since, h.failed = time.Now(), 1
		h.logger.Warn("introspection endpoint fails", "error", err.Error())
		return
	}
	h.logger.Info("introspection endpoint answers again",
		"failed_calls", h.failed, "after", time.Since(h.since).Round(time.Millisecond).String())
}

// mayTell takes one of the lines that may be written. h.mu is held.
func (h *health) mayTell() bool {
	now := time.Now()
	if h.refill.IsZero() {
		h.edges, h.refill = edgeBurst, now
	}
	if n := int(now.Sub(h.refill) / edgeInterval); n > 0 {
		h.edges, h.refill = min(h.edges+n, edgeBurst), now
	}
	if h.edges == 0 {
		return false
	}
	h.edges--
	return true
}
