package proxy

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// request is all of a client's request that takes part in a decision about it, or
// in what it is told. Who has parsed its bytes makes no difference.
type request struct {
	method string
	target target
	host   string
	length int64 // of the body, in bytes, or wire.Chunked
	fields wire.Fields
	waits  bool // the client sends its body when it is told to

	peer        string // IP address at the other end of the connection
	peerTrusted bool
	client      string // IP address that a trusted peer names; else the peer's
	secure      bool   // came over TLS
	streams     bool   // shares its connection with other requests (HTTP/2)

	authorization []string
	accept        []string
	hops          []string // who has forwarded it (RFC 8586)
	condition     []string // If-None-Exist, nil without it

	origin         string   // of the page in a browser that it comes from; "": of none
	asksForMethod  bool     // has Access-Control-Request-Method
	requestHeaders []string // Access-Control-Request-Headers

	// fault is what makes the request one that its protocol doesn't allow; nil: nothing.
	fault *decision

	requestID     string
	correlationID string
	traceID       string

	room [8]string // for lists of values
	used int
}

// readRequest takes what decides out of a client's request.
func readRequest(q *request, in *wire.Request, trusted []netip.Prefix) {
	q.method, q.target, q.host, q.length, q.fields, q.secure = in.Method, parseTarget(in.Target), in.Host, in.Length, in.Fields, in.Secure
	q.authorization, q.accept, q.hops = q.values("authorization"), q.values("accept"), q.values("cdn-loop")
	q.condition, q.waits = q.values("if-none-exist"), q.fields.Has("expect")
	if origins := q.values("origin"); len(origins) > 0 {
		q.origin = originOf(origins)
		q.asksForMethod = q.fields.Get("access-control-request-method") != ""
		q.requestHeaders = q.values("access-control-request-headers")
	}
	q.peer, q.peerTrusted = peerOf(in.Peer, trusted)
	if q.client = q.peer; q.peerTrusted {
		q.client = clientOf(q.fields, q.peer, trusted)
	}
	q.readIDs()
}

// values returns the values of the fields with this name, which is given in lower case.
func (q *request) values(name string) []string {
	values := q.fields.Values(q.room[q.used:q.used:len(q.room)], name)
	if q.used = min(q.used+len(values), len(q.room)); len(values) == 0 {
		return nil
	}
	return values
}

// originOf returns the Origin. Two are none that could be listed.
func originOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, ", ")
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// readIDs takes the trace headers (Koppeltaal TOP-KT-011): X-Request-Id is made
// when it is missing or could forge a log line, the others are never invented.
func (q *request) readIDs() {
	q.requestID = traceID(q.values("x-request-id"))
	if q.requestID == "" {
		q.requestID = introspection.NewRequestID()
	}
	q.correlationID = traceID(q.values("x-correlation-id"))
	q.traceID = traceID(q.values("x-trace-id"))
}

// setIDs passes the ids on to the client.
func (q *request) setIDs(h *wire.Fields) {
	h.Add("X-Request-Id", q.requestID)
	if q.correlationID != "" {
		h.Add("X-Correlation-Id", q.correlationID)
	}
	if q.traceID != "" {
		h.Add("X-Trace-Id", q.traceID)
	}
}

// maxTraceID is longer than any id in use; a UUID has 36 characters.
const maxTraceID = 128

// traceID returns a header's only value if it is harmless in a log line.
func traceID(values []string) string {
	if len(values) != 1 || len(values[0]) > maxTraceID {
		return ""
	}
	for i := range len(values[0]) {
		if c := values[0][i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' && c != ':' {
			return ""
		}
	}
	return values[0]
}

// protocolFault returns the refusal of what net/http lets pass, because HTTP/2
// can carry what HTTP/1.1 has no room for, or because servers read it differently.
func protocolFault(r *http.Request) *decision {
	switch {
	case r.ProtoMajor > 1 && !strings.HasPrefix(r.RequestURI, "/") && r.RequestURI != "*":
		return refusePath // the authority has a place of its own (RFC 9113 §8.3.1)
	case invalidHost(r):
		return refuseHost
	case paddedFieldValue(r):
		return refuseField
	case unframedBody(r):
		return refuseBody
	case unknownExpectation(r.Header):
		return refuseExpectation
	}
	return nil
}

// invalidHost holds for a Host that would read as more than a host in the headers
// and links that are made from it; net/http lets most characters pass. HTTP/2 may
// have it in two places, of which net/http believes one, or in none (RFC 9113
// §8.3.1): the FHIR server would get its own address.
func invalidHost(r *http.Request) bool {
	if r.ProtoMajor > 1 {
		hosts := r.Header["Host"]
		if r.Host == "" || len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host) {
			return true
		}
	}
	// HTTP/1.0 has no Host. Who leaves it empty otherwise would hand the FHIR server its
	// own address (RFC 9112 §3.2).
	return !isHost(r.Host) || r.Host == "" && r.ProtoAtLeast(1, 1)
}

// paddedFieldValue holds for a field whose value begins or ends with a space, which
// makes an HTTP/2 request malformed (RFC 9113 §8.2.1). HTTP/1.1 has no such value:
// it would be decided on here and trimmed on its way.
func paddedFieldValue(r *http.Request) bool {
	if r.ProtoMajor == 1 {
		return false
	}
	for _, values := range r.Header {
		for _, value := range values {
			if value != strings.Trim(value, " \t") {
				return true
			}
		}
	}
	return false
}

// unframedBody holds for an HTTP/1.0 request whose method has a body and whose
// header doesn't say how long it is: what follows would be lost, or worse. It also
// holds for two lengths, one that is no number, and one of a body that doesn't
// come, all of which net/http refuses in HTTP/1 only (RFC 9113 §8.1.1).
func unframedBody(r *http.Request) bool {
	lengths := r.Header["Content-Length"]
	if r.ProtoMajor > 1 && lengths != nil {
		return len(lengths) > 1 || lengths[0] != strconv.FormatInt(r.ContentLength, 10)
	}
	if r.ProtoMajor != 1 || r.ProtoMinor != 0 || lengths != nil {
		return false
	}
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

// unknownExpectation holds for an Expect that is more than 100-continue. net/http
// looks for that word only, and a server that does otherwise would disagree on
// when the body comes.
func unknownExpectation(h http.Header) bool {
	values, ok := h["Expect"]
	return ok && (len(values) != 1 || !strings.EqualFold(values[0], "100-continue"))
}

// ambiguousFraming holds for requests that another server may have framed in
// another way. net/http hides a Content-Length beside Transfer-Encoding, after
// which RFC 9112 §6.1 wants the connection closed, and a Transfer-Encoding in
// HTTP/1.0, which it ignores.
func ambiguousFraming(r *http.Request) bool {
	return r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0)
}
