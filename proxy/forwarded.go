package proxy

import (
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// forwardingNames say where a request came from. They are kept from trusted
// proxies only, and then only in their usual spelling.
var forwardingNames = []string{"forwarded", "x-real-ip", "via"}

const forwardingPrefix = "x-forwarded-"

func isForwarding(name string) bool {
	return foldsInto(name, forwardingPrefix) || foldedIn(name, forwardingNames)
}

// forwarded tells the FHIR server where a request came from, so that it writes links
// that the client can follow. Nothing of it takes part in a decision. What is empty is
// left as it came.
type forwarded struct {
	chain, host, proto, port string
}

func newForwarded(q *request) forwarded {
	f := forwarded{chain: q.peer, host: q.host, proto: "http"}
	if q.secure {
		f.proto = "https"
	}
	if !q.peerTrusted {
		f.port = portOf(q.host, f.proto)
		return f
	}
	if prior := strings.Join(q.fields.Values(nil, "x-forwarded-for"), ", "); prior != "" {
		f.chain = prior + ", " + q.peer
	}
	host, proto := f.host, f.proto
	if given := q.fields.Get("x-forwarded-host"); given != "" {
		host, f.host = given, ""
	}
	if given := q.fields.Get("x-forwarded-proto"); given != "" {
		proto, f.proto = given, ""
	}
	if !q.fields.Has("x-forwarded-port") {
		f.port = portOf(host, proto)
	}
	return f
}

// replaces holds for what write writes in place of the client's.
func (w *forwarded) replaces(f *wire.Field) bool {
	return f.Is("x-forwarded-for") || w.host != "" && f.Is("x-forwarded-host") || w.proto != "" && f.Is("x-forwarded-proto")
}

func (w *forwarded) write(b *wire.Builder) {
	b.Field("X-Forwarded-For", w.chain)
	if w.host != "" { // HTTP/1.0 has none
		b.Field("X-Forwarded-Host", w.host)
	}
	if w.proto != "" {
		b.Field("X-Forwarded-Proto", w.proto)
	}
	if w.port != "" {
		b.Field("X-Forwarded-Port", w.port)
	}
}

// portOf returns the port that a client wrote, or the default one.
func portOf(host, proto string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i+1 < len(host) && !strings.ContainsFunc(host[i+1:], notDigit) {
		return host[i+1:]
	}
	if strings.EqualFold(proto, "https") {
		return "443"
	}
	return "80"
}
