package app

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// readyGauge is /readyz for those who only see metrics: a sidecar that isn't ready
// gets no requests, so that no other series tells.
func (sc *sidecar) readyGauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "introspection_sidecar_ready",
		Help: "1 while /readyz is green, else 0.",
	}, func() float64 {
		if len(sc.unready()) > 0 {
			return 0
		}
		return 1
	})
}

// unready are the reasons not to send requests here.
func (sc *sidecar) unready() (reasons []string) {
	if sc.draining.Load() {
		reasons = append(reasons, "draining")
	}
	if err := sc.client.Ready(); err != nil {
		reasons = append(reasons, err.Error())
		if fault := sc.discoveryFault(); fault != nil {
			reasons = append(reasons, strings.Split(fault.Error(), "\n")...) // one for each document
		}
	}
	return reasons
}

// discoveryFault says why an endpoint isn't known.
func (sc *sidecar) discoveryFault() error {
	if sc.discovery == nil {
		return nil
	}
	return sc.discovery.Fault()
}

// lookInterval is how often readiness is looked at for a change to log.
const lookInterval = time.Second

// readinessLine is what the log said last.
type readinessLine struct {
	mu   sync.Mutex
	told string // "": nothing yet
}

// watchReadiness logs every change of readiness until ctx ends.
func (sc *sidecar) watchReadiness(ctx context.Context) error {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		sc.tellReadiness()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// tellReadiness logs whether the sidecar is ready, when that has changed.
func (sc *sidecar) tellReadiness() {
	reasons := sc.unready()
	state := "ready"
	if len(reasons) > 0 {
		state = "not ready"
	}
	sc.readiness.mu.Lock()
	changed := sc.readiness.told != state
	sc.readiness.told = state
	sc.readiness.mu.Unlock()
	switch {
	case !changed:
	case len(reasons) > 0:
		sc.logger.Warn(state, "reasons", reasons)
	default:
		sc.logger.Info(state)
	}
}
