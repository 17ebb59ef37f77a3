// Package fastpath serves canonical GET and HEAD requests without net/http's
// overhead per request, which is more CPU time than everything else they need.
//
// A Listener stands between a TCP listener and an http.Server. It reads request
// heads from each connection and serves those that have the one canonical form
// (see parse) with the server's handler. At the first byte that is anything else it
// hands the connection, with the bytes already read, to the http.Server
// permanently: it never interprets a request that it does not fully recognise.
package fastpath

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Listener is what an http.Server serves. It hands over the connections that
// aren't canonical, and serves the others itself.
type Listener struct {
	net.Listener
	server  *http.Server
	base    context.Context //nolint:containedctx // what the requests' contexts begin with
	handed  chan accepted
	closing chan struct{}
	date    atomic.Pointer[date]
	once    sync.Once

	mu    sync.Mutex
	conns map[*conn]bool
	ended *sync.Cond // a connection has
}

// accepted is a connection for the http.Server, or why there is none.
type accepted struct {
	net.Conn
	err error
}

// stream is a TCP connection, or what holds one. An http.Server that has answered
// before it has read everything closes it for writing first, lest a reset destroys
// the answer.
type stream interface {
	net.Conn
	CloseWrite() error
}

// New returns a Listener that accepts from inner and serves as server does: with
// its handler, its timeouts for headers and idle connections, and its log, which
// must all be set.
func New(inner net.Listener, server *http.Server) *Listener {
	l := &Listener{
		Listener: inner, server: server, handed: make(chan accepted), closing: make(chan struct{}), conns: map[*conn]bool{},
		base: context.WithValue(context.Background(), http.ServerContextKey, server),
	}
	l.ended = sync.NewCond(&l.mu)
	go l.accept()
	return l
}

// accept leaves errors to the http.Server, which waits after some of them and
// gives up after others.
func (l *Listener) accept() {
	for l.isOpen() {
		rw, err := l.Listener.Accept()
		if s, ok := rw.(stream); ok {
			l.begin(s)
		} else {
			l.hand(rw, err)
		}
	}
}

func (l *Listener) begin(s stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isOpen() { // and Close won't find the connection
		_ = s.Close()
		return
	}
	c := newConn(l, s)
	l.conns[c] = true
	go c.serve()
}

func (l *Listener) end(c *conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.ended.Broadcast()
}

// hand gives a connection to the http.Server.
func (l *Listener) hand(rw net.Conn, err error) {
	select {
	case l.handed <- accepted{rw, err}:
	case <-l.closing:
		if rw != nil {
			_ = rw.Close()
		}
	}
}

func (l *Listener) isOpen() bool {
	select {
	case <-l.closing:
		return false
	default:
		return true
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.handed:
		return a.Conn, a.err
	case <-l.closing:
		return nil, net.ErrClosed
	}
}

// Close stops listening, closes idle connections, and lets the others finish
// what they have begun. http.Server calls it when it shuts down.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closing)
		err = l.Listener.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.conns {
			c.closeIdle()
		}
	})
	return err
}

// Wait returns when every request is answered. When ctx ends first, it breaks
// the rest off and returns the context's error.
func (l *Listener) Wait(ctx context.Context) error {
	var err error
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.conns {
			err = ctx.Err()
			c.abort()
		}
		l.ended.Broadcast()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.conns) > 0 && err == nil {
		l.ended.Wait()
	}
	return err
}
