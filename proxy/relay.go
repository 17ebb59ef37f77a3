package proxy

import (
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
)

// relayFields is room for the fields of an ordinary request and its context.
const relayFields = 28

// noUserAgent keeps the transport from naming itself.
var noUserAgent = []string{""}

// relays reports whether relay does for r all that ReverseProxy would. Bodies
// and the offer to take trailers stay with ReverseProxy.
func (p *Proxy) relays(r *http.Request) bool {
	return p.direct && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.ContentLength == 0 && r.Header["Te"] == nil
}

// relay sends a request upstream and its answer back as ReverseProxy does, and
// calls the same functions for what is ours. It spares the copies that
// ReverseProxy makes of everything, as it can't know who keeps what:
// directTransport is done with a request when RoundTrip returns, and nobody
// changes the values of a header in place.
func (p *Proxy) relay(x *exchange, r *http.Request) {
	h, ok := p.headers.Get().(http.Header)
	if !ok {
		h = make(http.Header, relayFields)
	}
	p.rewrite(&httputil.ProxyRequest{In: r, Out: x.outgoing(r, h)})
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = noUserAgent
	}
	res, err := p.reverse.Transport.RoundTrip(&x.out)
	if err == nil {
		if err = p.modifyResponse(res); err != nil {
			_ = res.Body.Close()
		}
	}
	if err != nil {
		p.upstreamFailed(x, &x.out, err)
	} else {
		p.passOn(x, res)
	}
	if len(h) <= 2*relayFields { // to go through a map takes as long as it ever was large
		clear(h) // the pool must not keep tokens
		p.headers.Put(h)
	}
}

// outgoing makes the request that rewrite completes, with h as its header.
func (x *exchange) outgoing(r *http.Request, h http.Header) *http.Request {
	copyEndToEnd(h, r.Header)
	x.out, x.outURL = *r, *r.URL
	x.out.URL, x.out.Header, x.out.Body, x.out.Close = &x.outURL, h, nil, false
	return &x.out
}

// passOn writes the FHIR server's answer to the client.
func (p *Proxy) passOn(x *exchange, res *http.Response) {
	h := x.Header()
	copyEndToEnd(h, res.Header)
	announced := len(res.Trailer)
	if announced > 0 {
		h["Trailer"] = []string{strings.Join(slices.Sorted(maps.Keys(res.Trailer)), ", ")}
	}
	x.WriteHeader(res.StatusCode)
	if res.ContentLength < 0 || isEventStream(res.Header) {
		x.length = math.MaxInt64 // every write is flushed
		_ = x.FlushError()       // the first one may be long in coming
	}
	buffer := p.reverse.BufferPool.Get()
	_, err := io.CopyBuffer(x, res.Body, buffer)
	p.reverse.BufferPool.Put(buffer)
	_ = res.Body.Close()
	if err != nil {
		panic(http.ErrAbortHandler) // what broke off must not look complete
	}
	if len(res.Trailer) > 0 {
		_ = x.FlushError() // or net/http would give a short body a length, which leaves no room for trailers
	}
	for name, values := range res.Trailer {
		if len(res.Trailer) != announced {
			name = http.TrailerPrefix + name
		}
		if len(values) > 0 { // or HTTP/2 would wait for one that was announced and didn't come
			h[name] = values
		}
	}
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
