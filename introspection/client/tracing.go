package client

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// spanName is the name of every client span. A span holds words of this
// package and a status code; nothing that came in, and no URL.
const spanName = "introspect"

// startSpan begins the span of one call to the endpoint. Its parent comes with
// the request, because the call runs in a context of its own. Nil: tracing is off.
func (c *Client) startSpan(ctx context.Context, parent trace.Span) (context.Context, trace.Span) {
	if c.config.Tracer == nil {
		return ctx, nil
	}
	if parent != nil {
		ctx = trace.ContextWithSpan(ctx, parent)
	}
	return c.config.Tracer.Start(ctx, spanName, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", http.MethodPost)))
}

// endSpan notes what the call brought. That a token is inactive is no fault.
func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	label := resultLabel(err)
	span.SetAttributes(attribute.String("introspection_sidecar.result", label))
	if err != nil && !errors.Is(err, introspection.ErrInactive) {
		span.SetStatus(codes.Error, label)
	}
	span.End()
}

// noteStatus puts the endpoint's status on the span of the call, if it has one.
func noteStatus(ctx context.Context, status int) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
}

// injectTrace makes the endpoint's spans children of the call's (W3C Trace
// Context).
func (c *Client) injectTrace(ctx context.Context, header http.Header) {
	if c.config.Tracer != nil {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
}
