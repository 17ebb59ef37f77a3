package proxy

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// forwarder sends requests to the FHIR server and its responses back.
type forwarder struct {
	scheme, host       string // of the FHIR server
	transport          http.RoundTripper
	namespace          namespace
	context            *contextHeaders
	hop                hop
	tracer             tracer
	stripAuthorization bool
	stallTimeout       time.Duration // of reading a request's body; 0: none
	cors               *cors         // nil: the FHIR server's headers stay
	headers            sync.Pool     // of http.Header
	buffers            sync.Pool     // of *[copyBufferSize]byte
}

// copyBufferSize is what is read of a response before it is written, in bytes.
const copyBufferSize = 32 << 10

// requestFields is room for the fields of an ordinary request and its context.
const requestFields = 28

var (
	errSwitch = errors.New("FHIR server switched protocols")
	errBroken = errors.New("FHIR server broke off its response")
	errStatus = errors.New("FHIR server sent an invalid status")
)

// forward sends r upstream and passes the response on. It returns what to refuse
// the request with when there was none.
func (f *forwarder) forward(x *exchange, r *http.Request) (failed *decision) {
	if x.length != 0 {
		f.streamBody(x, r)
		if !x.streams {
			defer x.body.stop(x.w)
		}
	}
	h, ok := f.headers.Get().(http.Header)
	if !ok {
		h = make(http.Header, requestFields)
	}
	res, err := f.transport.RoundTrip(f.outgoing(x, r, h))
	if len(h) <= 2*requestFields { // to go through a map takes as long as it ever was large
		clear(h) // the pool must not keep tokens
		f.headers.Put(h)
	}
	if err == nil {
		if err = acceptable(res); err != nil {
			_ = res.Body.Close()
		}
	}
	if err != nil {
		x.failure = err
		return noResponse(x, err)
	}
	f.passOn(x, res)
	return nil
}

// streamBody lets the body of r pass while the response already comes. The FHIR
// server may answer before it has read everything; net/http would hold the response
// back until the client has sent its body.
func (f *forwarder) streamBody(x *exchange, r *http.Request) {
	x.body.ReadCloser = r.Body
	x.body.endStalls(x.w, f.stallTimeout)
	if !x.streams {
		x.unreadBody = &x.body
	}
	_ = http.NewResponseController(x.w).EnableFullDuplex()
}

// outgoing makes the request to the FHIR server, with h as its header.
func (f *forwarder) outgoing(x *exchange, r *http.Request, h http.Header) *http.Request {
	copyEndToEnd(h, r.Header)
	if offersTrailers(r.Header["Te"]) {
		h["Te"] = x.values.single("trailers")
	}
	x.out, x.outURL = *r, *r.URL
	x.out.URL, x.out.Header, x.out.Body, x.out.Trailer = &x.outURL, h, &x.body, nil
	if x.span != nil {
		x.out = *x.out.WithContext(x.ctx)
	}
	f.rewrite(x, r.Header, &x.out)
	return &x.out
}

// rewrite makes of a client's request, which has lost what is about its connection,
// the one for the FHIR server. It is the only place where headers are set for that:
// whatever the client nominated in Connection is gone (RFC 9110 §7.6.1). in is the
// header of the client's request.
func (f *forwarder) rewrite(x *exchange, in http.Header, out *http.Request) {
	u, h := out.URL, out.Header
	u.Scheme, u.Host = f.scheme, f.host
	// Opaque goes on the wire as it is: net/url would decode and re-encode the path.
	u.Opaque, u.RawQuery = x.target.path, x.target.query
	u.ForceQuery = x.target.hasQuery && x.target.query == ""

	if x.length == 0 {
		// There is no body to wait with (RFC 9110 §10.1.1).
		delete(h, "Expect")
	}
	setForwarded(h, &x.request, &x.values, in)
	h["X-Request-Id"] = x.values.single(x.requestID)
	h[hopHeader] = x.values.single(f.hop.after(x.hops))
	f.tracer.inject(x.ctx, h)
	delete(h, "Authorization")
	if !x.authorized {
		delete(h, "Cookie") // nobody knows whose it is
		return
	}
	if !f.stripAuthorization {
		h["Authorization"] = in["Authorization"] // even if the client nominated it
	}
	f.context.set(h, x.verdict.Response, &x.values)
}

// acceptable returns an error for a response that can't be passed on. What follows
// a switch of protocols would be unchecked.
func acceptable(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return errSwitch
	case res.StatusCode < http.StatusOK:
		return errStatus
	}
	return nil
}

// noResponse says what a client gets when the FHIR server didn't answer.
func noResponse(x *exchange, err error) *decision {
	var timeout net.Error
	switch {
	case x.body.stalled.Load():
		return clientStalled
	case x.ctx.Err() != nil:
		return clientClosed
	case x.body.failed.Load():
		return refuseBody
	case errors.As(err, &timeout) && timeout.Timeout():
		return refuseTimeout
	default:
		return refuseUpstream
	}
}

// passOn writes the FHIR server's response to the client, without the names of the
// namespace.
func (f *forwarder) passOn(x *exchange, res *http.Response) {
	h := x.Header()
	copyEndToEnd(h, res.Header)
	f.namespace.remove(h)
	if f.cors != nil {
		f.cors.replace(h, x.origin)
	}
	if x.method == http.MethodPost || x.method == http.MethodPut {
		x.location = first(res.Header["Location"])
	}
	maps.DeleteFunc(res.Trailer, f.namespace.mustNotTrail)
	announced := len(res.Trailer)
	if announced > 0 {
		h["Trailer"] = []string{strings.Join(slices.Sorted(maps.Keys(res.Trailer)), ", ")}
	}
	x.WriteHeader(res.StatusCode)
	err := f.copyBody(x, res)
	_ = res.Body.Close()
	if err != nil {
		x.cut(err)
	}
	if len(res.Trailer) > 0 {
		_ = x.flush() // or net/http would give a short body a length, which leaves no room for trailers
	}
	for name, values := range res.Trailer {
		if f.namespace.mustNotTrail(name, nil) || len(values) == 0 {
			continue // HTTP/2 would wait for one that was announced and didn't come
		}
		if len(res.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// copyBody copies the body of a response. What a slow server has sent must not
// wait in a buffer for the rest.
func (f *forwarder) copyBody(x *exchange, res *http.Response) error {
	stream := res.ContentLength < 0 || isEventStream(res.Header)
	if stream {
		_ = x.flush() // the first bytes may be long in coming
	}
	buffer, ok := f.buffers.Get().(*[copyBufferSize]byte)
	if !ok {
		buffer = new([copyBufferSize]byte)
	}
	defer f.buffers.Put(buffer)
	for written := int64(0); ; {
		n, err := res.Body.Read(buffer[:])
		if n > 0 {
			if _, err := x.Write(buffer[:n]); err != nil {
				return err
			}
			written += int64(n)
			if stream || written < res.ContentLength {
				if err := x.flush(); err != nil {
					return err
				}
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// cut ends a response that has begun so that it doesn't look complete.
func (x *exchange) cut(error) {
	if x.body.stalled.Load() {
		x.decision = clientStalled
	} else if x.ctx.Err() == nil && !x.failed {
		x.decision, x.failure = refuseUpstream, errBroken
	}
	panic(http.ErrAbortHandler)
}

// offersTrailers reports whether TE says that trailers are passed on (RFC 9110
// §10.1.4), as they are here.
func offersTrailers(values []string) bool {
	for _, value := range values {
		for coding := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.Trim(coding, " \t"), "trailers") {
				return true
			}
		}
	}
	return false
}

func isEventStream(h http.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), "text/event-stream")
}

// copyEndToEnd copies all fields but those that are about a connection: the ones
// that always are, and those that Connection names (RFC 9110 §7.6.1).
func copyEndToEnd(to, from http.Header) {
	for name, values := range from {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
			"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		default:
			to[name] = values
		}
	}
	for _, value := range from["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			delete(to, http.CanonicalHeaderKey(strings.Trim(option, " \t")))
		}
	}
}
