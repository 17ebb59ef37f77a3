package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Reasons for which a context header is left out.
const (
	omittedInvalid  = "invalid"
	omittedTooLarge = "too_large"
	omittedNoRoom   = "no_room"
)

// statusClasses are the values of the label code.
var statusClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

type metrics struct {
	requests    [decisionCount][len(statusClasses)]prometheus.Counter
	durations   [decisionCount]prometheus.Observer
	spoofed     prometheus.Counter
	omitted     *prometheus.CounterVec
	headerNames []string // of Config.Headers
}

func newMetrics(registerer prometheus.Registerer, headers []ContextHeader, f family) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_requests_total",
		Help: "Requests on the data listener, by decision and class of the status code.",
	}, []string{"decision", "code"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "introspection_sidecar_request_duration_seconds",
		Help:    "Time from a request's header to the end of its answer, by decision.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"decision"})
	m := &metrics{
		spoofed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "introspection_sidecar_spoofed_headers_total",
			Help: "Inbound headers removed because they could be read as context headers.",
		}),
		omitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "introspection_sidecar_omitted_headers_total",
			Help: "Context headers left out although the token has the claim, by header and reason.",
		}, []string{"header", "reason"}),
	}
	for d, label := range decisionLabels {
		m.durations[d] = durations.WithLabelValues(label)
		for class, code := range statusClasses {
			m.requests[d][class] = requests.WithLabelValues(label, code)
		}
	}
	for _, header := range headers {
		name := http.CanonicalHeaderKey(f.prefix + header.Suffix)
		m.headerNames = append(m.headerNames, name)
		for _, reason := range header.omittedFor() {
			m.omitted.WithLabelValues(name, reason)
		}
	}
	if registerer != nil {
		registerer.MustRegister(requests, durations, m.spoofed, m.omitted)
	}
	return m
}

// omittedFor lists the reasons for which a header can be left out, so that its
// series exist before the first time.
func (c ContextHeader) omittedFor() []string {
	switch c.Claim {
	case introspection.Patient, introspection.Encounter, introspection.FHIRContext:
		return []string{omittedNoRoom, omittedInvalid}
	case introspection.Scope:
		return []string{omittedNoRoom, omittedTooLarge}
	}
	return []string{omittedNoRoom}
}

// omit counts that the header with this index was left out.
func (m *metrics) omit(header int, reason string) {
	m.omitted.WithLabelValues(m.headerNames[header], reason).Inc()
}

// finish ends a request: it turns a panic into a 500 and counts and logs, once.
func (p *Proxy) finish(x *exchange, r *http.Request) {
	panicked := recover()
	abort := panicked != nil
	switch {
	case isAbort(panicked):
		if x.status != 0 && x.Err() == nil && !x.failed {
			x.decision, x.failure = upstreamError, errBroken
		}
	case panicked != nil:
		// The panic's text may hold anything; its type and place don't.
		p.config.Logger.Error("panic", "panic", fmt.Sprintf("%T", panicked), "stack", string(debug.Stack()),
			"request_id", x.requestID)
		abort = x.status != 0
		p.reject(x, r, &refusePanic)
	}
	p.count(x)
	p.log(x, r)
	p.audit(x, r)
	p.endSpan(x, r)
	if abort {
		// An answer that has begun must not look complete.
		panic(http.ErrAbortHandler)
	}
}

func isAbort(panicked any) bool {
	err, _ := panicked.(error)
	return errors.Is(err, http.ErrAbortHandler)
}

func (p *Proxy) count(x *exchange) {
	class := x.status/100 - 1
	if class < 0 || class >= len(statusClasses) {
		class = len(statusClasses) - 1
	}
	p.metrics.requests[x.decision][class].Inc()
	p.metrics.durations[x.decision].Observe(time.Since(x.began).Seconds())
}

// level is where a decision stands in the log.
func (d decision) level() slog.Level {
	switch d {
	case allowed, public, preflight, clientClosed:
		return slog.LevelDebug
	case introspectionUnavailable, upstreamError:
		return slog.LevelWarn
	case credentialRejected, internalError:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// log writes the request's one line. No token, query, header value or claim
// stands in it; the ids were checked to be harmless.
func (p *Proxy) log(x *exchange, r *http.Request) {
	level := x.decision.level()
	if !p.config.Logger.Enabled(x, level) {
		return
	}
	method, interaction, _ := x.describe(r)
	attrs := []slog.Attr{
		slog.String("decision", decisionLabels[x.decision]),
		slog.String("method", method),
		slog.String("interaction", string(interaction)),
		slog.Int("status", x.status),
		slog.Float64("duration_ms", float64(time.Since(x.began).Microseconds())/1000),
		slog.String("request_id", x.requestID),
		slog.String("correlation_id", x.correlationID),
		slog.String("trace_id", x.asked.TraceID),
		slog.String("cache", x.found.Lookup),
	}
	ref := ""
	if x.token != "" {
		ref = p.config.TokenRef(x.token)
	}
	attrs = append(attrs, slog.String("token_ref", ref))
	if x.failure != nil && level >= slog.LevelWarn {
		attrs = append(attrs, slog.String("error", failureText(x.decision, x.failure)))
	}
	p.config.Logger.LogAttrs(context.WithoutCancel(x), level, "request", attrs...)
}

// failureText tells an operator why there was no verdict or no answer. Errors
// of net/http quote what the other side sent, which may be patient data, so
// that only known kinds of them are told.
func failureText(d decision, err error) string {
	var (
		failure *introspection.Failure
		network *net.OpError
		errno   syscall.Errno
		timeout net.Error
	)
	switch {
	case errors.As(err, &failure):
		return failure.Error()
	case d == introspectionUnavailable || d == credentialRejected:
		return "no verdict"
	case errors.Is(err, errSwitch), errors.Is(err, errBroken), errors.Is(err, errStatus), errors.Is(err, errLoop):
		return err.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "FHIR server timed out"
	case errors.As(err, &network) && errors.As(err, &errno):
		return "FHIR server: " + network.Op + ": " + errno.Error()
	case errors.As(err, &network) && network.Op == "dial":
		return "FHIR server: dial failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "FHIR server closed the connection"
	default:
		return "FHIR server's answer can't be understood"
	}
}
