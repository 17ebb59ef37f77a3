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
	reports    map[policy.Reason]prometheus.Counter // empty: nothing is reported
	guarded    map[policy.Reach]prometheus.Counter  // empty: nobody is guarded
}

func newMetrics(registerer prometheus.Registerer, access *policy.Access) *metrics {
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
	m.addAccess(registerer, access)
	return m
}

// addAccess adds what is counted only where it is checked.
func (m *metrics) addAccess(registerer prometheus.Registerer, access *policy.Access) {
	m.reports, m.guarded = map[policy.Reason]prometheus.Counter{}, map[policy.Reach]prometheus.Counter{}
	var collectors []prometheus.Collector
	if access.Scopes == policy.Report || access.Patient == policy.Report {
		reports := prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "introspection_sidecar_scope_reports_total",
			Help: "Requests that were let through and would have been refused, were the checks enforced, by reason.",
		}, []string{"reason"})
		for _, reason := range []policy.Reason{policy.Interaction, policy.Operation, policy.PatientContext, policy.OtherPatient} {
			m.reports[reason] = reports.WithLabelValues(string(reason))
		}
		collectors = append(collectors, reports)
	}
	if access.Patient != policy.Off {
		guarded := prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "introspection_sidecar_patient_guard_total",
			Help: "Requests of tokens that are limited to one patient, by where they lead and what the guard does about it.",
		}, []string{"verdict", "mode"})
		for _, verdict := range policy.Reaches() {
			m.guarded[verdict] = guarded.WithLabelValues(string(verdict), access.Patient.String())
		}
		collectors = append(collectors, guarded)
	}
	if registerer != nil {
		registerer.MustRegister(collectors...)
	}
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
	if x.reported != "" {
		m.reports[x.reported].Inc()
	}
	if x.guarded != "" {
		m.guarded[x.guarded].Inc()
	}
}
