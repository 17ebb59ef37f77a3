package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// TestTracesEndpoint: OpenTelemetry's variables, as its specification has them.
func TestTracesEndpoint(t *testing.T) {
	const general, traces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for _, tt := range []struct {
		environ map[string]string
		want    string // host, or the variable at fault
	}{
		{map[string]string{}, ""},
		{map[string]string{general: " "}, ""},
		{map[string]string{general: "http://a:4318"}, "a:4318"},
		{map[string]string{general: "https://a/base", traces: "http://b:4318/v1/traces"}, "b:4318"},
		{map[string]string{general: "http://user:secret@a"}, "a"},
		{map[string]string{general: "http://a", "OTEL_SDK_DISABLED": "TRUE"}, ""},
		{map[string]string{general: "http://a", "OTEL_SDK_DISABLED": "1"}, "a"},
		{map[string]string{general: "http://a", "OTEL_TRACES_EXPORTER": "none"}, ""},
		{map[string]string{general: "http://a", "OTEL_TRACES_EXPORTER": "otlp"}, "a"},
		{map[string]string{general: "http://a", "OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"},
		{map[string]string{general: "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "a"},
		{map[string]string{general: "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{map[string]string{general: "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, "a"},
		{map[string]string{general: "a:4318"}, general},
		{map[string]string{general: "secret"}, general},
		{map[string]string{general: "http://a", traces: "grpc://secret"}, traces},
		{map[string]string{traces: "http://secret:%zz@a"}, traces},
	} {
		endpoint, err := tracesEndpoint(func(name string) string { return tt.environ[name] })
		got := ""
		switch {
		case err != nil:
			got, _, _ = strings.Cut(err.Error(), " ")
		case endpoint != nil:
			got = endpoint.Host
		}
		if got != tt.want || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %q (%v), want %q", tt.environ, got, err, tt.want)
		}
	}
}

// TestTracingFault: of a collector's words none is told.
// L03 for the SDK.
func TestTracingFault(t *testing.T) {
	const canary = "http://user:canary@host"
	export := func(err error) error { return fmt.Errorf("traces export: %w", err) }
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("unsupported sampler: canary"), "a variable of OTEL_ is not valid and is ignored"},
		{export(&url.Error{Op: "Post", URL: canary, Err: syscall.ECONNREFUSED}), "nothing listens at the collector's address"},
		{export(&url.Error{Op: "Post", URL: canary, Err: context.DeadlineExceeded}), "the collector doesn't answer in time"},
		{export(&url.Error{Op: "Post", URL: canary, Err: &net.DNSError{Name: "canary"}}), "the collector's host name is not known"},
		{export(&url.Error{Op: "Post", URL: canary, Err: &tls.CertificateVerificationError{Err: errors.New("canary")}}), "the collector's certificate is not trusted"},
		{export(errors.New("failed to send to " + canary + ": 404 Not Found (body: canary)")), "the collector answers with status 404"},
		{export(errors.New("max retry time elapsed: retry-able request failure: body: canary")), "the collector doesn't take spans"},
	} {
		if got := tracingFault(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

// TestTracingFaultsAreFew: one line, then one a minute that counts the others.
func TestTracingFaultsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		faults := &tracingFaults{logger: slog.New(slog.NewJSONHandler(&out, nil))}
		for range 121 {
			faults.Handle(errors.New("any"))
			time.Sleep(time.Second)
		}
		var untold []float64
		for line := range strings.Lines(out.String()) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("json.Unmarshal: got error %v, want none", err)
			}
			n, _ := m["untold"].(float64)
			untold = append(untold, n)
		}
		if fmt.Sprint(untold) != "[0 59 59]" {
			t.Errorf("got %v untold, want 0, 59 and 59", untold)
		}
	})
}

// TestTracingCloses: nothing is left behind, even if the collector never answers.
func TestTracingCloses(t *testing.T) {
	if testing.Short() {
		t.Skip("waits three seconds for a collector")
	}
	ignore := goleak.IgnoreCurrent()
	received := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else net/http doesn't look whether the client is there
		close(received)
		<-r.Context().Done()
	}))
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_TRACES_SAMPLER", "canary")
	var out bytes.Buffer
	tr := New("dev", slog.New(slog.NewJSONHandler(&out, nil)))
	if text := out.String(); !strings.Contains(text, "a variable of OTEL_ is not valid") || strings.Contains(text, "canary") {
		t.Errorf("logged %s, want what is not valid, without its value", text)
	}
	_, span := tr.Tracer().Start(t.Context(), "any")
	span.End()
	began := time.Now()
	tr.Close()
	if took := time.Since(began); took < flushTimeout || took > flushTimeout+15*time.Second {
		t.Errorf("took %v, want about %v", took, flushTimeout)
	}
	<-received
	server.Close()
	goleak.VerifyNone(t, ignore)
}

// TestTracingIsOff: nil all the way.
func TestTracingIsOff(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	tr := New("dev", slog.New(slog.DiscardHandler))
	if tr != nil || tr.Tracer() != nil {
		t.Error("got a tracer without being asked, want none")
	}
	tr.Close()
}
