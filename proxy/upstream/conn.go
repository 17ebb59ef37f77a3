package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// conn is a connection to the FHIR server. One request at a time owns it, or the
// pool does.
type conn struct {
	net.Conn
	raw       syscall.RawConn // of the socket; nil: can't be looked at
	secured   bool            // by TLS
	timeout   time.Duration   // for a head and for each write; 0: none
	release   func(*conn)     // takes it back
	in        *wire.Input
	answered  bool   // something has come since the request began
	wrote     bool   // some of the request
	unsent    []byte // is written when the response is waited for
	deadline  time.Time
	idleSince time.Time
	abort     func()

	mu     sync.Mutex // while a body is uploaded
	inHead bool
}

var (
	errHead      = errors.New("FHIR server sent too large a response head")
	errAmbiguous = errors.New("FHIR server sent a response that can be read in more than one way")
)

func newConn(socket net.Conn, timeout time.Duration, release func(*conn)) *conn {
	c := &conn{Conn: socket, timeout: timeout, release: release, in: wire.NewInput(socket)}
	if s, ok := socket.(syscall.Conn); ok {
		raw, err := s.SyscallConn()
		if err == nil {
			c.raw = raw
		}
	}
	c.abort = func() { _ = socket.Close() }
	return c
}

// secure begins TLS.
func (c *conn) secure(ctx context.Context, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secured := tls.Client(c.Conn, config)
	c.Conn, c.secured, c.in = secured, true, wire.NewInput(secured)
	return secured.HandshakeContext(ctx)
}

// isIdle reports whether the other side has neither closed an unused connection
// nor sent anything on it.
func (c *conn) isIdle() bool {
	if !connIsIdle(c.raw) {
		return false
	}
	if !c.secured {
		return true
	}
	// TLS may have read more than it gave out.
	if c.SetReadDeadline(longAgo) != nil {
		return false
	}
	c.deadline = longAgo // so that limit sets it
	_, err := c.Conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// exchange sends a request and makes res its response, of which it reads the head. When it
// fails, the connection must be closed.
func (c *conn) exchange(ctx context.Context, r *Request, res *Response) error {
	// Closing can't be undone by a deadline that is set at the same time.
	stop := context.AfterFunc(ctx, c.abort)
	c.inHead, c.answered, c.wrote = true, false, false
	if err := c.send(r); err != nil {
		stop()
		return err
	}
	up, err := c.beginUpload(r)
	if err != nil {
		stop()
		return err
	}
	*res = Response{}
	res.c, res.ctx, res.stop, res.upload = c, ctx, stop, up
	if err := c.readHead(res, r.Method); err != nil {
		stop()
		return up.cause(err)
	}
	res.Keeps = res.Keeps && !r.Last
	res.begin()
	return nil
}

// send writes a request. A byte that nobody asked for would become the beginning of its
// response (RFC 9112 §9.2).
func (c *conn) send(r *Request) error {
	if !c.idleSince.IsZero() {
		if r.Body == nil && !c.secured {
			c.unsent = r.Bytes // fill looks, writes and waits at once
			return nil
		}
		if !c.isIdle() {
			return wire.ErrUnasked
		}
		if err := c.limit(time.Now()); err != nil { // the look through TLS leaves another one
			return err
		}
	}
	n, err := c.Write(r.Bytes)
	c.wrote = n > 0
	return err
}

// fill waits for more of a response, and sends the request before if it has to be.
func (c *conn) fill() error {
	if c.unsent == nil {
		return c.in.Fill()
	}
	n, err := c.in.Ask(c.unsent)
	c.unsent, c.wrote = nil, n > 0
	return err
}

// readHead reads up to the final response. Any number of informational ones may
// come first (RFC 9110 §15.2); their heads count against the bound of the one that
// is waited for.
func (c *conn) readHead(res *Response, method string) error {
	for left := maxHead; ; {
		n, err := c.awaitHead(left)
		if err != nil {
			return err
		}
		res.Fields = res.fields[:0]
		if err := res.Parse(string(c.in.Bytes()[:n]), method); err != nil {
			return causeOfHead(err)
		}
		c.in.Take(n)
		left -= n
		if res.Final() {
			break
		}
		if res.Status == http.StatusContinue {
			res.upload.proceed()
		}
	}
	// What came with the head and is more than the response has is either the body of one
	// that has none, or nobody's.
	if res.Length >= 0 && int64(c.in.Len()) > res.Length && res.Status != http.StatusSwitchingProtocols {
		return errAmbiguous
	}
	c.endHead(res)
	return nil
}

func causeOfHead(err error) error {
	if errors.Is(err, wire.ErrAmbiguous) {
		return errAmbiguous
	}
	return err
}

// awaitHead waits for a whole head, and returns its length.
func (c *conn) awaitHead(most int) (n int, err error) {
	checked := false
	for looked := 0; ; {
		b := c.in.Bytes()
		if end := bytes.Index(b[looked:], []byte("\r\n\r\n")); end >= 0 {
			if n = looked + end + 4; n > most {
				return 0, errHead
			}
			return n, nil
		}
		line := bytes.IndexByte(b, '\n')
		if hasBareLineFeed(b[looked:]) {
			return 0, errAmbiguous
		}
		if line >= 0 && !checked {
			// Nobody waits for the rest of what isn't HTTP.
			if err := wire.CheckStatusLine(string(bytes.TrimSuffix(b[:line], []byte("\r")))); err != nil {
				return 0, causeOfHead(err)
			}
			checked = true
		}
		if looked = max(0, len(b)-4); len(b) >= most {
			return 0, errHead
		}
		err := c.fill()
		c.answered = c.answered || c.in.Len() > 0
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, os.ErrDeadlineExceeded
		case errors.Is(err, io.EOF):
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		}
	}
}

// hasBareLineFeed reports whether a line ends in one (RFC 9112 §2.2). The first byte
// may follow anything.
func hasBareLineFeed(b []byte) bool {
	for i := 1; i < len(b); i++ {
		next := bytes.IndexByte(b[i:], '\n')
		if next < 0 {
			return false
		}
		if i += next; b[i-1] != '\r' {
			return true
		}
	}
	return false
}

// endHead lifts the bounds that hold for a head only.
func (c *conn) endHead(res *Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inHead = false
	whole := res.Length >= 0 && res.Length <= int64(c.in.Len())
	if res.upload != nil || !whole {
		c.deadline = time.Time{}
		_ = c.SetReadDeadline(c.deadline) // fails if abort has run, which end finds out
		if res.upload == nil {
			_ = c.SetWriteDeadline(c.deadline)
		}
	}
}

// limit makes the connection fail when the next response's head takes too long. The
// limit stays, and is put off only when the next one would come too soon: to do
// that for each request takes more time than reading the head.
func (c *conn) limit(now time.Time) error {
	if c.timeout <= 0 {
		if c.deadline.Equal(longAgo) {
			c.deadline = time.Time{}
			return c.SetDeadline(c.deadline)
		}
		return nil
	}
	if c.deadline.Sub(now) >= c.timeout {
		return nil
	}
	c.deadline = now.Add(c.timeout + c.timeout/64)
	return c.SetDeadline(c.deadline)
}

// close ends the connection and forgets what it has sent.
func (c *conn) close() {
	_ = c.Close()
	c.in.Drop()
}
