package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a client's connection as the http.Server sees it. One goroutine at a time
// reads from it.
type conn struct {
	net.Conn
	l         *Listener
	answering atomic.Bool // a request
	reported  atomic.Bool

	head   head
	body   framer // of the last head
	ready  []byte // what the server gets next
	failed error  // nothing more comes
	reason Reason // why
	peer   string

	wake      chan struct{} // a read must end
	leaving   chan struct{} // the client won't send more
	leaveOnce sync.Once
	closed    chan struct{}
	closeOnce sync.Once
}

func (l *Listener) newConn(c net.Conn) *conn {
	wired := &conn{Conn: c, l: l, peer: c.RemoteAddr().String(), wake: make(chan struct{}, 1), leaving: make(chan struct{}), closed: make(chan struct{})}
	wired.body.ended = true
	return wired
}

// Read implements net.Conn. A head passes line by line, but nothing is a request
// before its last line has passed.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if len(c.ready) > 0 {
			n := copy(p, c.ready)
			c.ready = c.ready[n:]
			return n, nil
		}
		if c.failed != nil {
			return 0, c.failed
		}
		n, err := c.Conn.Read(p)
		if n = c.vet(p[:n]); n > 0 {
			return n, nil // an error comes again
		}
		if len(c.ready) > 0 {
			continue
		}
		if errors.Is(err, io.EOF) && c.answering.Load() && c.isBetween() {
			return 0, c.linger(err)
		}
		if err != nil {
			return 0, err
		}
		if len(p) == 0 {
			return 0, nil
		}
	}
}

// isBetween reports whether every request so far has come whole.
func (c *conn) isBetween() bool { return c.body.ended && !c.head.fields && c.head.length == 0 }

// vet returns how many of the bytes pass. What follows them instead is refused by
// net/http in its turn, after the responses to earlier requests.
func (c *conn) vet(b []byte) (passed int) {
	for passed < len(b) {
		if !c.body.ended {
			n, malformed := c.body.take(b[passed:])
			passed += n
			if malformed {
				c.refuse(noChunk)
				return passed
			}
			continue
		}
		n, ended, reason := c.head.take(b[passed:])
		passed += n
		if reason != "" {
			c.reason = reason
			c.refuse(noField)
			return passed
		}
		if ended {
			c.body.begin(c.head.bodyLength())
			c.head = head{line: c.head.line[:0], end: c.head.end[:0]}
		}
	}
	return passed
}

const (
	// noField is malformed wherever it stands in a head, twice.
	noField = "\x00\r\nrefused\r\n\r\n"
	// noChunk is malformed wherever it stands in a chunked body.
	noChunk = "x\ny\n"
)

func (c *conn) refuse(instead string) { c.ready, c.failed = []byte(instead), io.EOF }

// linger holds back the end of what a client sends while its request is answered. A
// client that has gone altogether resets the connection.
func (c *conn) linger(err error) error {
	c.leaveOnce.Do(func() { close(c.leaving) })
	if AwaitReset(c.Conn, c.wake, c.closed) {
		return err
	}
	return os.ErrDeadlineExceeded
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	err := c.Conn.SetReadDeadline(t)
	c.signal(t)
	return err
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	err := c.Conn.SetDeadline(t)
	c.signal(t)
	return err
}

// signal ends a read that lingers when its deadline has passed.
func (c *conn) signal(deadline time.Time) {
	if deadline.IsZero() || deadline.After(time.Now()) {
		select {
		case <-c.wake:
		default:
		}
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// CloseWrite is what http.Server calls before Close, lest a reset destroys the last
// response.
func (c *conn) CloseWrite() error {
	if closer, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return closer.CloseWrite()
	}
	return nil
}

// Write implements net.Conn. It recognises what net/http writes without a handler.
func (c *conn) Write(p []byte) (int, error) {
	if status, reason := refusal(p); status != 0 && c.reported.CompareAndSwap(false, true) {
		if c.reason != "" {
			reason = c.reason
		}
		c.l.config.Report(reason, status, c.peer)
	}
	return c.Conn.Write(p)
}
