package proxy

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// maxHost is the length of the longest domain name (RFC 1035 §2.3.4), or less
// than that of an address.
const maxHost = 255

// isHost reports whether host, with or without a port, is a domain name or an
// address (RFC 9110 §7.2). What else RFC 3986 allows in a reg-name, such as
// commas and percent signs, is in no name and would break a list or a quotation.
// HTTP/1.0 has no Host.
func isHost(host string) bool {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
	}
	if len(port) > 5 || len(name) > maxHost || strings.ContainsFunc(port, notDigit) {
		return false
	}
	if literal, ok := strings.CutPrefix(name, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		address, err := netip.ParseAddr(literal)
		return ok && err == nil && address.Is6() && address.Zone() == ""
	}
	return !strings.ContainsFunc(name, notInName) && (name != "" || host == "")
}

func notInName(c rune) bool {
	return c >= utf8.RuneSelf || !isAlphanumeric(byte(c)) && c != '.' && c != '-' && c != '_'
}

func notDigit(c rune) bool { return c < '0' || c > '9' }
