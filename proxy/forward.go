package proxy

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// upstreamIdleTimeout is below the keep-alive of every common server (node:
	// 5 s), so that a request isn't written into a connection that is closing.
	upstreamIdleTimeout = 4 * time.Second

	upstreamDialTimeout = 5 * time.Second
	maxIdleUpstream     = 256
	maxUpstreamHeader   = 256 << 10
	copyBufferSize      = 32 << 10
)

// removedInbound are headers, folded, by which a client could make the FHIR
// server see another request than the one that was decided about, and Proxy,
// which CGI programs read as an outgoing proxy (httpoxy).
var removedInbound = []string{
	"x-http-method-override", "x-http-method", "x-method-override",
	"x-original-url", "x-original-uri", "x-original-method", "x-rewrite-url", "proxy",
}

// forwardingNames say where a request came from. They are kept from trusted
// proxies only, and then only in their usual spelling.
var forwardingNames = []string{"forwarded", "x-real-ip", "via"}

const forwardingPrefix = "x-forwarded-"

// strip removes from the inbound request what no client may send.
func (p *Proxy) strip(x *exchange, r *http.Request) {
	if n := p.family.remove(r.Header); n > 0 {
		p.metrics.spoofed.Add(float64(n))
	}
	// A server that switches protocols would get what follows unchecked.
	// ReverseProxy puts Upgrade back, unless it is gone before.
	delete(r.Header, "Upgrade")
	delete(r.Header, "Http2-Settings")
	for name := range r.Header {
		switch name[0] | 0x20 {
		case 'x', 'p', 'f', 'v':
			if foldedIn(name, removedInbound) || isForwarding(name) && !(x.peerTrusted && isUsualSpelling(name)) {
				delete(r.Header, name)
			}
		}
	}
}

func foldedIn(name string, list []string) bool {
	for _, folded := range list {
		if len(name) == len(folded) && foldsInto(name, folded) {
			return true
		}
	}
	return false
}

func isForwarding(name string) bool {
	return foldsInto(name, forwardingPrefix) || foldedIn(name, forwardingNames)
}

func isUsualSpelling(name string) bool { return !strings.ContainsFunc(name, notUsual) }

func notUsual(c rune) bool { return c != '-' && (c > 'z' || !isAlphanumeric(byte(c))) }

// readPeer notes who is at the other end of the connection.
func (x *exchange) readPeer(address string, trusted []netip.Prefix) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return
	}
	x.peer = host
	if len(trusted) == 0 {
		return
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return
	}
	for _, prefix := range trusted {
		x.peerTrusted = x.peerTrusted || prefix.Contains(ip.Unmap().WithZone(""))
	}
}

// newTransport returns what holds the connections to the FHIR server.
func (p *Proxy) newTransport() *directTransport {
	dialer := &net.Dialer{Timeout: upstreamDialTimeout, KeepAlive: 30 * time.Second}
	return newDirectTransport(p.config.Upstream, &http.Transport{
		DialContext:            dialer.DialContext,
		DisableCompression:     true, // or Go would ask for gzip and unpack it
		MaxIdleConns:           maxIdleUpstream,
		MaxIdleConnsPerHost:    maxIdleUpstream,
		IdleConnTimeout:        upstreamIdleTimeout,
		ResponseHeaderTimeout:  p.config.UpstreamHeaderTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxUpstreamHeader,
	})
}

// newReverseProxy returns the part that speaks HTTP with the FHIR server.
func (p *Proxy) newReverseProxy(transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		ModifyResponse: p.modifyResponse,
		ErrorHandler:   p.upstreamFailed,
		BufferPool:     &bufferPool{},
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), // upstreamFailed tells all
		Transport:      transport,
	}
}

// forward sends the request upstream and its answer back.
func (p *Proxy) forward(x *exchange, r *http.Request) {
	if r.ContentLength != 0 {
		x.body.ReadCloser = r.Body
		r.Body = &x.body
		if r.ProtoMajor == 1 {
			x.recorder.body = &x.body
			defer x.body.stop(x.w)
		}
		// The FHIR server may answer before it has read everything. Without this
		// net/http holds the answer back until the client has sent its body.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
	if p.relays(r) {
		p.relay(x, r)
	} else {
		p.reverse.ServeHTTP(x, r)
	}
	if len(x.Header()) > 0 {
		p.family.removeTrailers(x.Header())
	}
}

// rewrite makes the outgoing request. It is the only place where headers are
// set for the FHIR server: whatever the client nominated in Connection has been
// removed before (RFC 9110 §7.6.1).
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In)
	u, h := pr.Out.URL, pr.Out.Header
	u.Scheme, u.Host = p.config.Upstream.Scheme, p.config.Upstream.Host
	// Opaque goes on the wire as it is, and ReverseProxy has dropped query
	// parameters that Go can't parse: a search would become a wider one.
	u.Opaque, u.RawQuery = x.target.path, x.target.query
	u.ForceQuery = x.target.hasQuery && x.target.query == ""

	// Trailers could carry context headers past this function.
	pr.Out.Trailer = nil
	if pr.In.ContentLength == 0 {
		// There is no body to wait with (RFC 9110 §10.1.1).
		delete(h, "Expect")
	}
	// To keep the connection, http.Transport would fetch and send a body that the
	// FHIR server has just refused.
	pr.Out.Close = h["Expect"] != nil
	hideIdempotencyKey(pr.Out)
	p.setForwarded(h, x, pr.In)
	h["X-Request-Id"] = x.one(x.requestID)
	p.setHop(h, x, pr.In.Header)
	p.setTrace(h, x)
	delete(h, "Authorization")
	if token := pr.In.Header["Authorization"]; len(token) == 1 && x.response != nil && !p.config.StripAuthorization {
		h["Authorization"] = x.one(token[0]) // http.Transport may read it when this request is over
	}
	if x.response != nil {
		p.setContext(h, x)
	}
}

// hideIdempotencyKey keeps http.Transport from sending a request again that a
// FHIR server, which need not know these headers, may have carried out: it looks
// for their canonical spelling only.
func hideIdempotencyKey(out *http.Request) {
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := out.Header[name]; ok {
			delete(out.Header, name)
			out.Header[strings.ToLower(name)] = values
		}
	}
}

// setForwarded tells the FHIR server where the request came from, so that it
// writes links that the client can follow.
func (p *Proxy) setForwarded(h http.Header, x *exchange, in *http.Request) {
	proto := "http"
	if in.TLS != nil {
		proto = "https"
	}
	if !x.peerTrusted {
		h["X-Forwarded-For"] = x.one(x.peer)
		if in.Host != "" { // HTTP/1.0
			h["X-Forwarded-Host"] = x.one(in.Host)
		}
		h["X-Forwarded-Proto"] = x.one(proto)
		return
	}
	for name, values := range in.Header {
		if isForwarding(name) {
			h[name] = slices.Clone(values)
		}
	}
	chain := x.peer
	if prior := strings.Join(in.Header["X-Forwarded-For"], ", "); prior != "" {
		chain = prior + ", " + chain
	}
	h["X-Forwarded-For"] = x.one(chain)
	if len(in.Header["X-Forwarded-Host"]) == 0 && in.Host != "" {
		h["X-Forwarded-Host"] = x.one(in.Host)
	}
	if len(in.Header["X-Forwarded-Proto"]) == 0 {
		h["X-Forwarded-Proto"] = x.one(proto)
	}
}

var (
	errSwitch = errors.New("FHIR server switched protocols")
	errBroken = errors.New("FHIR server broke off its answer")
	errStatus = errors.New("FHIR server sent a status that is none")
)

// modifyResponse filters the answer's header; its body is none of our business.
func (p *Proxy) modifyResponse(res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return errSwitch
	}
	if res.StatusCode < http.StatusOK {
		return errStatus
	}
	p.family.remove(res.Header)
	maps.DeleteFunc(res.Trailer, p.family.stays)
	if x, ok := res.Request.Context().Value(exchangeKey{}).(*exchange); ok {
		x.length = res.ContentLength
	}
	return nil
}

// upstreamFailed answers when the FHIR server didn't.
func (p *Proxy) upstreamFailed(w http.ResponseWriter, r *http.Request, err error) {
	x, _ := w.(*exchange)
	x.failure = err
	var timeout net.Error
	switch {
	case x.Err() != nil:
		p.reject(x, r, &refuseGone)
	case x.body.failed.Load():
		p.reject(x, r, &refuseBody)
	case errors.As(err, &timeout) && timeout.Timeout():
		p.reject(x, r, &refuseTimeout)
	default:
		p.reject(x, r, &refuseUpstream)
	}
}

// bufferPool keeps ReverseProxy from allocating a buffer per response.
type bufferPool struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *bufferPool) Get() []byte {
	if buffer, ok := b.pool.Get().(*[copyBufferSize]byte); ok {
		return buffer[:]
	}
	return new([copyBufferSize]byte)[:]
}

// Put implements httputil.BufferPool.
func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[copyBufferSize]byte)(buffer)) }
