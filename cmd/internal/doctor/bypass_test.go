package doctor

import (
	"net"
	"net/netip"
	"testing"
)

// listen returns a listener on a loopback address that stands for one of the pod's.
func listen(t *testing.T, address string) (net.Listener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln, netip.MustParseAddrPort(ln.Addr().String())
}

func TestBypass(t *testing.T) {
	_, at := listen(t, "127.0.0.2:0")
	addresses := func() []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.2")}
	}
	for _, tt := range []struct {
		name string
		own  []netip.AddrPort
		want int
	}{
		{"another's listener", nil, 1},
		{"our own there", []netip.AddrPort{at}, 0},
		{"our own everywhere", []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())}, 0},
		{"our own on another port", []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port()+1)}, 1},
		{"our own on another address", []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.4"), at.Port())}, 1},
	} {
		p := Bypass{Port: at.Port(), Own: tt.own, Addresses: addresses}
		if got := p.Open(t.Context()); len(got) != tt.want || tt.want == 1 && got[0] != at {
			t.Errorf("%s: got %v, want %d of %v", tt.name, got, tt.want, at)
		}
	}
}

// TestInterfaceAddresses: loopback is where the FHIR server may listen.
func TestInterfaceAddresses(t *testing.T) {
	for _, a := range interfaceAddresses() {
		if a.IsLoopback() {
			t.Errorf("got loopback address %v, want others only", a)
		}
	}
}
