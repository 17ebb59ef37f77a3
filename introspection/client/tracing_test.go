package client

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// TestSpanOfCall: a span of each call, child of the request that caused it,
// with the result and nothing else; the endpoint gets it as parent.
func TestSpanOfCall(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	for _, tt := range []struct {
		status int
		body   string
		result string
		code   codes.Code
	}{
		{200, `{"active":true,"sub":"CANARY","patient":"CANARY"}`, "active", codes.Unset},
		{200, `{"active":false,"sub":"CANARY"}`, "inactive", codes.Unset},
		{200, `CANARY`, "malformed", codes.Error},
		{401, `CANARY`, "credential_rejected", codes.Error},
		{429, `CANARY`, "throttled", codes.Error},
		{503, `CANARY`, "unavailable", codes.Error},
	} {
		spans.Reset()
		var sent http.Header
		client := newMemoryClient(t, func(r *http.Request) (*http.Response, error) {
			sent = r.Header
			return answer(tt.status, tt.body), nil
		}, func(c *Config) { c.Tracer = provider.Tracer("test") })
		_, parent := provider.Tracer("test").Start(t.Context(), "request")
		// As in package cache: the context knows nothing of the parent.
		_, _ = client.Introspect(t.Context(), introspection.Request{Token: "CANARY", Span: parent})
		if len(spans.GetSpans()) != 1 {
			t.Fatalf("%s: got %d spans, want 1", tt.result, len(spans.GetSpans()))
		}
		span := spans.GetSpans()[0]
		if span.Name != "introspect" || span.SpanKind != trace.SpanKindClient || !span.Parent.Equal(parent.SpanContext()) {
			t.Errorf("%s: got %q of kind %v with parent %v, want a client's introspect below the request's", tt.result, span.Name, span.SpanKind, span.Parent)
		}
		got := map[string]string{}
		for _, a := range span.Attributes {
			got[string(a.Key)] = a.Value.String()
		}
		if len(got) != 3 || got["http.request.method"] != "POST" || got["introspection_sidecar.result"] != tt.result ||
			got["http.response.status_code"] != fmt.Sprint(tt.status) || span.Status.Code != tt.code {
			t.Errorf("%s: got %v and %v, want status %d", tt.result, got, span.Status, tt.status)
		}
		want := "00-" + span.SpanContext.TraceID().String() + "-" + span.SpanContext.SpanID().String() + "-01"
		if values := sent["Traceparent"]; len(values) != 1 || values[0] != want {
			t.Errorf("%s: traceparent %q, want %q", tt.result, values, want)
		}
		if text := fmt.Sprintf("%+v", span); strings.Contains(text, "CANARY") || strings.Contains(text, "as.test") {
			t.Errorf("%s: got %s, want nothing of the call", tt.result, text)
		}
	}
}

// TestSpansOff: without a Tracer nothing is sent, whatever the context holds.
func TestSpansOff(t *testing.T) {
	provider := sdktrace.NewTracerProvider()
	ctx, parent := provider.Tracer("test").Start(context.Background(), "request")
	client := newMemoryClient(t, func(r *http.Request) (*http.Response, error) {
		if r.Header["Traceparent"] != nil {
			t.Errorf("got traceparent %q, want none", r.Header["Traceparent"])
		}
		return answer(200, `{"active":true}`), nil
	}, nil)
	if _, err := client.Introspect(ctx, introspection.Request{Token: "t", Span: parent}); err != nil {
		t.Fatalf("client.Introspect: got error %v, want none", err)
	}
}
