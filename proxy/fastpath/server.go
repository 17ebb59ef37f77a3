// Package fastpath serves HTTP/1.1 without net/http's overhead per request, which is
// more CPU time than everything else they need.
//
// A Server gets connections before an http.Server does. It reads request heads from
// each and serves those that have the one canonical form (see parse), whatever their
// method and with their bodies. At the first head that is anything else it gives the
// connection back, with the bytes already read, for the http.Server: it never interprets
// a request that it does not fully recognise.
package fastpath

import (
	"context"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// Handler responds to a request by x, and reads its body there. Its context ends when
// the client leaves. Nothing of x may be used after it has returned.
type Handler func(ctx context.Context, r *wire.Request, x *Exchange)

// Config configures a Server. All of it is required.
type Config struct {
	Handler Handler
	// HeaderTimeout is for the first head on a connection, IdleTimeout for all others.
	HeaderTimeout, IdleTimeout time.Duration
	// ErrorLog gets panics of the handler.
	ErrorLog *log.Logger
}

// Server serves connections.
type Server struct {
	config  Config
	closing chan struct{}
	date    atomic.Pointer[date]
	once    sync.Once

	mu    sync.Mutex
	conns map[*conn]bool
	ended *sync.Cond // a connection has
}

// New returns a Server.
func New(config Config) *Server {
	s := &Server{config: config, closing: make(chan struct{}), conns: map[*conn]bool{}}
	s.ended = sync.NewCond(&s.mu)
	return s
}

// Serve serves the requests of a connection, and returns what is left of it for somebody
// else; nil: nothing, it is closed.
func (s *Server) Serve(c net.Conn) (rest net.Conn) {
	s.mu.Lock()
	if !s.isOpen() { // and Close won't find the connection
		s.mu.Unlock()
		_ = c.Close()
		return nil
	}
	served := newConn(s, c)
	s.conns[served] = true
	s.mu.Unlock()
	defer s.end(served)
	return served.serve()
}

func (s *Server) end(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.ended.Broadcast()
}

func (s *Server) isOpen() bool {
	select {
	case <-s.closing:
		return false
	default:
		return true
	}
}

// CloseKept closes the connections that wait for a further request, and serves on. One
// that waits for its first is left alone: its client has just come.
func (s *Server) CloseKept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.closeKept()
	}
}

// Close closes idle connections, and lets the others finish what they have begun.
func (s *Server) Close() {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.closing)
		for c := range s.conns {
			c.closeIdle()
		}
	})
}

// Wait returns when every request has its response, after Close. When ctx ends first, it
// breaks the rest off and returns the context's error.
func (s *Server) Wait(ctx context.Context) error {
	s.Close()
	var err error
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			err = ctx.Err()
			c.abort()
		}
		s.ended.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 && err == nil {
		s.ended.Wait()
	}
	return err
}

// date is the current second as a field value.
type date struct {
	second int64
	value  string
}

func (s *Server) now() string {
	now := time.Now()
	if d := s.date.Load(); d != nil && d.second == now.Unix() {
		return d.value
	}
	d := &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
	s.date.Store(d)
	return d.value
}
