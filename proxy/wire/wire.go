// Package wire knows the messages of HTTP/1.1 as bytes: heads as lists of fields, bodies
// as parts of what a connection brings. Both sides of the proxy read and write with it.
// What it reads has one reading, and nothing of it stays in memory that others get.
//
// Its Listener stands between a client's connection and http.Server, where these bytes
// can still be seen. It lets a head pass only if every server would find the same end of
// it and of its body: net/http accepts bare line feeds (RFC 9112 §2.2) and with
// lengths that others read otherwise, which makes two requests of one behind a proxy that
// doesn't. It tells of what is refused before there is a request, here or by net/http
// itself. And it tells a client that has only said that it won't send more from one
// that has gone, which net/http doesn't.
//
// HTTP/2 passes untouched: it has no line ends.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Linger is what a client that has closed its writing side gets to take its
// response: many programs say so when they have sent all, others when they are gone.
const Linger = 5 * time.Second

// Config configures a Listener.
type Config struct {
	// TLS is what the connections are secured with. Nil: they aren't.
	TLS *tls.Config
	// Serve serves a connection of HTTP/1 before server does, and returns what is left of
	// it; nil: nothing. Without it server gets all of them.
	Serve func(net.Conn) (rest net.Conn)
	// Report is called once for each connection that is refused before there is a
	// request. status is what it got, or 0 where TLS didn't come about. peer is an IP
	// address and a port. Nil: nobody is told.
	Report func(reason Reason, status int, peer string)
}

// Listener is what an http.Server serves.
type Listener struct {
	net.Listener
	config Config
	server *http.Server

	once   sync.Once
	ctx    context.Context //nolint:containedctx // of all handshakes
	cancel context.CancelFunc
	handed chan accepted
}

// accepted is a connection for the http.Server, or why there is none.
type accepted struct {
	net.Conn
	err error
}

// New returns a Listener for server, whose hooks ConnState and ConnContext and whose
// handler it adds to. It must be called before server serves, which it must with
// Serve: TLS is begun here.
func New(inner net.Listener, server *http.Server, config Config) *Listener {
	if config.TLS != nil {
		config.TLS = config.TLS.Clone()
		config.TLS.NextProtos = []string{"http/1.1"}
		if server.Protocols == nil || server.Protocols.HTTP2() {
			config.TLS.NextProtos = []string{"h2", "http/1.1"}
		}
		server.TLSConfig = config.TLS // or http.Server would not know HTTP/2
	}
	if config.Report == nil {
		config.Report = func(Reason, int, string) {}
	}
	l := &Listener{Listener: inner, config: config, server: server, handed: make(chan accepted)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.watchStates()
	l.tellLeaving()
	if config.TLS != nil {
		l.tellTLS()
	}
	if l.accepts() {
		go l.accept()
	}
	return l
}

// watchStates lets each connection know whether a request of its is being answered.
func (l *Listener) watchStates() {
	next := l.server.ConnState
	l.server.ConnState = func(c net.Conn, state http.ConnState) {
		if c, ok := c.(*conn); ok {
			c.answering.Store(state == http.StateActive)
		}
		if next != nil {
			next(c, state)
		}
	}
}

// leavingKey finds the channel of Leaving.
type leavingKey struct{}

// WithLeaving returns a context for the requests of a connection, for Leaving.
func WithLeaving(ctx context.Context, leaving <-chan struct{}) context.Context {
	return context.WithValue(ctx, leavingKey{}, leaving)
}

// Leaving returns a channel that is closed when the client that sent a request with
// this context says that it won't send more. Nil: that isn't known.
func Leaving(ctx context.Context) <-chan struct{} {
	leaving, _ := ctx.Value(leavingKey{}).(<-chan struct{})
	return leaving
}

// tellLeaving puts it into the contexts of requests.
func (l *Listener) tellLeaving() {
	next := l.server.ConnContext
	l.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if next != nil {
			ctx = next(ctx, c)
		}
		if c, ok := c.(*conn); ok {
			ctx = WithLeaving(ctx, c.leaving)
		}
		return ctx
	}
}

// stateKey finds the tls.ConnectionState of a connection of HTTP/1, which net/http
// takes for a plain one.
type stateKey struct{}

func (l *Listener) tellTLS() {
	nextContext, nextHandler := l.server.ConnContext, l.server.Handler
	l.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if nextContext != nil {
			ctx = nextContext(ctx, c)
		}
		if c, ok := c.(*conn); ok {
			if secured := securedOf(c.Conn); secured != nil {
				state := secured.ConnectionState()
				ctx = context.WithValue(ctx, stateKey{}, &state)
			}
		}
		return ctx
	}
	l.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state, ok := r.Context().Value(stateKey{}).(*tls.ConnectionState); ok && r.TLS == nil {
			r.TLS = state
		}
		nextHandler.ServeHTTP(w, r)
	})
}

// securedOf returns the connection of TLS that c is or holds, or nil.
func securedOf(c net.Conn) *tls.Conn {
	for {
		if secured, ok := c.(*tls.Conn); ok {
			return secured
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = outer.NetConn()
	}
}

// accepts reports whether connections come from accept.
func (l *Listener) accepts() bool { return l.config.TLS != nil || l.config.Serve != nil }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	if !l.accepts() {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		return l.newConn(c), nil
	}
	select {
	case a := <-l.handed:
		return a.Conn, a.err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(l.cancel)
	return l.Listener.Close()
}

// accept begins with each connection in a goroutine of its own. Only the handshake of
// TLS tells whether HTTP/2 is spoken, which http.Server wants a *tls.Conn for.
func (l *Listener) accept() {
	for l.ctx.Err() == nil {
		c, err := l.Listener.Accept()
		if err != nil {
			l.hand(nil, err)
			continue
		}
		if l.config.TLS != nil {
			go l.handshake(tls.Server(c, l.config.TLS))
		} else {
			go l.serve(c)
		}
	}
}

// serve lets a connection of HTTP/1 be served.
func (l *Listener) serve(c net.Conn) {
	if l.config.Serve != nil {
		if c = l.config.Serve(c); c == nil {
			return
		}
	}
	l.hand(l.newConn(c), nil)
}

func (l *Listener) handshake(c *tls.Conn) {
	ctx := l.ctx
	if timeout := l.server.ReadHeaderTimeout; timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	switch err := c.HandshakeContext(ctx); {
	case err != nil:
		if !errors.Is(err, io.EOF) { // which is all that a probe of the port does
			l.config.Report(Handshake, 0, c.RemoteAddr().String())
		}
		l.hand(c, nil) // which tells it as it always does
	case c.ConnectionState().NegotiatedProtocol == "h2":
		l.hand(c, nil)
	default:
		go l.serve(c) // with less of a stack than a handshake takes
	}
}

// hand gives a connection to the http.Server.
func (l *Listener) hand(c net.Conn, err error) {
	select {
	case l.handed <- accepted{c, err}:
	case <-l.ctx.Done():
		if c != nil {
			_ = c.Close()
		}
	}
}
