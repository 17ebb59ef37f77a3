package client

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// results are the values of the label result, which says what one call to the
// endpoint brought.
var results = []struct {
	label string
	kind  error
}{
	{"active", nil},
	{"inactive", introspection.ErrInactive},
	{"malformed", introspection.ErrMalformed},
	{"unavailable", introspection.ErrUnavailable},
	{"throttled", introspection.ErrThrottled},
	{"credential_rejected", introspection.ErrInvalidClient},
}

type metrics struct {
	introspections *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	inFlight       prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		introspections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "introspection_sidecar_introspections_total",
			Help: "Calls to the introspection endpoint, by result.",
		}, []string{"result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "introspection_sidecar_introspection_duration_seconds",
			Help:    "Time of one call to the introspection endpoint, by result.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10},
		}, []string{"result"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "introspection_sidecar_introspections_in_flight",
			Help: "Calls to the introspection endpoint that are under way.",
		}),
	}
	for _, r := range results {
		m.introspections.WithLabelValues(r.label)
		m.duration.WithLabelValues(r.label)
	}
	if registerer != nil {
		registerer.MustRegister(m.introspections, m.duration, m.inFlight)
	}
	return m
}

// start counts a call as under way; the function it returns counts its result.
func (m *metrics) start() func(error) {
	began := time.Now()
	m.inFlight.Inc()
	return func(err error) {
		m.inFlight.Dec()
		label := resultLabel(err)
		m.introspections.WithLabelValues(label).Inc()
		m.duration.WithLabelValues(label).Observe(time.Since(began).Seconds())
	}
}

func resultLabel(err error) string {
	for _, r := range results {
		if errors.Is(err, r.kind) {
			return r.label
		}
	}
	return "unavailable"
}
