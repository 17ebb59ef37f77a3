package proxy

import (
	"context"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// spanName is the name of every server span. A span holds words of ours and a
// status code; nothing of the request, because paths and queries name patients.
const spanName = "fhir request"

// tracer makes spans; the zero value makes none.
type tracer struct{ trace.Tracer }

// start begins a request's span, if tracing is on, and returns a context in which
// an introspection finds its parent.
func (t tracer) start(ctx context.Context, fields wire.Fields) (context.Context, trace.Span) {
	if t.Tracer == nil {
		return ctx, nil
	}
	return t.Start(remoteParent(ctx, fields), spanName, trace.WithSpanKind(trace.SpanKindServer))
}

// remoteParent adds the client's span, if its traceparent is valid. Of two
// values none can be believed.
func remoteParent(ctx context.Context, fields wire.Fields) context.Context {
	parents := fields.Values(nil, "traceparent")
	if len(parents) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{
		"traceparent": parents[0], "tracestate": fields.Get("tracestate"),
	})
}

// replaces holds for what inject writes in place of the client's.
func (t tracer) replaces(f *wire.Field) bool {
	return t.Tracer != nil && (f.Is("traceparent") || f.Is("tracestate"))
}

// inject makes the FHIR server's spans children of ours. The client's
// tracestate stays only with a valid traceparent (W3C Trace Context).
func (t tracer) inject(ctx context.Context, b *wire.Builder) {
	if t.Tracer == nil {
		return
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	for name, value := range carrier {
		b.Field(name, value)
	}
}

// end says what became of the request.
func (t tracer) end(x *exchange) {
	if x.span == nil {
		return
	}
	if x.span.IsRecording() {
		d := describe(x)
		if d.method == otherMethod {
			d.method = "_OTHER" // OpenTelemetry's word for it
		}
		x.span.SetAttributes(
			attribute.String("http.request.method", d.method),
			attribute.Int("http.response.status_code", x.status),
			attribute.String("introspection_sidecar.decision", x.decision.label),
			attribute.String("introspection_sidecar.interaction", string(d.interaction)),
		)
		if x.verdict.Lookup != "" {
			x.span.SetAttributes(attribute.String("introspection_sidecar.cache", x.verdict.Lookup))
		}
		if x.status >= http.StatusInternalServerError || x.decision.level >= slog.LevelWarn {
			x.span.SetStatus(codes.Error, x.decision.label)
		}
	}
	x.span.End()
}
