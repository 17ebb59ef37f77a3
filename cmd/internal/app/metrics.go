package app

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/shared"
)

// Sources of purges.
const (
	purgedByAdmin = "admin"
	purgedByFeed  = shared.Feed
)

// newPurges counts the purges that this sidecar made.
func newPurges(registry prometheus.Registerer) *prometheus.CounterVec {
	purges := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_purges_total",
		Help: "Purges of the cache in memory, by source: an admin here, or the purge feed of the shared cache.",
	}, []string{"source"})
	for _, source := range []string{purgedByAdmin, purgedByFeed} {
		purges.WithLabelValues(source)
	}
	registry.MustRegister(purges)
	return purges
}

// newRegistry has what every program of ours has.
func newRegistry(build Build) *prometheus.Registry {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "introspection_sidecar_build_info",
		Help:        "Always 1; version, commit and Go version are labels.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "goversion": runtime.Version()},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}
