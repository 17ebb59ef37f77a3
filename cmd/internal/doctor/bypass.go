package doctor

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// bypassTimeout is far above what a connection within one host takes.
const bypassTimeout = time.Second

// Bypass looks whether clients can reach the FHIR server around the sidecar: it tries the
// FHIR server's port on this host's own other addresses.
type Bypass struct {
	// Port is where the FHIR server listens on loopback.
	Port uint16

	// Own are the sidecar's listeners, which answer for themselves and are left out.
	Own []netip.AddrPort

	// Addresses returns the addresses to try. Nil: those of the host's interfaces that
	// are not loopback.
	Addresses func() []netip.Addr
}

// Open returns the addresses at which a connection is accepted: whoever reaches one
// gets to the FHIR server without a token. Nothing is sent on the connections.
func (b Bypass) Open(ctx context.Context) []netip.AddrPort {
	addresses := b.Addresses
	if addresses == nil {
		addresses = interfaceAddresses
	}
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		accepted []netip.AddrPort
	)
	for _, address := range addresses() {
		at := netip.AddrPortFrom(address, b.Port)
		if b.isOwn(at) {
			continue
		}
		wg.Go(func() {
			dialer := net.Dialer{Timeout: bypassTimeout}
			conn, err := dialer.DialContext(ctx, "tcp", at.String())
			if err != nil {
				return
			}
			_ = conn.Close()
			mu.Lock()
			defer mu.Unlock()
			accepted = append(accepted, at)
		})
	}
	wg.Wait()
	return accepted
}

// isOwn reports whether one of the sidecar's own listeners answers there.
func (b Bypass) isOwn(at netip.AddrPort) bool {
	for _, own := range b.Own {
		if own.Port() == at.Port() && (own.Addr().IsUnspecified() || own.Addr().Unmap() == at.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// interfaceAddresses are those by which others on the network may reach this host.
// Link-local IPv6 addresses name their interface.
func interfaceAddresses() (addresses []netip.Addr) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range interfaces {
		found, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range found {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || prefix.Addr().IsLoopback() {
				continue
			}
			address := prefix.Addr()
			if address.Is6() && address.IsLinkLocalUnicast() {
				address = address.WithZone(i.Name)
			}
			addresses = append(addresses, address)
		}
	}
	return addresses
}
