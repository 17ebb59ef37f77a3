package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// standard is the remote of an exchange whose bytes net/http reads and writes: one of
// HTTP/2, or one that was not certain to be understood here.
type standard struct {
	w         http.ResponseWriter
	r         *http.Request
	announced []string // names of trailers
}

// request returns the request as it is for everybody.
func (s *standard) request() *wire.Request {
	r := s.r
	in := &wire.Request{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Length: r.ContentLength, Peer: r.RemoteAddr, Secure: r.TLS != nil,
		Fields: make(wire.Fields, 0, len(r.Header)),
	}
	for name, values := range r.Header {
		for _, value := range values {
			in.Fields.Add(name, value)
		}
	}
	return in
}

// protocol says what is special about it.
func (s *standard) protocol() protocol {
	return protocol{fault: protocolFault(s.r), closes: ambiguousFraming(s.r), streams: s.r.ProtoMajor > 1}
}

// WriteHead implements remote.
func (s *standard) WriteHead(head *wire.ResponseHead) {
	h := s.w.Header()
	for _, f := range head.Fields {
		name := http.CanonicalHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
	}
	// net/http would guess a media type, and a browser believe it.
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil
	}
	if head.Told >= 0 {
		h.Set("Content-Length", strconv.FormatInt(head.Told, 10))
	}
	if !head.Keeps {
		h.Set("Connection", "close")
	}
	for _, name := range head.Trailers {
		s.announced = append(s.announced, http.CanonicalHeaderKey(name))
	}
	if len(s.announced) > 0 {
		h.Set("Trailer", strings.Join(s.announced, ", "))
	}
	s.w.WriteHeader(head.Status)
	if head.Told < 0 {
		_ = s.Flush() // or net/http would give a short body a length, which leaves no room for trailers
	}
}

// Write implements remote.
func (s *standard) Write(b []byte) (int, error) { return s.w.Write(b) }

// Flush implements remote.
func (s *standard) Flush() error { return http.NewResponseController(s.w).Flush() }

// WriteTrailers implements remote.
func (s *standard) WriteTrailers(trailers wire.Fields) {
	h := s.w.Header()
	for _, f := range trailers {
		name := http.CanonicalHeaderKey(f.Name)
		if !slices.Contains(s.announced, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = append(h[name], f.Value)
	}
}

// StartBody implements remote. net/http would hold the response back until the client
// has sent its body.
func (s *standard) StartBody(to []byte) (with []byte, whole bool) {
	_ = http.NewResponseController(s.w).EnableFullDuplex()
	return to, false
}

// Read implements remote.
func (s *standard) Read(b []byte) (int, error) { return s.r.Body.Read(b) }

// SetReadDeadline implements remote.
func (s *standard) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(s.w).SetReadDeadline(t)
}
