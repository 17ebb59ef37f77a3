package upstream

import (
	"bufio"
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
)

// conn is a connection to the FHIR server. One request at a time owns it, or the
// pool does.
type conn struct {
	net.Conn
	raw       syscall.RawConn // of the socket; nil: can't be looked at
	secured   bool            // by TLS
	timeout   time.Duration   // for a head and for each write; 0: none
	release   func(*conn)     // takes it back
	r         *bufio.Reader
	head      []byte // the response's head so far, and what was read beyond it
	expired   bool   // while reading the head
	wrote     bool   // some of the request
	deadline  time.Time
	idleSince time.Time
	abort     func()

	mu     sync.Mutex // while a body is uploaded
	inHead bool
}

// keptHead is how much memory for a head stays with an idle connection, in bytes.
const keptHead = 16 << 10

var errHead = errors.New("FHIR server sent too large a response head")

func newConn(socket net.Conn, timeout time.Duration, release func(*conn)) *conn {
	c := &conn{Conn: socket, timeout: timeout, release: release}
	if s, ok := socket.(syscall.Conn); ok {
		raw, err := s.SyscallConn()
		if err == nil {
			c.raw = raw
		}
	}
	c.r = bufio.NewReaderSize(c, 4<<10) // also bounds trailers, as in http.Transport
	c.abort = func() { _ = socket.Close() }
	return c
}

// secure begins TLS.
func (c *conn) secure(ctx context.Context, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secured := tls.Client(c.Conn, config)
	c.Conn, c.secured = secured, true
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

// Read bounds heads and remembers them. Bodies have no bound.
func (c *conn) Read(p []byte) (int, error) {
	if !c.inHead {
		return c.Conn.Read(p)
	}
	room := maxHead - len(c.head)
	if room <= 0 {
		return 0, errHead
	}
	n, err := c.Conn.Read(p[:min(room, len(p))])
	c.head, c.expired = append(c.head, p[:n]...), errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// roundTrip sends a request and reads the head of its response. When it fails, the
// connection must be closed.
func (c *conn) roundTrip(r *http.Request, head []byte) (*http.Response, error) {
	// Closing can't be undone by a deadline that is set at the same time.
	stop := context.AfterFunc(r.Context(), c.abort)
	c.head, c.inHead, c.expired, c.wrote = c.head[:0], true, false, false
	n, err := c.Write(head)
	if c.wrote = n > 0; err != nil {
		stop()
		return nil, err
	}
	up, err := c.beginUpload(r)
	if err != nil {
		stop()
		return nil, err
	}
	res, err := c.readHead(r, up)
	if err != nil {
		stop()
		return nil, up.cause(err)
	}
	b := &body{
		ReadCloser: res.Body, c: c, ctx: r.Context(), stop: stop, upload: up,
		keep: res.StatusCode >= http.StatusOK && res.Proto == "HTTP/1.1" && !res.Close,
	}
	if res.Body == http.NoBody {
		b.end(io.EOF)
	} else {
		res.Body = b
	}
	return res, nil
}

// readHead reads up to the final response. Any number of informational ones may
// come first (RFC 9110 §15.2); their heads count against the bound of the one that
// is waited for. 101 is final: what follows isn't HTTP.
func (c *conn) readHead(r *http.Request, up *upload) (*http.Response, error) {
	for begin := 0; ; {
		res, err := http.ReadResponse(c.r, r)
		if err != nil && c.expired {
			return nil, os.ErrDeadlineExceeded // which net/http hides behind half a line
		}
		if err != nil {
			return nil, err
		}
		end := len(c.head) - c.r.Buffered()
		if !unambiguousHead(c.head[begin:end], isInformational(res.StatusCode)) {
			return nil, errAmbiguous
		}
		begin = end
		if isInformational(res.StatusCode) {
			if res.StatusCode == http.StatusContinue {
				up.proceed()
			}
			continue
		}
		if hasSurplus(res, c.r.Buffered()) {
			return nil, errAmbiguous
		}
		c.endHead(res, up)
		return res, nil
	}
}

// endHead lifts the bounds that hold for a head only.
func (c *conn) endHead(res *http.Response, up *upload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inHead = false
	if up != nil || !c.hasWhole(res) {
		c.deadline = time.Time{}
		_ = c.SetReadDeadline(c.deadline) // fails if abort has run, which end finds out
		if up == nil {
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

// hasWhole reports whether nothing of a response is left to read.
func (c *conn) hasWhole(res *http.Response) bool {
	length := bodyLength(res)
	return length >= 0 && length <= int64(c.r.Buffered())
}

// body is the body of a response. It gives the connection back when it was read to
// its end. It is for one goroutine.
type body struct {
	io.ReadCloser
	c      *conn
	ctx    context.Context //nolint:containedctx // of the request that the body answers
	stop   func() bool
	upload *upload // nil: the request has no body
	keep   bool
	err    error // why nothing more comes
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, b.err
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	return nil
}

// end decides what becomes of the connection. When stop comes too late, abort
// runs or will run, and would hit the next request.
func (b *body) end(err error) {
	b.err = err
	whole := err == io.EOF //nolint:errorlint // io.Reader returns io.EOF itself
	if b.stop() && whole && b.keep && b.c.r.Buffered() == 0 && b.upload.complete() {
		b.c.release(b.c)
		return
	}
	_ = b.c.Close()
	if !whole {
		b.err = causeOf(b.ctx, err)
	}
}
