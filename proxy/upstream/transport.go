// Package upstream sends requests to the FHIR server.
//
// It speaks HTTP/1.1 in the goroutine of the request: http.Transport has two
// goroutines per connection, and handing each request and its response from one to
// the other costs more than the rest of the proxy does. Only a request body gets a
// goroutine of its own, so that the response, or the end of the connection, is seen
// while the client still sends.
//
// A connection is used again only if nobody can have written to it or closed it
// meanwhile, and a response is believed only if it can be read in one way.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

const (
	// idleTimeout is below the keep-alive of every common server (node: 5 s), so
	// that a request isn't written into a connection that is closing.
	idleTimeout = 4 * time.Second

	// dialTimeout bounds a connection's beginning, the TLS handshake included.
	dialTimeout = 5 * time.Second

	// readBuffer is what the kernel keeps of a response that isn't read yet, in bytes.
	readBuffer = 64 << 10

	// maxIdle is how many unused connections are kept.
	maxIdle = 256

	// maxHead bounds the head of a response with all informational ones before it,
	// in bytes.
	maxHead = 256 << 10

	// continueTimeout is how long a request body waits for 100 Continue (RFC 9110
	// §10.1.1: a client must not wait indefinitely).
	continueTimeout = time.Second
)

// Transport sends requests to one FHIR server.
type Transport struct {
	address       string
	tls           *tls.Config // nil: plain HTTP
	dialContext   func(ctx context.Context, network, address string) (net.Conn, error)
	headerTimeout time.Duration
	idle          pool
}

// Request is a request as its bytes go out.
type Request struct {
	Method string
	// Bytes are its head, and the body if all of that is known.
	Bytes []byte
	// Length is that of the body, in bytes, or wire.Chunked.
	Length int64
	// Body is the body that isn't in Bytes, or nil.
	Body io.Reader
	// Waits tells that the head has Expect: 100-continue.
	Waits bool
	// Last tells that no other request follows on the connection, as the head says too.
	Last bool
}

// Limits are what a Transport's owner bounds.
type Limits struct {
	// HeaderTimeout bounds the wait for a response's head once the request is
	// written, and each write of it. 0 means no bound.
	HeaderTimeout time.Duration
}

// New returns a Transport for the server that base leads to.
func New(base *url.URL, limits Limits) *Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	t := &Transport{headerTimeout: limits.HeaderTimeout}
	t.dialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			// What a client doesn't read waits here, and counts as our memory.
			_ = tcp.SetReadBuffer(readBuffer)
		}
		return conn, err
	}
	t.idle.timeout = idleTimeout
	port := base.Port()
	switch {
	case base.Scheme == "https":
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: base.Hostname()}
		port = orDefault(port, "443")
	default:
		port = orDefault(port, "80")
	}
	t.address = net.JoinHostPort(base.Hostname(), port)
	return t
}

func orDefault(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// CloseIdleConnections closes the connections that nobody uses.
func (t *Transport) CloseIdleConnections() { t.idle.close() }

// Send sends a request and makes res its response once the head is read. It reads the
// request's body, but leaves it to the caller to end a read from a client. What it returns
// an error for got no response that can be believed.
func (t *Transport) Send(ctx context.Context, r *Request, res *Response) error {
	for {
		c := t.idle.take(t.limit)
		reused := c != nil
		if !reused {
			var err error
			if c, err = t.dial(ctx); err != nil {
				return causeOf(ctx, err)
			}
		}
		err := c.exchange(ctx, r, res)
		if err == nil {
			return nil
		}
		c.close()
		if !reused || !c.mayRepeat(ctx, r, err) {
			return causeOf(ctx, err)
		}
	}
}

// limit sets the time for the next response on an idle connection.
func (t *Transport) limit(c *conn, now time.Time) bool { return c.limit(now) == nil }

func (t *Transport) dial(ctx context.Context) (*conn, error) {
	socket, err := t.dialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	c := newConn(socket, t.headerTimeout, t.idle.put)
	if t.tls != nil {
		if err := c.secure(ctx, t.tls); err != nil {
			return nil, errors.Join(err, socket.Close())
		}
	}
	if err := c.limit(time.Now()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// mayRepeat reports whether a request that failed on a connection that had been
// idle may be sent on another one. A server may close an unused connection at any
// time. What was not written at all is safe; so are methods without effect (RFC
// 9110 §9.2.2) if nothing was answered, but a server that is slow would only be
// asked twice. Whatever else was written may have been carried out.
func (c *conn) mayRepeat(ctx context.Context, r *Request, err error) bool {
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if r.Length == 0 {
			return !c.answered
		}
	}
	return !c.wrote
}

// pool holds the connections that nobody uses.
type pool struct {
	timeout time.Duration

	mu      sync.Mutex
	conns   []*conn     // the one used last is last
	sweeper *time.Timer // runs while there are idle connections
}

// take returns the connection that was used last and may still be good, or nil. usable
// prepares one.
func (p *pool) take(usable func(*conn, time.Time) bool) *conn {
	for {
		p.mu.Lock()
		last := len(p.conns) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.conns[last]
		p.conns[last] = nil
		p.conns = p.conns[:last]
		p.mu.Unlock()
		now := time.Now()
		if now.Sub(c.idleSince) < p.timeout && usable(c, now) {
			return c
		}
		_ = c.Close()
	}
}

// put keeps a connection for the next request.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.raw == nil || !canPeek || len(p.conns) >= maxIdle {
		_ = c.Close()
		return
	}
	c.idleSince = time.Now()
	p.conns = append(p.conns, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.timeout, p.sweep)
	}
}

// sweep closes connections that have been idle for too long, so that none stays
// open because no more requests come.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.conns) && time.Since(p.conns[n].idleSince) >= p.timeout {
		n++
	}
	p.closeOldest(n)
	p.sweeper = nil
	if len(p.conns) > 0 {
		p.sweeper = time.AfterFunc(p.timeout-time.Since(p.conns[0].idleSince), p.sweep)
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeOldest(len(p.conns))
}

func (p *pool) closeOldest(n int) {
	for _, c := range p.conns[:n] {
		_ = c.Close()
	}
	p.conns = append(p.conns[:0], p.conns[n:]...)
}

// causeOf prefers the end of ctx to what came of it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
