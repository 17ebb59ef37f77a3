package app

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
)

// readyInterval is how often readiness is looked at, so that its changes are logged
// when nobody asks.
const readyInterval = time.Second

// readiness says whether new requests should come here.
type readiness struct {
	client    *client.Client
	discovery *discovery.Discovery // nil: every endpoint is configured
	bypass    *bypassGuard         // nil: a way around the sidecar is no reason
	logger    *slog.Logger
	draining  atomic.Bool

	mu     sync.Mutex
	logged bool // the state was, at least once
	ready  bool // as it was logged
}

// unready are the reasons not to send requests here. A change is logged, once.
func (r *readiness) unready() (reasons []string) {
	if r.draining.Load() {
		reasons = append(reasons, "draining")
	}
	if err := r.client.Ready(); err != nil {
		reasons = append(reasons, err.Error())
		if fault := r.discoveryFault(); fault != nil {
			reasons = append(reasons, strings.Split(fault.Error(), "\n")...) // one for each document
		}
	}
	if r.bypass != nil && r.bypass.accepted() {
		reasons = append(reasons, "the FHIR server can be reached around the sidecar")
	}
	r.note(reasons)
	return reasons
}

// discoveryFault says why an endpoint isn't known.
func (r *readiness) discoveryFault() error {
	if r.discovery == nil {
		return nil
	}
	return r.discovery.Fault()
}

func (r *readiness) note(reasons []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := len(reasons) == 0
	if r.logged && r.ready == ready {
		return
	}
	r.logged, r.ready = true, ready
	if ready {
		r.logger.Info("ready")
		return
	}
	r.logger.Warn("not ready", "reasons", reasons)
}

// run logs the changes until ctx ends.
func (r *readiness) run(ctx context.Context) error {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for {
		r.unready()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// metric is /readyz for those who only see metrics: a sidecar that isn't ready
// gets no requests, so that no other series tells.
func (r *readiness) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "introspection_sidecar_ready",
		Help: "1 while /readyz is green, else 0.",
	}, func() float64 {
		if len(r.unready()) > 0 {
			return 0
		}
		return 1
	})
}
