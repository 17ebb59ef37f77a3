package fastpath

import (
	"context"
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

const (
	// maxHead bounds a canonical head, in bytes.
	maxHead = 8 << 10

	// maxFields is how many names its fields may have: what they take stays with the
	// connection.
	maxFields = 64

	// headTimeout bounds a head, from its first byte to its last.
	headTimeout = 100 * time.Millisecond

	// watchAfter is when to begin to look whether the client is still there.
	watchAfter = 10 * time.Millisecond
)

// The states of a connection.
const (
	idle int32 = iota
	busy
	closed
)

// conn is a connection on which every request so far was canonical. One goroutine owns it; another one
// watches the client while an answer takes long.
type conn struct {
	stream
	l            *Listener
	state        atomic.Int32
	ctx          context.Context //nolint:containedctx // ends with the connection
	cancel       context.CancelFunc
	read         []byte // and not answered yet
	readDeadline time.Time
	template     http.Request // what all requests have in common
	request      http.Request
	header       http.Header
	values       [maxFields]string
	writer       writer
	timer        *time.Timer

	mu        sync.Mutex
	answering bool
	watch     chan int      // gets how much more was read
	leaving   chan struct{} // closed when the client won't send more
	left      sync.Once
	unwatch   chan struct{} // closed when the response is complete
}

func newConn(l *Listener, s stream) *conn {
	c := &conn{
		stream: s, l: l, read: make([]byte, 0, maxHead), header: http.Header{},
	}
	c.leaving = make(chan struct{})
	c.ctx, c.cancel = context.WithCancel(wire.WithLeaving(context.WithValue(l.base, http.LocalAddrContextKey, s.LocalAddr()), c.leaving))
	c.template = http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: c.header, Body: http.NoBody, RemoteAddr: s.RemoteAddr().String()}
	c.template = *c.template.WithContext(c.ctx)
	c.writer = writer{c: c, header: http.Header{}}
	c.timer = time.AfterFunc(time.Hour, c.watchClient)
	return c
}

func (c *conn) serve() {
	defer c.l.end(c)
	defer c.cancel()
	defer c.timer.Stop()
	defer c.catch()
	c.readDeadline = time.Now().Add(c.l.server.ReadHeaderTimeout)
	_ = c.SetReadDeadline(c.readDeadline)
	for {
		n, ok := c.awaitHead()
		if !ok {
			break
		}
		if !c.state.CompareAndSwap(idle, busy) || !c.answer(n) {
			_ = c.Close()
			return
		}
		c.state.Store(idle)
		if !c.l.isOpen() { // which closeIdle has not found idle
			_ = c.Close()
			return
		}
		c.extendIdleDeadline()
	}
	c.leave()
}

// leave takes a connection off the fast path: it is over or not canonical.
func (c *conn) leave() {
	if len(c.read) == 0 || !c.state.CompareAndSwap(idle, busy) {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	c.l.hand(&replayed{stream: c.stream, first: c.read}, nil)
}

// replayed is a connection of which something was read already.
type replayed struct {
	stream
	first []byte
}

// NetConn returns the connection itself, as tls.Conn does.
func (r *replayed) NetConn() net.Conn { return r.stream }

// Read implements net.Conn.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.stream.Read(p)
	}
	n := copy(p, r.first)
	if r.first = r.first[n:]; len(r.first) == 0 {
		r.first = nil
	}
	return n, nil
}

// extendIdleDeadline postpones the deadline of an idle connection, unless that gains next to
// nothing.
func (c *conn) extendIdleDeadline() {
	timeout := c.l.server.IdleTimeout
	until := time.Now().Add(timeout)
	if gain := until.Sub(c.readDeadline); gain < 0 || gain > timeout/64 {
		c.readDeadline = until
		_ = c.SetReadDeadline(until)
	}
}

// awaitHead waits for a canonical head, parses it and returns its length.
func (c *conn) awaitHead() (n int, ok bool) {
	for n = headEnd(c.read); n < 0; n = headEnd(c.read) {
		if len(c.read) == cap(c.read) {
			return 0, false
		}
		if len(c.read) > 0 && time.Until(c.readDeadline) > headTimeout {
			c.readDeadline = time.Now().Add(headTimeout)
			_ = c.SetReadDeadline(c.readDeadline)
		}
		more, err := c.stream.Read(c.read[len(c.read):cap(c.read)])
		c.read = c.read[:len(c.read)+more]
		if err != nil {
			return 0, false
		}
	}
	clear(c.header)
	clear(c.values[:])
	c.request = c.template
	return n, parse(string(c.read[:n]), &c.request, c.values[:])
}

// answer answers the request, whose head has n bytes, and reports whether
// another one may come.
func (c *conn) answer(n int) bool {
	c.mu.Lock()
	c.answering = true
	c.mu.Unlock()
	c.timer.Reset(watchAfter)
	c.writer.begin(c.request.Method == http.MethodHead)
	c.l.server.Handler.ServeHTTP(&c.writer, &c.request)
	ok := c.writer.finish()
	c.stopWatching()
	left := copy(c.read, c.read[n:])
	clear(c.read[left:]) // an idle connection must not keep a token
	c.read = c.read[:left]
	return ok && c.ctx.Err() == nil
}

// watchClient ends the context when the client leaves. Whatever else it sends is
// kept; then it is taken to be still there. The timer may have run out for an
// earlier request: one watcher is enough, and two would lose what they read.
func (c *conn) watchClient() {
	c.mu.Lock()
	if !c.answering || c.watch != nil || len(c.read) == cap(c.read) {
		c.mu.Unlock()
		return
	}
	watch, unwatch := make(chan int, 1), make(chan struct{})
	c.watch, c.unwatch = watch, unwatch
	_ = c.SetReadDeadline(time.Time{})
	c.mu.Unlock()
	n, err := c.stream.Read(c.read[len(c.read):cap(c.read)])
	// A client that has only said that it won't send more waits for its response.
	halfClosed := errors.Is(err, io.EOF)
	if halfClosed {
		c.left.Do(func() { close(c.leaving) })
	}
	gone := err != nil && (!halfClosed || wire.AwaitReset(c.stream, unwatch, nil))
	c.mu.Lock()
	if gone && c.answering {
		c.cancel()
	}
	c.mu.Unlock()
	watch <- n
}

func (c *conn) stopWatching() {
	c.timer.Stop()
	c.mu.Lock()
	c.answering = false
	watch := c.watch
	c.watch = nil
	c.mu.Unlock()
	if watch == nil {
		return
	}
	close(c.unwatch)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	c.read = c.read[:len(c.read)+<-watch]
	c.readDeadline = time.Time{}
}

// closeIdle closes the connection unless it is answering.
func (c *conn) closeIdle() {
	if c.state.CompareAndSwap(idle, closed) {
		_ = c.Close()
	}
}

func (c *conn) abort() {
	c.cancel()
	_ = c.Close()
}

// catch ends the connection after a panic, as http.Server does.
func (c *conn) catch() {
	p := recover()
	if p == nil {
		return
	}
	c.stopWatching()
	_ = c.Close()
	if p != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
		c.l.server.ErrorLog.Printf("http: panic serving %v: %v\n%s", c.template.RemoteAddr, p, debug.Stack())
	}
}
