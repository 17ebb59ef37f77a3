package proxy

import (
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// removedInbound are headers, folded, by which a client could make the FHIR
// server see another request than the one that was decided about, and Proxy,
// which CGI programs read as an outgoing proxy (httpoxy).
var removedInbound = []string{
	"x-http-method-override", "x-http-method", "x-method-override",
	"x-original-url", "x-original-uri", "x-original-method", "x-rewrite-url", "proxy",
}

// stripper deletes headers that clients must not control: the context namespace,
// overrides, Upgrade, and forwarding headers from untrusted peers.
type stripper struct {
	namespace      namespace
	spoofed        prometheus.Counter
	untrustedHTTPS func(peer string) // nil: nobody is told
	once           sync.Once
}

// strip deletes them from h, the inbound header of q.
func (s *stripper) strip(q *request, h http.Header) {
	if n := s.namespace.remove(h); n > 0 {
		s.spoofed.Add(float64(n))
	}
	if !q.peerTrusted && !q.secure && s.untrustedHTTPS != nil && strings.EqualFold(first(h["X-Forwarded-Proto"]), "https") {
		s.once.Do(func() { s.untrustedHTTPS(q.peer) })
	}
	// A server that switches protocols would get what follows unchecked.
	delete(h, "Upgrade")
	delete(h, "Http2-Settings")
	for name := range h {
		switch name[0] | 0x20 {
		case 'x', 'p', 'f', 'v':
			if foldedIn(name, removedInbound) || isForwarding(name) && !(q.peerTrusted && isUsualSpelling(name)) {
				delete(h, name)
			}
		}
	}
}

func isUsualSpelling(name string) bool { return !strings.ContainsFunc(name, notUsual) }

func notUsual(c rune) bool { return c != '-' && (c > 'z' || !isAlphanumeric(byte(c))) }
