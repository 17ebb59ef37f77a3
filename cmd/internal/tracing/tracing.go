// Package tracing sends spans to a collector. It is the only one that knows the
// OpenTelemetry SDK; the others make spans by its API.
package tracing

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	tracingScope = "github.com/fhir-introspection-sidecar/fhir-introspection-sidecar"

	// flushTimeout is what the last spans get at the end. With the default
	// SIDECAR_SHUTDOWN_TIMEOUT it stays within the 30 s that Kubernetes grants.
	flushTimeout = 3 * time.Second

	// tracingFaultInterval spares the log while a collector is down.
	tracingFaultInterval = time.Minute
)

// Provider sends spans to a collector. It is configured by OpenTelemetry's
// standard variables alone, which the SDK reads itself. Nil: off.
type Provider struct {
	provider *sdktrace.TracerProvider
	exporter sdktrace.SpanExporter
}

// New returns nil unless the environment asks for spans. The variables
// may be set for a whole cluster by somebody else, so that a fault in them is
// told and leaves tracing off; it is no reason not to serve.
func New(version string, logger *slog.Logger) *Provider {
	endpoint, err := tracesEndpoint(os.Getenv)
	if err != nil {
		logger.Warn("tracing is off", "error", err.Error())
	}
	if endpoint == nil {
		return nil
	}
	// Both are the SDK's only way out, and shared by the process. Its own log goes
	// to stderr and quotes OTEL_EXPORTER_OTLP_HEADERS, where credentials stand.
	otel.SetErrorHandler(&tracingFaults{logger: logger})
	setZero(otel.SetLogger)
	ctx := context.Background() // nothing here waits
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "fhir-introspection-sidecar"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // last, so that it overrides
	)
	if err != nil {
		otel.Handle(err)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		otel.Handle(err)
		return nil
	}
	logger.Info("tracing", "collector", endpoint.Host)
	return &Provider{
		exporter: exporter,
		// The batcher's queue is bounded; what doesn't fit is dropped, and nobody waits.
		provider: sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(exporter),
			sdktrace.WithoutPanicRecording()), // a panic's text may hold anything
	}
}

// setZero calls set with its argument's zero value, which for a logger is one
// that discards. Its type's package would be one more direct dependency.
func setZero[T any](set func(T)) {
	var zero T
	set(zero)
}

// tracesEndpoint returns where spans go, nil for nowhere, and why an endpoint
// that is set isn't used.
func tracesEndpoint(getenv func(string) string) (*url.URL, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value = strings.TrimSpace(getenv(name)); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	variable, value := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	_, exporter := first("OTEL_TRACES_EXPORTER")
	_, disabled := first("OTEL_SDK_DISABLED")
	protocolVariable, protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch {
	case value == "", exporter == "none", strings.EqualFold(disabled, "true"):
		return nil, nil
	case exporter != "" && exporter != "otlp":
		return nil, errors.New("OTEL_TRACES_EXPORTER must be otlp or none")
	case protocol != "" && protocol != "http/protobuf" && protocol != "http/json":
		return nil, errors.New(protocolVariable + " must be http/protobuf or http/json")
	}
	endpoint, err := url.Parse(value)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return nil, errors.New(variable + " must be an http or https URL")
	}
	return endpoint, nil
}

// Tracer is what the packages make spans with. Nil: off.
func (t *Provider) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(tracingScope)
}

// Close sends the spans that are left, as far as the collector takes them in time.
func (t *Provider) Close() {
	if t == nil {
		return
	}
	timeout, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	// Given the timeout itself, Shutdown would return and leave its goroutine
	// behind. Ending the exporter ends the upload, and so the wait for it.
	stop := context.AfterFunc(timeout, func() { _ = t.exporter.Shutdown(context.Background()) })
	defer stop()
	_ = t.provider.Shutdown(context.Background()) // the error handler was told
}

// tracingFaults logs what goes wrong with spans, once in a while.
type tracingFaults struct {
	logger *slog.Logger

	mu     sync.Mutex
	last   time.Time
	untold int
}

// Handle implements otel.ErrorHandler.
func (f *tracingFaults) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.last.IsZero() && time.Since(f.last) < tracingFaultInterval {
		f.untold++
		return
	}
	f.logger.Warn("tracing", "error", tracingFault(err), "untold", f.untold)
	f.last, f.untold = time.Now(), 0
}

var statusInError = regexp.MustCompile(`: ([1-5]\d\d) [A-Za-z ]+ \(body: `)

// tracingFault tells an error of the SDK in words of ours. Its own may quote
// URLs with user info, and what the collector answered.
func tracingFault(err error) string {
	text, exporting := strings.CutPrefix(err.Error(), "traces export: ")
	var (
		tlsFault *tls.CertificateVerificationError
		dns      *net.DNSError
		network  *url.Error
	)
	switch status := statusInError.FindStringSubmatch(text); {
	case !exporting:
		return "a variable of OTEL_ is not valid and is ignored"
	case errors.As(err, &tlsFault):
		return "the collector's certificate is not trusted"
	case errors.As(err, &dns):
		return "the collector's host name is not known"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at the collector's address"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "the collector doesn't answer in time"
	case status != nil:
		return "the collector answers with status " + status[1]
	default:
		return "the collector doesn't take spans"
	}
}
