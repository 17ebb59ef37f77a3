package cache

import "github.com/prometheus/client_golang/prometheus"

// Values of the labels verdict and reason.
const (
	activeLabel    = "active"
	inactiveLabel  = "inactive"
	reasonCapacity = "capacity"
	reasonExpired  = "expired"
	reasonPurged   = "purged"
)

type metrics struct {
	lookups   map[string]prometheus.Counter
	evictions *prometheus.CounterVec
	hitAge    prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, active, inactive func() int) *metrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_cache_lookups_total",
		Help: "Lookups of a token's verdict, by result.",
	}, []string{"result"})
	m := &metrics{
		lookups: make(map[string]prometheus.Counter),
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "introspection_sidecar_cache_evictions_total",
			Help: "Verdicts removed from the cache, by verdict and reason.",
		}, []string{"verdict", "reason"}),
		hitAge: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "introspection_sidecar_cache_hit_age_seconds",
			Help:    "Age of the verdicts that were believed: how long a revoked token could have lived.",
			Buckets: []float64{1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
		}),
	}
	for _, result := range []string{Hit, Miss, Expired, InactiveHit, Coalesced} {
		m.lookups[result] = lookups.WithLabelValues(result)
	}
	for _, reason := range []string{reasonCapacity, reasonExpired, reasonPurged} {
		m.evictions.WithLabelValues(activeLabel, reason)
		m.evictions.WithLabelValues(inactiveLabel, reason)
	}
	if registerer != nil {
		registerer.MustRegister(lookups, m.evictions, m.hitAge, entries(activeLabel, active), entries(inactiveLabel, inactive))
	}
	return m
}

func entries(verdict string, length func() int) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "introspection_sidecar_cache_entries",
		Help:        "Verdicts in the cache, expired ones that weren't removed yet included.",
		ConstLabels: prometheus.Labels{"verdict": verdict},
	}, func() float64 { return float64(length()) })
}

func (m *metrics) evicted(verdict, reason string, n int) {
	if n > 0 {
		m.evictions.WithLabelValues(verdict, reason).Add(float64(n))
	}
}
