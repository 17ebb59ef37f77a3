package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// This file has what the forwarder is compared with: httputil.ReverseProxy over
// http.Transport, whose connections are held to the same rules as ours.

// oracle is a Proxy whose requests are forwarded by them.
type oracle struct {
	*Proxy
	reverse   *httputil.ReverseProxy
	transport *oracleTransport
}

// withOracle makes a stack forward by the oracle, without the fast path.
func withOracle(l net.Listener, s *http.Server) net.Listener {
	served, _ := s.Handler.(*observed)
	p, _ := served.Handler.(*Proxy)
	served.Handler = newOracle(p)
	return l
}

func newOracle(p *Proxy) *oracle {
	o := &oracle{Proxy: p, transport: newOracleTransport()}
	o.reverse = &httputil.ReverseProxy{
		Transport: o.transport, FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.Trailer = nil
			o.rewrite(oracleExchange(pr.In.Context()), pr.Out)
		},
		ModifyResponse: func(res *http.Response) error {
			maps.DeleteFunc(res.Header, func(name string, _ []string) bool { return p.forwarder.namespace.has(name) })
			maps.DeleteFunc(res.Trailer, func(name string, _ []string) bool { return p.forwarder.namespace.mustNotTrail(name) })
			return acceptable(&upstream.Response{ResponseHead: wire.ResponseHead{Status: res.StatusCode}})
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			x := oracleExchange(r.Context())
			x.failure = err
			p.refuser.refuse(x, noResponse(x, err))
		},
	}
	return o
}

type oracleKey struct{}

func oracleExchange(ctx context.Context) *exchange {
	x, _ := ctx.Value(oracleKey{}).(*exchange)
	return x
}

// ServeHTTP is that of Proxy, but for forward.
func (o *oracle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := o.exchangeOf(w, r)
	x.ctx, x.span = o.tracer.start(r.Context(), x.fields)
	defer o.finish(x)
	o.stripper.strip(&x.request)
	if refused := o.decide(x); refused != nil {
		o.refuser.refuse(x, refused)
		return
	}
	r = r.WithContext(context.WithValue(x.ctx, oracleKey{}, x))
	r.Header = headerOf(x.fields)
	if x.length != 0 {
		o.forwarder.addBody(x, &upstream.Request{}, &wire.Builder{})
		defer x.body.leave()
		r.Body = io.NopCloser(&x.body)
		if !x.streams {
			defer x.body.stop()
		}
	}
	func() {
		defer func() {
			if p := recover(); isAbort(p) {
				x.cut()
			} else if p != nil {
				panic(p)
			}
		}()
		o.reverse.ServeHTTP(oracleWriter{x, w}, r)
	}()
	for name := range w.Header() {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && o.forwarder.namespace.mustNotTrail(rest) {
			delete(w.Header(), name)
		}
	}
}

// exchangeOf is the exchange of a request that net/http has read.
func (p *Proxy) exchangeOf(w http.ResponseWriter, r *http.Request) *exchange {
	s := &standard{w: w, r: r}
	return newExchange(s, s.request(), s.protocol(), p.trusted, &p.draining)
}

func headerOf(fields wire.Fields) http.Header {
	h := http.Header{}
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
	return h
}

// rewrite makes of a client's request, which has lost what is about its connection, the
// one for the FHIR server.
func (o *oracle) rewrite(x *exchange, out *http.Request) {
	f, u, h := o.forwarder, out.URL, out.Header
	u.Scheme, u.Host = "http", f.host
	out.Close = leavesBody(x.method, x.length)
	u.Opaque, u.RawQuery = x.target.path, x.target.query
	u.ForceQuery = x.target.hasQuery && x.target.query == ""
	if x.length == 0 {
		h.Del("Expect")
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded", "Via", "X-Real-Ip"} {
		h[name] = x.fields.Values(nil, strings.ToLower(name)) // even if the client nominated it
	}
	h.Del("Authorization")
	if !x.authorized {
		h.Del("Cookie")
	}
	from := newForwarded(&x.request)
	own := wire.Builder{}
	f.writeOwn(&own, x, &from)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n" + string(own.Bytes) + "\r\n")))
	if err != nil {
		panic(err)
	}
	maps.Copy(h, r.Header)
}

// oracleWriter is the writer of an exchange. It drops informational responses, as the
// forwarder does.
type oracleWriter struct {
	*exchange
	w http.ResponseWriter
}

func (w oracleWriter) Header() http.Header { return w.w.Header() }

func (w oracleWriter) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	told := w.Header().Get("Content-Length")
	w.begin()
	if n, err := strconv.ParseInt(told, 10, 64); err == nil && status != http.StatusNoContent {
		w.exchange.head.Told = n
	} else {
		w.Header().Del("Content-Length")
	}
	w.writeHead(status)
}

func (w oracleWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), w.write(b)
}

func (w oracleWriter) FlushError() error { return w.flush() }

const oracleMaxHead = 256 << 10

type oracleTransport struct{ rest *http.Transport }

func newOracleTransport() *oracleTransport {
	dialer := &net.Dialer{Timeout: deadline}
	rest := &http.Transport{
		DialContext: dialer.DialContext, DisableCompression: true, IdleConnTimeout: 4 * time.Second,
		ResponseHeaderTimeout: deadline, ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: oracleMaxHead,
	}
	watch(rest)
	return &oracleTransport{rest}
}

// RoundTrip implements http.RoundTripper.
func (t *oracleTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.roundTripWatched(r)
}

var (
	errHead      = errors.New("too large a head")
	errAmbiguous = errors.New("FHIR server's response can be read in more than one way")
	errUnasked   = errors.New("FHIR server answered before it was asked")
)

// unambiguousHead reports whether the head of a response has only one reading. net/http
// accepts more, but where a response ends for a server that sends two
// lengths or bare line feeds is a guess (RFC 9112 §2.2, §5.2, §6.3), and a wrong
// guess would be the next client's response.
func unambiguousHead(head []byte, informational bool) bool {
	framings := 0
	for line := range bytes.Lines(head) {
		if len(line) < 2 || bytes.IndexByte(line, '\r') != len(line)-2 || line[0] == ' ' || line[0] == '\t' {
			return false
		}
		framings += framing(line, "content-length") + framing(line, "transfer-encoding")
	}
	// An informational response has no body whose end could be told (RFC 9110 §8.6).
	return (framings == 0 || framings == 1 && !informational) && bytes.IndexByte(head, 0) < 0
}

// framing counts a line as so many fields of this name. Some servers take one with
// blanks before its colon for the field, others don't (RFC 9112 §5.1), which is
// as bad as two.
func framing(line []byte, name string) int {
	if line[0]|0x20 != name[0] || len(line) <= len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return 0
	}
	switch rest := line[len(name):]; {
	case rest[0] == ':':
		return 1
	case rest[0] == ' ', rest[0] == '\t':
		return 2
	}
	return 0
}

func isInformational(status int) bool {
	return status/100 == 1 && status != http.StatusSwitchingProtocols
}

// watchedConn is a connection of http.Transport. It holds answers to what
// directConn wants of them, and knows whether the head of a response came in
// after its request went out: one that came before is another client's.
type watchedConn struct {
	net.Conn
	timeout time.Duration // of a single write; 0: none

	mu      sync.Mutex
	head    []byte // of the response that is waited for, so far
	interim int    // bytes of informational responses before it
	waiting bool
	request *http.Request // all that reading a response needs of it
}

// begin is called when a request gets the connection.
func (c *watchedConn) begin(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head, c.interim, c.waiting, c.request = nil, 0, true, &http.Request{Method: method}
}

// Write implements net.Conn. http.Transport's time for a response begins when all is
// written, which a server that doesn't read could put off for ever.
func (c *watchedConn) Write(p []byte) (int, error) {
	if c.timeout > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

func (c *watchedConn) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.waiting
}

// Read implements net.Conn. A response that is refused is never seen by
// http.Transport, which then gives up the connection.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && n > 0 {
		if err := c.take(p[:n]); err != nil {
			return 0, err
		}
	}
	return n, err
}

// take looks for the head of the final response, and reads heads as http.Transport
// will, which bounds each of them, but leaves the number of informational ones to
// ReverseProxy, which doesn't count them.
func (c *watchedConn) take(p []byte) error {
	c.head = append(c.head, p...)
	for {
		end := headEnd(c.head)
		if end < 0 {
			return nil
		}
		head, rest := c.head[:end], c.head[end:]
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), c.request)
		if err != nil {
			return err
		}
		if !unambiguousHead(head, isInformational(res.StatusCode)) {
			return errAmbiguous
		}
		if isInformational(res.StatusCode) {
			c.head = rest
			if c.interim += end; c.interim > oracleMaxHead {
				return errHead
			}
			continue
		}
		c.waiting, c.head = false, nil
		if hasSurplus(res, len(rest)) {
			return errAmbiguous
		}
		return nil
	}
}

// headEnd returns the length of the head that b begins with, or -1.
func headEnd(b []byte) int {
	end := 0
	for line := range bytes.Lines(b) {
		end += len(line)
		if string(line) == "\r\n" || string(line) == "\n" {
			return end
		}
	}
	return -1
}

// watch makes the connections of an http.Transport watched ones.
func watch(t *http.Transport) {
	dial := t.DialContext
	watched := func(conn net.Conn, err error) (net.Conn, error) {
		if err != nil {
			return nil, err
		}
		return &watchedConn{Conn: conn, timeout: t.ResponseHeaderTimeout}, nil
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return watched(dial(ctx, network, address))
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return watched(secured, nil)
	}
}

// roundTripWatched sends a request through http.Transport.
func (t *oracleTransport) roundTripWatched(r *http.Request) (*http.Response, error) {
	var conn *watchedConn // of the last attempt
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*watchedConn); ok {
			conn = c
			c.begin(r.Method)
		}
	}})
	res, err := t.rest.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if conn == nil || !conn.answered() {
		_ = res.Body.Close()
		if conn != nil {
			_ = conn.Close()
		}
		return nil, errUnasked
	}
	return res, nil
}

// hasSurplus reports whether the read bytes that came with the head are more than
// the response has. They are either the body of a response that has none, or nobody's.
func hasSurplus(res *http.Response, read int) bool {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return false
	}
	length := bodyLength(res)
	return length >= 0 && int64(read) > length
}

// bodyLength returns the bytes of a response's body, or -1 if only its end tells.
func bodyLength(res *http.Response) int64 {
	if res.Body == http.NoBody {
		return 0
	}
	return res.ContentLength
}
