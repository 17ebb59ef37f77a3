package shared

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

// Results of a lookup, as they stand in metrics.
const (
	resultHit           = "hit"           // an active verdict stood there
	resultInactive      = "inactive"      // an inactive one
	resultAcquired      = "acquired"      // none: this replica asks
	resultWaited        = "waited"        // another replica was asking
	resultUndecryptable = "undecryptable" // a value that doesn't open
	resultStale         = "stale"         // a verdict too old, from the future, or purged since
	resultError         = "error"         // the store failed
	resultSkipped       = "skipped"       // the store wasn't asked
)

type metrics struct {
	lookups  map[string]prometheus.Counter
	duration map[string]prometheus.Observer
	errors   map[string]prometheus.Counter
	resets   prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, connected func() bool, feedAge func() time.Duration) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_shared_cache_lookups_total",
		Help: "Lookups in the shared cache, by result. One that finds a value that can't be used counts it, and how it went on.",
	}, []string{"result"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "introspection_sidecar_shared_cache_operation_duration_seconds",
		Help:    "Duration of the shared cache's operations.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
	}, []string{"operation"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_shared_cache_errors_total",
		Help: "Failed operations of the shared cache, by reason.",
	}, []string{"reason"})
	m := &metrics{
		lookups:  make(map[string]prometheus.Counter),
		duration: make(map[string]prometheus.Observer),
		errors:   make(map[string]prometheus.Counter),
		resets: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_shared_cache_resets_total",
			Help: "Times the store was found emptied.",
		}),
	}
	for _, result := range []string{
		resultHit, resultInactive, resultAcquired, resultWaited,
		resultUndecryptable, resultStale, resultError, resultSkipped,
	} {
		m.lookups[result] = lookups.WithLabelValues(result)
	}
	for _, operation := range []string{acquireOp, storeOp, releaseOp, feedOp} {
		m.duration[operation] = duration.WithLabelValues(operation)
	}
	for _, reason := range valkey.Reasons() {
		m.errors[reason] = failures.WithLabelValues(reason)
	}
	if registerer != nil {
		registerer.MustRegister(lookups, duration, failures, m.resets,
			gauge("introspection_sidecar_shared_cache_connected", "1 while the store responds and the purge feed was read.",
				func() float64 {
					if connected() {
						return 1
					}
					return 0
				}),
			gauge("introspection_sidecar_purge_feed_age_seconds", "Time since the purge feed was last read to its end.",
				func() float64 { return feedAge().Seconds() }))
	}
	return m
}

func gauge(name, help string, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}
