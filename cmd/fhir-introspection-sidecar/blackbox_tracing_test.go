package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	tracedTrace  = "0af7651916cd43dd8448eb211c80319c"
	tracedParent = "00-" + tracedTrace + "-b7ad6b7169203331-01"
)

func TestBlackboxTracing(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	as := introspectiontest.NewServer(t)
	w := startWith(t, as, env{}, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
		"OTEL_RESOURCE_ATTRIBUTES=k8s.pod.name=fhir-0")
	w.ask(t, "GET /fhir/Patient/123", good, "traceparent: "+tracedParent, "tracestate: v=1").is(t, 200)
	toServer, toAuthority := w.up.last(t).values("Traceparent"), asked(as)
	if got := w.up.last(t).values("Tracestate"); len(got) != 1 || got[0] != "v=1" {
		t.Errorf("got tracestate %q, want v=1", got)
	}
	w.ask(t, "GET /fhir/Patient/123", good).is(t, 200)
	if code := w.terminate(t); code != 0 {
		t.Fatalf("got exit code %d, want 0", code)
	}
	// The process has ended, and what it had to say was flushed before.
	spans, about := c.spans()
	if about["service.name"] != program || about["k8s.pod.name"] != "fhir-0" || about["telemetry.sdk.name"] != "opentelemetry" {
		t.Errorf("got resource %v, want the program's name, the pod's and OpenTelemetry's", about)
	}
	by := map[string]exportedSpan{} // name and cache lookup result
	for _, s := range spans {
		by[s.Name+" "+s.text("introspection_sidecar.cache")] = s
	}
	miss, call, hit := by["fhir request miss"], by["introspect "], by["fhir request hit"]
	if len(spans) != 3 || miss.Kind != 2 || call.Kind != 3 {
		t.Fatalf("got spans %+v, want two of requests and one of an introspection", spans)
	}
	if miss.TraceID != tracedTrace || miss.ParentSpanID != "b7ad6b7169203331" || call.TraceID != tracedTrace || call.ParentSpanID != miss.SpanID {
		t.Errorf("got request %+v and introspection %+v, want them in the client's trace", miss, call)
	}
	if hit.TraceID == tracedTrace || hit.ParentSpanID != "" {
		t.Errorf("got %+v for a request without traceparent, want a trace of its own", hit)
	}
	if want := "00-" + tracedTrace + "-" + miss.SpanID + "-01"; len(toServer) != 1 || toServer[0] != want {
		t.Errorf("FHIR server got %q, want %q", toServer, want)
	}
	if want := "00-" + tracedTrace + "-" + call.SpanID + "-01"; toAuthority != want {
		t.Errorf("authorization server got %q, want %q", toAuthority, want)
	}
	if call.text("introspection_sidecar.result") != "active" || miss.text("introspection_sidecar.decision") != "allowed" {
		t.Errorf("got request %+v and introspection %+v, want their results", miss, call)
	}
}

// L07: whatever a request holds, none of it is in the bytes that are exported.
func TestBlackboxTracingCanaries(t *testing.T) {
	t.Parallel()
	const canary = "canary"
	c := newCollector(t)
	as := introspectiontest.NewServer(t)
	claims := as.Claims()
	for _, name := range []string{"sub", "patient", "user", "client_id", "scope", "intent"} {
		claims[name] = canary + "-" + name
	}
	as.AddToken("canary-token", claims)
	w := startWith(t, as, env{}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.URL+"/custom", "OTEL_SERVICE_NAME=own-name")
	for _, raw := range []string{
		request("GET /fhir/Patient/canary-id?name=canary-query", "Authorization: Bearer canary-token", "Cookie: canary-cookie",
			"User-Agent: canary-agent", "X-Request-Id: canary-request", "X-Trace-Id: canary-trace", "X-Forwarded-For: canary-peer"),
		request("GET /fhir/canary-path", "Authorization: Bearer canary-unknown", "baggage: token=canary-baggage"),
		request("GET /fhir/Patient/canary-id", good, "traceparent: canary-parent", "tracestate: canary=state"),
		request("GET /fhir/Patient/canary-id", good, "traceparent: "+tracedParent+strings.Repeat("canary", 1000)),
		request("CANARY /fhir/canary-path", good),
		request("GET /fhir/../canary-path", good),
		request("GET /fhir/Patient/canary-id", "Authorization: Bearer canary-blank token"),
	} {
		w.send(t, raw)
	}
	w.terminate(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) == 0 || c.requests[0] != "POST /custom application/x-protobuf" {
		t.Errorf("got requests %q, want POST /custom in protobuf", c.requests)
	}
	for _, want := range []string{"fhir request", "introspect", "method_not_allowed", "_OTHER", "own-name"} {
		if !bytes.Contains(c.bodies, []byte(want)) {
			t.Errorf("%q wasn't exported", want)
		}
	}
	if i := bytes.Index(bytes.ToLower(c.bodies), []byte(canary)); i >= 0 {
		t.Errorf("exported %q, want nothing of the request", c.bodies[max(0, i-40):min(len(c.bodies), i+40)])
	}
}

// TestBlackboxTracingOff: without being asked, nothing is sent and no header is
// touched; a variable that can't be used is told of.
func TestBlackboxTracingOff(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		extra  []string
		warned string
	}{
		"default":        {nil, ""},
		"service only":   {[]string{"OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_on"}, ""},
		"sdk disabled":   {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=%s", "OTEL_SDK_DISABLED=true"}, ""},
		"exporter none":  {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=%s", "OTEL_TRACES_EXPORTER=none"}, ""},
		"other exporter": {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=%s", "OTEL_TRACES_EXPORTER=zipkin"}, "OTEL_TRACES_EXPORTER"},
		"grpc":           {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=%s", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		"no URL":         {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=canary:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			as := introspectiontest.NewServer(t)
			var extra []string
			for _, variable := range tt.extra {
				extra = append(extra, strings.Replace(variable, "%s", c.URL, 1))
			}
			w := startWith(t, as, env{}, extra...)
			w.ask(t, "GET /fhir/Patient/123", good, "traceparent: anything", "tracestate: at all", "baggage: k=v").is(t, 200)
			r := w.up.last(t)
			if got := fmt.Sprint(r.values("Traceparent"), r.values("Tracestate"), r.values("Baggage")); got != "[anything] [at all] [k=v]" {
				t.Errorf("FHIR server got %s, want the client's", got)
			}
			if got := asked(as); got != "" {
				t.Errorf("authorization server got %q, want nothing", got)
			}
			w.terminate(t)
			if n := c.opened(); n > 0 {
				t.Errorf("got %d connections, want none", n)
			}
			warnings := fmt.Sprint(w.logs("tracing is off"))
			if strings.Contains(warnings, "OTEL_") != (tt.warned != "") || !strings.Contains(warnings, tt.warned) || strings.Contains(warnings, "canary") {
				t.Errorf("logged %s, want %q and no value", warnings, tt.warned)
			}
		})
	}
}

// TestBlackboxTracingCollectorFails: a collector that is gone, refuses or hangs
// holds up neither requests nor the end, and its credentials stay secret.
func TestBlackboxTracingCollectorFails(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a collector")
	}
	t.Parallel()
	released := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-released }))
	t.Cleanup(func() { close(released); hanging.Close() })
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "canary "+r.Header.Get("Authorization"), http.StatusUnauthorized)
	}))
	t.Cleanup(refusing.Close)
	for name, tt := range map[string]struct{ url, logged string }{
		"gone":     {"http://127.0.0.1:1", "nothing listens"},
		"refusing": {refusing.URL, "status 401"},
		"hanging":  {hanging.URL, "doesn't take spans"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWith(t, introspectiontest.NewServer(t), env{}, "OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_BSP_MAX_QUEUE_SIZE=4",
				"OTEL_EXPORTER_OTLP_ENDPOINT="+strings.Replace(tt.url, "http://", "http://user:canary@", 1),
				"OTEL_EXPORTER_OTLP_HEADERS=Authorization=canary,canary")
			for range 20 {
				w.ask(t, "GET /fhir/Patient/123", good).is(t, 200)
			}
			began := time.Now()
			if code := w.terminate(t); code != 0 {
				t.Errorf("got exit code %d, want 0", code)
			}
			if took := time.Since(began); took > 3*time.Second+5*time.Second {
				t.Errorf("ended after %v, want at most 8s", took)
			}
			out := w.stdout.String() + w.stderr.String()
			if strings.Contains(out, "canary") || w.stderr.String() != "" {
				t.Errorf("logged %s, want nothing of the request, and nothing on stderr", out)
			}
			n := 0
			for _, line := range w.logs("tracing") {
				if line["level"] == "WARN" {
					n++
				}
			}
			if n != 1 || !strings.Contains(out, tt.logged) {
				t.Errorf("got %d warnings, want 1 with %q: %s", n, tt.logged, out)
			}
		})
	}
}
