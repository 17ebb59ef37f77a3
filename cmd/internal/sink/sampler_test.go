package sink

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestSampler: the first lines of a burst are written, the others told by number once
// its window ends, and each kind by itself.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text introspectiontest.Log
		s := NewSampler(slog.NewTextHandler(&text, nil), prometheus.NewRegistry())
		logger := slog.New(s).With("a", 1)
		lines := func(want int) {
			t.Helper()
			all := text.Take()
			if got := strings.Count(all, "\n"); got != want {
				t.Errorf("got %d lines, want %d:\n%s", got, want, all)
			}
		}
		refuse := func(reason string) { logger.Info("request", "decision", "invalid_token", "reason", reason) }
		for range 3000 {
			refuse("expired")
		}
		refuse("audience")
		lines(burst + 1)
		time.Sleep(window + time.Millisecond)
		synctest.Wait()
		if got := text.Take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="log lines suppressed" lines=2980 decision=invalid_token reason=expired`) {
			t.Errorf("got %q, want one line with the number of lines left out", got)
		}
		if got := testutil.ToFloat64(s.bursts.suppressed); got != 2980 {
			t.Errorf("got %v suppressed, want 2980", got)
		}
		refuse("expired")
		lines(1) // a new window

		for range 100 {
			logger.Info("serving")
			logger.Error("request", "decision", "credential_rejected")
		}
		lines(200)

		for range burst + 4 { // one was written in this window
			refuse("expired")
		}
		s.Close()
		lines(burst - 1 + 1)
		for range 2 * burst {
			refuse("expired")
		}
		lines(2 * burst)
	})
}

// TestSamplerLevel: what the handler behind it doesn't write isn't counted.
func TestSamplerLevel(t *testing.T) {
	s := NewSampler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}), prometheus.NewRegistry())
	for range 3 * burst {
		slog.New(s).Info("request", "decision", "no_token")
	}
	if got := testutil.ToFloat64(s.bursts.suppressed); got != 0 {
		t.Errorf("got %v suppressed, want 0", got)
	}
}
