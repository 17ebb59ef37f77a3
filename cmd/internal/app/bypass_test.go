package app

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/doctor"
)

// TestBypassGuard: each change is told once.
func TestBypassGuard(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip(err)
	}
	at := netip.MustParseAddrPort(ln.Addr().String())
	var log bytes.Buffer
	g := &bypassGuard{
		probe:  doctor.Bypass{Port: at.Port(), Addresses: func() []netip.Addr { return []netip.Addr{at.Addr()} }},
		logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	expect := func(open bool, lines int) {
		t.Helper()
		g.look(t.Context())
		g.look(t.Context())
		if got := g.accepted(); got != open {
			t.Errorf("got open %t, want %t", got, open)
		}
		if got, want := testutil.ToFloat64(g.metric()), map[bool]float64{true: 1}[open]; got != want {
			t.Errorf("got gauge %v, want %v", got, want)
		}
		if got := strings.Count(log.String(), "\n"); got != lines {
			t.Errorf("got %d log lines, want %d:\n%s", got, lines, &log)
		}
	}
	expect(true, 1)
	_ = ln.Close()
	expect(false, 2)
}
