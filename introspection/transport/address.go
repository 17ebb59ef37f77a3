package transport

import (
	"net/netip"
	"net/url"
	"strings"
)

// PortOf returns the port that a URL means, http's or https's when it names none.
func PortOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// IsLoopback reports whether a host of a URL is this machine's own: what is sent
// there crosses no network.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
