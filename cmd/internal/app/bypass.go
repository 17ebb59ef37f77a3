package app

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/doctor"
)

// bypassInterval is how often a bypassGuard looks.
const bypassInterval = 5 * time.Second

// bypassGuard looks from time to time whether there is a way around the sidecar, and
// logs every change.
type bypassGuard struct {
	probe  doctor.Bypass
	logger *slog.Logger
	open   atomic.Bool
}

// run looks until ctx ends.
func (g *bypassGuard) run(ctx context.Context) error {
	ticker := time.NewTicker(bypassInterval)
	defer ticker.Stop()
	for {
		g.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look looks once, and logs what has changed.
func (g *bypassGuard) look(ctx context.Context) {
	accepted := g.probe.Open(ctx)
	if ctx.Err() != nil {
		return // what was cut short says nothing
	}
	switch open := len(accepted) > 0; {
	case open && !g.open.Swap(true):
		g.logger.Warn("the FHIR server can be reached around the sidecar: it must listen on loopback only",
			"address", accepted[0].String(), "setting", "SIDECAR_BYPASS_GUARD")
	case !open && g.open.Swap(false):
		g.logger.Info("the FHIR server can no longer be reached around the sidecar",
			"port", strconv.Itoa(int(g.probe.Port)))
	}
}

// accepted reports whether there was a way around when it looked last.
func (g *bypassGuard) accepted() bool { return g.open.Load() }

// metric is the gauge introspection_sidecar_bypass_open.
func (g *bypassGuard) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "introspection_sidecar_bypass_open",
		Help: "1 while the FHIR server accepts connections around the sidecar, else 0.",
	}, func() float64 {
		if g.accepted() {
			return 1
		}
		return 0
	})
}
