package proxy

import (
	"context"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// spanName is the name of every server span. A span holds words of ours and a
// status code; nothing of the request, because paths and queries name patients.
const spanName = "fhir request"

// startSpan begins the request's span, if tracing is on. The span goes with the
// call, so that an introspection finds its parent.
func (p *Proxy) startSpan(x *exchange, h http.Header) {
	if p.config.Tracer == nil {
		return
	}
	x.Context, x.asked.Span = p.config.Tracer.Start(remoteParent(x.Context, h), spanName,
		trace.WithSpanKind(trace.SpanKindServer))
}

// remoteParent adds the client's span, if its traceparent is valid. Of two
// values none can be believed.
func remoteParent(ctx context.Context, h http.Header) context.Context {
	if len(h["Traceparent"]) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
}

// setTrace makes the FHIR server's spans children of ours. The client's
// tracestate stays only with a valid traceparent (W3C Trace Context).
func (p *Proxy) setTrace(h http.Header, x *exchange) {
	if p.config.Tracer == nil {
		return
	}
	delete(h, "Traceparent")
	delete(h, "Tracestate")
	propagation.TraceContext{}.Inject(x, propagation.HeaderCarrier(h))
}

// endSpan says what became of the request.
func (p *Proxy) endSpan(x *exchange, r *http.Request) {
	span := x.asked.Span
	if span == nil {
		return
	}
	if span.IsRecording() {
		method, interaction, _ := x.describe(r)
		if method == "other" {
			method = "_OTHER" // OpenTelemetry's word for it
		}
		span.SetAttributes(
			attribute.String("http.request.method", method),
			attribute.Int("http.response.status_code", x.status),
			attribute.String("introspection_sidecar.decision", decisionLabels[x.decision]),
			attribute.String("introspection_sidecar.interaction", string(interaction)),
		)
		if x.found.Lookup != "" {
			span.SetAttributes(attribute.String("introspection_sidecar.cache", x.found.Lookup))
		}
		if x.status >= http.StatusInternalServerError || x.decision.level() >= slog.LevelWarn {
			span.SetStatus(codes.Error, decisionLabels[x.decision])
		}
	}
	span.End()
}
