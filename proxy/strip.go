package proxy

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
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

// strip deletes them from the fields of q.
func (s *stripper) strip(q *request) {
	if !q.peerTrusted && !q.secure && s.untrustedHTTPS != nil && strings.EqualFold(q.fields.Get("x-forwarded-proto"), "https") {
		s.once.Do(func() { s.untrustedHTTPS(q.peer) })
	}
	var spoofed map[string]bool
	q.fields.Delete(func(f *wire.Field) bool {
		if s.namespace.has(f.Name) {
			if spoofed == nil {
				spoofed = map[string]bool{}
			}
			spoofed[strings.ToLower(f.Name)] = true
			return true
		}
		return s.removes(f, q.peerTrusted)
	})
	if len(spoofed) > 0 {
		s.spoofed.Add(float64(len(spoofed)))
	}
}

// removes holds for what nobody may send, and for what only a trusted peer may.
func (s *stripper) removes(f *wire.Field, trusted bool) bool {
	switch f.Name[0] | 0x20 {
	case 'u', 'h':
		// A server that switches protocols would get what follows unchecked.
		return f.Is("upgrade") || f.Is("http2-settings")
	case 'x', 'p', 'f', 'v':
		return foldedIn(f.Name, removedInbound) || isForwarding(f.Name) && !(trusted && isUsualSpelling(f.Name))
	}
	return false
}

func isUsualSpelling(name string) bool { return !strings.ContainsFunc(name, notUsual) }

func notUsual(c rune) bool { return c != '-' && (c > 'z' || !isAlphanumeric(byte(c))) }
