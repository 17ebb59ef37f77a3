package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// statusClasses are the values of the label code.
var statusClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// series are the metrics of one decision.
type series struct {
	requests [len(statusClasses)]prometheus.Counter
	duration prometheus.Observer
}

// metrics counts requests.
type metrics struct {
	byDecision map[*decision]*series
	refusals   map[policy.Reason]prometheus.Counter
	spoofed    prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_requests_total",
		Help: "Requests on the data listener, by decision and class of the status code.",
	}, []string{"decision", "code"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "introspection_sidecar_request_duration_seconds",
		Help:    "Time from a request's header to the end of its response, by decision.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"decision"})
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_refusals_total",
		Help: "Requests refused for their token, by what was wrong with it.",
	}, []string{"reason"})
	m := &metrics{
		byDecision: map[*decision]*series{},
		refusals:   map[policy.Reason]prometheus.Counter{},
		spoofed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_spoofed_headers_total",
			Help: "Inbound headers removed because they could be read as context headers.",
		}),
	}
	for _, d := range decisions {
		s := &series{duration: durations.WithLabelValues(d.label)}
		for class, code := range statusClasses {
			s.requests[class] = requests.WithLabelValues(d.label, code)
		}
		m.byDecision[d] = s
	}
	for _, reason := range refusalReasons {
		m.refusals[reason] = refusals.WithLabelValues(string(reason))
	}
	if registerer != nil {
		registerer.MustRegister(requests, durations, refusals, m.spoofed)
	}
	return m
}

// count counts a request that is over.
func (m *metrics) count(x *exchange) {
	class := x.status/100 - 1
	if class < 0 || class >= len(statusClasses) {
		class = len(statusClasses) - 1
	}
	s := m.byDecision[x.decision]
	s.requests[class].Inc()
	s.duration.Observe(time.Since(x.began).Seconds())
	if counter := m.refusals[x.reason]; counter != nil {
		counter.Inc()
	}
}
