package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

const (
	clientTrace  = "0af7651916cd43dd8448eb211c80319c"
	clientSpan   = "b7ad6b7169203331"
	clientParent = "00-" + clientTrace + "-" + clientSpan + "-01"
)

// traced is an option of newStack, and the spans that ended.
func traced(t testing.TB) (*tracetest.InMemoryExporter, func(*Config)) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return spans, func(c *Config) { c.Tracer = provider.Tracer("test") }
}

// attributes are a span's, as text.
func attributes(list []attribute.KeyValue) map[string]string {
	found := map[string]string{}
	for _, a := range list {
		found[string(a.Key)] = a.Value.String()
	}
	return found
}

func theSpan(t *testing.T, spans *tracetest.InMemoryExporter) tracetest.SpanStub {
	t.Helper()
	all := spans.GetSpans()
	spans.Reset()
	if len(all) != 1 {
		t.Fatalf("got %d spans, want 1", len(all))
	}
	return all[0]
}

// TestTraceIsContinued: our span is the client's child and the FHIR server's parent.
func TestTraceIsContinued(t *testing.T) {
	spans, on := traced(t)
	s := newStack(t, on)
	s.do(get("/fhir/Patient/123", bearerTOK, "traceparent: "+clientParent, "tracestate: a=1,b=2",
		"baggage: k=v", "Connection: close, traceparent, tracestate"))
	span := theSpan(t, spans)
	if span.Name != "fhir request" || span.SpanKind != trace.SpanKindServer {
		t.Errorf("got %q of kind %v, want a server's fhir request", span.Name, span.SpanKind)
	}
	if got := span.Parent.SpanID().String(); got != clientSpan || !span.Parent.IsRemote() || span.SpanContext.TraceID().String() != clientTrace {
		t.Errorf("got parent %v and context %v, want the client's", span.Parent, span.SpanContext)
	}
	r := s.upstream.got()
	if got, want := r.one(t, "traceparent"), "00-"+clientTrace+"-"+span.SpanContext.SpanID().String()+"-01"; got != want {
		t.Errorf("traceparent %q, want %q", got, want)
	}
	if got := r.one(t, "tracestate"); got != "a=1,b=2" {
		t.Errorf("got tracestate %q, want a=1,b=2", got)
	}
	if got := r.one(t, "baggage"); got != "k=v" {
		t.Errorf("got baggage %q, want k=v", got)
	}
}

// TestTraceUnsampled: a client's wish not to be sampled goes on to the FHIR server.
func TestTraceUnsampled(t *testing.T) {
	spans, on := traced(t)
	s := newStack(t, on)
	s.do(get("/fhir/Patient/123", bearerTOK, "traceparent: 00-"+clientTrace+"-"+clientSpan+"-00"))
	got := s.upstream.got().one(t, "traceparent")
	if !strings.HasPrefix(got, "00-"+clientTrace+"-") || !strings.HasSuffix(got, "-00") || strings.Contains(got, clientSpan) {
		t.Errorf("got traceparent %q, want one of the client's trace, not sampled", got)
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("got %d spans, want none", n)
	}
}

// notParents are values of traceparent that mean nothing.
var notParents = map[string][]string{
	"none":           nil,
	"empty":          {""},
	"text":           {"token"},
	"capitals":       {strings.ToUpper(clientParent)},
	"zero trace":     {"00-" + strings.Repeat("0", 32) + "-" + clientSpan + "-01"},
	"zero span":      {"00-" + clientTrace + "-" + strings.Repeat("0", 16) + "-01"},
	"version ff":     {"ff" + clientParent[2:]},
	"longer":         {clientParent + "-more"},
	"short":          {clientParent[:len(clientParent)-1]},
	"two":            {clientParent, clientParent},
	"list":           {clientParent + "," + clientParent},
	"oversized":      {clientParent + strings.Repeat("0", 16<<10)},
	"reserved flags": {clientParent[:len(clientParent)-2] + "ff"},
	"not ascii":      {strings.Replace(clientParent, "a", "é", 1)},
}

// TestTraceParentIsNotBelieved: what isn't valid starts a trace of our own, and
// its tracestate goes with it.
func TestTraceParentIsNotBelieved(t *testing.T) {
	spans, on := traced(t)
	s := newStack(t, on)
	for name, values := range notParents {
		fields := []string{bearerTOK, "tracestate: canary=1"}
		for _, value := range values {
			fields = append(fields, "traceparent: "+value)
		}
		if a := s.do(get("/fhir/Patient/123", fields...)); a.StatusCode != http.StatusOK {
			t.Errorf("%s: got status %d, want 200", name, a.StatusCode)
		}
		span := theSpan(t, spans)
		if span.Parent.IsValid() || span.SpanContext.TraceID().String() == clientTrace || span.SpanContext.TraceState().Len() > 0 {
			t.Errorf("%s: got parent %v and context %v, want a trace of its own", name, span.Parent, span.SpanContext)
		}
		r := s.upstream.got()
		want := "00-" + span.SpanContext.TraceID().String() + "-" + span.SpanContext.SpanID().String() + "-01"
		if got := r.one(t, "traceparent"); got != want {
			t.Errorf("%s: traceparent %q, want %q", name, got, want)
		}
		if got := r.all("tracestate"); got != nil {
			t.Errorf("%s: got tracestate %q, want none", name, got)
		}
	}
}

// TestTraceOff: the client's headers pass as they are.
func TestTraceOff(t *testing.T) {
	s := newStack(t)
	for name, values := range notParents {
		fields := []string{bearerTOK, "tracestate: a=1", "baggage: k=v"}
		for _, value := range append(values, clientParent) {
			fields = append(fields, "traceparent: "+value)
		}
		s.do(get("/fhir/Patient/123", fields...))
		r := s.upstream.got()
		if got := r.all("traceparent"); !slices.Equal(got, append(values, clientParent)) {
			t.Errorf("%s: got traceparent %.200q, want the client's", name, got)
		}
		if r.one(t, "tracestate") != "a=1" || r.one(t, "baggage") != "k=v" {
			t.Errorf("%s: got %.200q, want the client's headers", name, r.fields)
		}
	}
}

// TestSpans: what a span says of each kind of request, and that it says no more.
func TestSpans(t *testing.T) {
	spans, on := traced(t)
	s := newStack(t, on)
	s.verdicts.failures["BUSY"] = &introspection.Failure{Kind: introspection.ErrUnavailable}
	const canary = "CANARY"
	s.verdicts.answers[canary] = seed(t)
	s.upstream.answer = nil
	for _, tt := range []struct {
		raw    string
		want   string // method status decision interaction cache
		status codes.Code
	}{
		{get("/fhir/Patient/CANARY?name=CANARY", "Authorization: Bearer CANARY", "User-Agent: CANARY", "X-Trace-Id: CANARY"), "GET 200 allowed read hit", codes.Unset},
		{get("/fhir/metadata"), "GET 200 public capabilities ", codes.Unset},
		{get("/fhir/Patient/CANARY"), "GET 401 no_token read ", codes.Unset},
		{get("/fhir/Patient", "Authorization: Bearer CANARY2"), "GET 401 invalid_token search-type hit", codes.Unset},
		{get("/fhir/Patient", "Authorization: Bearer BUSY"), "GET 503 introspection_unavailable search-type hit", codes.Error},
		{get("/CANARY"), "GET 404 not_found unknown ", codes.Unset},
		{get("/fhir/../CANARY"), "GET 400 bad_path unknown ", codes.Unset},
		{message("CANARY", "/fhir/Patient", ""), "_OTHER 405 method_not_allowed unknown ", codes.Unset},
		{get("/fhir/Patient/CANARY", bearerTOK, "traceparent: "+canary, "baggage: t="+canary), "GET 200 allowed read hit", codes.Unset},
	} {
		s.do(tt.raw)
		span := theSpan(t, spans)
		a := attributes(span.Attributes)
		got := fmt.Sprintf("%s %s %s %s %s", a["http.request.method"], a["http.response.status_code"],
			a["introspection_sidecar.decision"], a["introspection_sidecar.interaction"], a["introspection_sidecar.cache"])
		if got != tt.want || span.Status.Code != tt.status {
			t.Errorf("%.40q: %q %v, want %q %v", tt.raw, got, span.Status, tt.want, tt.status)
		}
		delete(a, "introspection_sidecar.cache")
		if len(a) != 4 || len(span.Events) > 0 || len(span.Links) > 0 {
			t.Errorf("%.40q: got %v %v %v, want four attributes only", tt.raw, slices.Sorted(maps.Keys(a)), span.Events, span.Links)
		}
		if text := fmt.Sprintf("%+v", span); strings.Contains(text, canary) {
			t.Errorf("%.40q: got %s, want nothing of the request", tt.raw, text)
		}
	}
}

// TestSpanOfFailures: the FHIR server's faults, and our own, are errors.
func TestSpanOfFailures(t *testing.T) {
	spans, on := traced(t)
	s := newStack(t, on)
	s.upstream.writes("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\nCANARY")
	s.do(get("/fhir/Patient", bearerTOK))
	if span := theSpan(t, spans); span.Status.Code != codes.Error || span.Status.Description != "allowed" {
		t.Errorf("status 500: got %+v, want an error that is allowed", span.Status)
	}
	s.upstream.writes("HTTP/1.1 200 CANARY\r\nno field CANARY\r\n\r\n")
	s.do(get("/fhir/Patient", bearerTOK))
	if span := theSpan(t, spans); span.Status.Code != codes.Error || span.Status.Description != "upstream_error" {
		t.Errorf("broken response: got %+v, want upstream_error", span.Status)
	}
	s.verdicts.during = func(context.Context, string) { panic("CANARY") }
	s.do(get("/fhir/Patient", bearerTOK))
	span := theSpan(t, spans)
	if span.Status.Description != "internal_error" || len(span.Events) > 0 || strings.Contains(fmt.Sprintf("%+v", span), "CANARY") {
		t.Errorf("panic: got %+v, want internal_error and nothing of the panic", span)
	}
}

// TestSpanReachesTheSource: behind the cache the call runs detached, and knows
// its parent all the same.
func TestSpanReachesTheSource(t *testing.T) {
	spans, on := traced(t)
	parent := make(chan trace.SpanContext, 1)
	response := seed(t)
	c := benchCache(t, verdictFunc(func(r introspection.Request) (introspection.Verdict, error) {
		parent <- r.Span.SpanContext()
		return introspection.Verdict{Response: response}, nil
	}))
	s := newStack(t, on, func(config *Config) { config.Introspector = c })
	s.do(get("/fhir/Patient/123", bearerTOK, "traceparent: "+clientParent))
	span := theSpan(t, spans)
	if got := <-parent; !got.Equal(span.SpanContext) {
		t.Errorf("parent %v, want %v", got, span.SpanContext)
	}
	if got := attributes(span.Attributes)["introspection_sidecar.cache"]; got != "miss" {
		t.Errorf("got cache %q, want miss", got)
	}
}

// TestTraceOffAllocates: tracing that is off costs no allocation.
func TestTraceOffAllocates(t *testing.T) {
	response := decode(t, fmt.Sprintf(seedAnswer, time.Now().Add(24*time.Hour).Unix()))
	p := benchProxy(t, introspectorFunc(func(context.Context, string) (*introspection.Response, error) { return response, nil }))
	r := benchRequest(t)
	x := p.exchangeOf(&benchWriter{header: http.Header{}}, r)
	x.fields = wire.Fields{{Name: "Traceparent", Value: clientParent}}
	var out wire.Builder
	if n := testing.AllocsPerRun(100, func() {
		x.ctx, x.span = p.tracer.start(r.Context(), x.fields)
		p.tracer.inject(x.ctx, &out)
		p.tracer.end(x)
	}); n != 0 || x.span != nil || len(out.Bytes) > 0 || p.tracer.replaces(&x.fields[0]) {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// discarded is a provider whose spans are thrown away when they end.
func discarded(sampler sdktrace.Sampler) trace.Tracer {
	return sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)).Tracer("bench")
}

// BenchmarkTraced shows what tracing adds to BenchmarkHit: for a request that is
// sampled, without its export, and for one that isn't.
func BenchmarkTraced(b *testing.B) {
	response := decode(b, fmt.Sprintf(seedAnswer, time.Now().Add(24*time.Hour).Unix()))
	known := introspectorFunc(func(context.Context, string) (*introspection.Response, error) { return response, nil })
	for _, tt := range []struct {
		name   string
		tracer trace.Tracer
	}{{"off", nil}, {"unsampled", discarded(sdktrace.NeverSample())}, {"sampled", discarded(sdktrace.AlwaysSample())}} {
		b.Run(tt.name, func(b *testing.B) {
			p := benchProxy(b, benchCache(b, known))
			p.tracer = tracer{tt.tracer}
			p.forwarder.tracer, p.observer.tracer = p.tracer, p.tracer
			r, w := benchRequest(b), &benchWriter{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				p.ServeHTTP(w, r)
			}
		})
	}
}
