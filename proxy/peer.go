package proxy

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// peerOf returns who is at the other end of a connection, and whether its
// forwarding headers are believed.
func peerOf(address string, trusted []netip.Prefix) (peer string, isTrusted bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", false
	}
	if len(trusted) == 0 {
		return host, false
	}
	ip, err := netip.ParseAddr(host)
	return host, err == nil && isTrustedAddress(ip, trusted)
}

func isTrustedAddress(ip netip.Addr, trusted []netip.Prefix) bool {
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(trusted, func(prefix netip.Prefix) bool { return prefix.Contains(ip) })
}

// clientOf returns the address that trusted proxies say a request came from: the last
// one in X-Forwarded-For that is no trusted proxy's, each of which appends whom it saw.
// It is for the audit log, and takes part in no decision.
func clientOf(fields wire.Fields, peer string, trusted []netip.Prefix) string {
	client := peer
	values := fields.Values(nil, "x-forwarded-for")
	for i := len(values) - 1; i >= 0; i-- {
		for rest := values[i]; rest != ""; {
			var last string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, last = rest[:comma], rest[comma+1:]
			} else {
				rest, last = "", rest
			}
			ip, err := netip.ParseAddr(withoutPort(strings.Trim(last, " \t")))
			if err != nil {
				return client // what stands before it can't be trusted either
			}
			if client = ip.String(); !isTrustedAddress(ip, trusted) {
				return client
			}
		}
	}
	return client
}

// withoutPort takes off a port, which some proxies add.
func withoutPort(address string) string {
	if at, err := netip.ParseAddrPort(address); err == nil {
		return at.Addr().String()
	}
	return strings.Trim(address, "[]")
}
