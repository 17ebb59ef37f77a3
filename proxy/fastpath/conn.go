package fastpath

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// The states of a connection.
const (
	fresh int32 = iota // before the first request
	kept               // between two
	busy
	closed
)

// conn is a connection on which every request so far was canonical. One goroutine owns
// it; another one watches the client while a response takes long.
type conn struct {
	net.Conn
	s            *Server
	in           *wire.Input
	state        atomic.Int32
	ctx          context.Context //nolint:containedctx // ends with the connection
	cancel       context.CancelFunc
	readDeadline time.Time
	peer         string
	secure       bool
	skippable    int // empty lines before the next head
	timer        *time.Timer

	mu         sync.Mutex
	responding bool
	set        bool          // the timer is
	request    int           // that is responded to, counted
	setFor     int           // the one for which the timer was set
	watch      chan struct{} // closed when the watcher is done
	leaving    chan struct{} // closed when the client won't send more
	left       sync.Once
	unwatch    chan struct{} // closed when the response is complete
}

func newConn(s *Server, inner net.Conn) *conn {
	c := &conn{Conn: inner, s: s, in: wire.NewInput(inner), peer: inner.RemoteAddr().String(), leaving: make(chan struct{})}
	_, c.secure = inner.(*tls.Conn)
	c.ctx, c.cancel = context.WithCancel(wire.WithLeaving(context.Background(), c.leaving))
	c.timer = time.AfterFunc(time.Hour, c.watchClient)
	return c
}

// serve serves requests, and returns a connection with one that isn't canonical.
func (c *conn) serve() (rest net.Conn) {
	defer c.cancel()
	defer c.timer.Stop()
	c.readDeadline = time.Now().Add(c.s.config.HeaderTimeout)
	_ = c.SetReadDeadline(c.readDeadline)
	for {
		n, err := c.awaitHead()
		if err != nil {
			break
		}
		t := newTurn()
		if !t.head.parse(string(c.in.Bytes()[:n])) {
			break
		}
		t.head.Peer, t.head.Secure = c.peer, c.secure
		if !c.take() || !c.respond(t, n) {
			c.close()
			return nil
		}
		if c.skippable = 0; t.head.Method == http.MethodPost {
			c.skippable = maxSkipped
		}
		t.end()
		c.state.Store(kept)
		if !c.s.isOpen() { // which closeIdle has not found idle
			c.close()
			return nil
		}
		c.extendIdleDeadline()
	}
	return c.leave()
}

// leave takes a connection off the fast path: it is over or not canonical.
func (c *conn) leave() (rest net.Conn) {
	if c.in.Len() == 0 || !c.take() {
		c.close()
		return nil
	}
	_ = c.SetReadDeadline(time.Time{})
	rest = &replayed{Conn: c.Conn, first: bytes.Clone(c.in.Bytes())}
	c.in.Drop()
	return rest
}

// close ends the connection and forgets what came on it.
func (c *conn) close() {
	_ = c.Close()
	c.in.Drop()
}

// extendIdleDeadline postpones the deadline of an idle connection, unless that gains next to
// nothing.
func (c *conn) extendIdleDeadline() {
	timeout := c.s.config.IdleTimeout
	until := time.Now().Add(timeout)
	if gain := until.Sub(c.readDeadline); gain < 0 || gain > timeout/64 {
		c.readDeadline = until
		_ = c.SetReadDeadline(until)
	}
}

// awaitHead waits for a whole head and returns its length.
func (c *conn) awaitHead() (n int, err error) {
	for {
		c.skipEmptyLines()
		if end := bytes.Index(c.in.Bytes(), []byte("\r\n\r\n")); end >= 0 {
			return end + 4, nil
		}
		if c.in.Len() >= wire.InputSize {
			return 0, wire.ErrMalformed
		}
		if c.in.Len() > 0 && time.Until(c.readDeadline) > headTimeout {
			c.readDeadline = time.Now().Add(headTimeout)
			_ = c.SetReadDeadline(c.readDeadline)
		}
		if err := c.in.Fill(); err != nil {
			return 0, err
		}
	}
}

// skipEmptyLines skips what old clients send after the body of a POST (RFC 9112 §2.2), as
// net/http does. It must not be taken for the beginning of a head.
func (c *conn) skipEmptyLines() {
	for c.skippable > 0 && bytes.HasPrefix(c.in.Bytes(), []byte("\r\n")) {
		c.skippable--
		c.in.Take(len("\r\n"))
		c.in.Release()
		c.extendIdleDeadline()
	}
}

// respond has the request handled whose head has n bytes, and reports whether another
// one may come.
func (c *conn) respond(t *turn, n int) bool {
	c.in.Take(n)
	c.in.Release() // waiting for the FHIR server needs no memory for tokens
	x := &t.exchange
	x.begin(c, &t.head)
	if x.body.Ended() {
		c.startWatching()
	}
	if !c.handle(&t.head, x) {
		return false
	}
	keeps := x.finish() && x.body.Ended()
	c.stopWatching()
	if !x.body.Ended() {
		c.linger()
	}
	c.in.Release() // an idle connection must not keep a token
	return keeps && c.ctx.Err() == nil
}

// handle reports whether there is a response to send. After a panic there is none, as
// with http.Server.
func (c *conn) handle(h *head, x *Exchange) (ok bool) {
	defer func() {
		p := recover()
		if ok = p == nil; ok {
			return
		}
		c.stopWatching()
		x.drop()
		if p != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
			c.s.config.ErrorLog.Printf("http: panic serving %v: %v\n%s", c.peer, p, debug.Stack())
		}
	}()
	c.s.config.Handler(c.ctx, &h.Request, x)
	return true
}

// linger reads on for a while, lest a reset destroys the response.
func (c *conn) linger() {
	_ = closeWrite(c.Conn)
	_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
	for read := 0; read < lingerBytes; read += c.in.Len() {
		c.in.Take(c.in.Len())
		if c.in.Fill() != nil {
			break
		}
	}
}

// startWatching is called when no more of the request comes. A timer that was set for an
// earlier one is left alone: to stop and to set it takes time that few responses need.
func (c *conn) startWatching() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.responding = true
	c.request++
	if !c.set {
		c.setTimer()
	}
}

// setTimer sets the timer for the request that is responded to. c.mu is held.
func (c *conn) setTimer() {
	c.set, c.setFor = true, c.request
	c.timer.Reset(watchAfter)
}

// watchClient ends the context when the client leaves. Whatever else it sends is
// kept; then it is taken to be still there. The timer may have run out for an
// earlier request: one watcher is enough, and two would lose what they read.
func (c *conn) watchClient() {
	c.mu.Lock()
	c.set = false
	if !c.responding || c.watch != nil || c.in.Len() >= wire.InputSize {
		c.mu.Unlock()
		return
	}
	if c.setFor != c.request {
		c.setTimer()
		c.mu.Unlock()
		return
	}
	watch, unwatch := make(chan struct{}), make(chan struct{})
	c.watch, c.unwatch = watch, unwatch
	_ = c.SetReadDeadline(time.Time{})
	c.mu.Unlock()
	err := c.in.Fill()
	// A client that has only said that it won't send more waits for its response.
	halfClosed := errors.Is(err, io.EOF)
	if halfClosed {
		c.left.Do(func() { close(c.leaving) })
	}
	gone := err != nil && (!halfClosed || wire.AwaitReset(c.Conn, unwatch, nil))
	c.mu.Lock()
	if gone && c.responding {
		c.cancel()
	}
	c.mu.Unlock()
	close(watch)
}

func (c *conn) stopWatching() {
	c.mu.Lock()
	c.responding = false
	watch := c.watch
	c.watch = nil
	c.mu.Unlock()
	if watch == nil {
		return
	}
	close(c.unwatch)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	<-watch
	c.readDeadline = time.Time{}
}

// take makes the connection busy, unless it was closed.
func (c *conn) take() bool {
	return c.state.CompareAndSwap(kept, busy) || c.state.CompareAndSwap(fresh, busy)
}

// closeIdle closes the connection unless it is responding.
func (c *conn) closeIdle() {
	c.closeKept()
	if c.state.CompareAndSwap(fresh, closed) {
		_ = c.Close()
	}
}

// closeKept closes the connection if it waits for a further request.
func (c *conn) closeKept() {
	if c.state.CompareAndSwap(kept, closed) {
		_ = c.Close()
	}
}

func (c *conn) abort() {
	c.cancel()
	_ = c.Close()
}
