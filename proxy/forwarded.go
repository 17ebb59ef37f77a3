package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// forwardingNames say where a request came from. They are kept from trusted
// proxies only, and then only in their usual spelling.
var forwardingNames = []string{"forwarded", "x-real-ip", "via"}

const forwardingPrefix = "x-forwarded-"

func isForwarding(name string) bool {
	return foldsInto(name, forwardingPrefix) || foldedIn(name, forwardingNames)
}

// setForwarded tells the FHIR server where the request came from, so that it
// writes links that the client can follow. Nothing of it takes part in a decision.
func setForwarded(h http.Header, q *request, values *valueList, in http.Header) {
	single := values.single
	proto := "http"
	if q.secure {
		proto = "https"
	}
	if !q.peerTrusted {
		h["X-Forwarded-For"] = single(q.peer)
		if q.host != "" { // HTTP/1.0
			h["X-Forwarded-Host"] = single(q.host)
		}
		h["X-Forwarded-Proto"] = single(proto)
		h["X-Forwarded-Port"] = single(portOf(q.host, proto))
		return
	}
	for name, values := range in {
		if isForwarding(name) {
			h[name] = slices.Clone(values)
		}
	}
	chain := q.peer
	if prior := strings.Join(in["X-Forwarded-For"], ", "); prior != "" {
		chain = prior + ", " + chain
	}
	h["X-Forwarded-For"] = single(chain)
	host := q.host
	if forwarded := first(in["X-Forwarded-Host"]); forwarded != "" {
		host = forwarded
	} else if host != "" {
		h["X-Forwarded-Host"] = single(host)
	}
	if forwarded := first(in["X-Forwarded-Proto"]); forwarded != "" {
		proto = forwarded
	} else {
		h["X-Forwarded-Proto"] = single(proto)
	}
	if len(in["X-Forwarded-Port"]) == 0 {
		h["X-Forwarded-Port"] = single(portOf(host, proto))
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
