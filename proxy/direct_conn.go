package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// directConn is a connection to the FHIR server. One request at a time owns it,
// or the list of idle connections does.
type directConn struct {
	net.Conn
	t         *directTransport
	raw       syscall.RawConn // nil: can't be probed
	r         *bufio.Reader
	head      []byte // the answer's head so far, and what was read beyond it
	inHead    bool
	expired   bool // while reading the head
	deadline  time.Time
	idleSince time.Time
	abort     func()
}

// keptHead is how much memory for a head stays with an idle connection.
const keptHead = 16 << 10

func (t *directTransport) dial(ctx context.Context) (*directConn, error) {
	conn, err := t.dialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	c := &directConn{Conn: conn, t: t}
	if socket, ok := conn.(syscall.Conn); ok {
		if c.raw, err = socket.SyscallConn(); err != nil {
			c.raw = nil
		}
	}
	c.r = bufio.NewReaderSize(c, 4<<10) // also bounds trailers, as in http.Transport
	c.abort = func() { _ = conn.Close() }
	if err := c.limit(time.Now()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// Read bounds heads and remembers them. Bodies have no bound.
func (c *directConn) Read(p []byte) (int, error) {
	if !c.inHead {
		return c.Conn.Read(p)
	}
	room := int(c.t.rest.MaxResponseHeaderBytes) - len(c.head)
	if room <= 0 {
		return 0, errHead
	}
	n, err := c.Conn.Read(p[:min(room, len(p))])
	c.head, c.expired = append(c.head, p[:n]...), errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

var errHead = errors.New("FHIR server's answer has too large a head")

// roundTrip sends a request and reads the head of its answer. When it fails,
// the connection must be closed.
func (c *directConn) roundTrip(r *http.Request, request []byte) (*http.Response, error) {
	// Closing can't be undone by a deadline that is set at the same time.
	stop := context.AfterFunc(r.Context(), c.abort)
	res, err := c.exchange(r, request)
	if err != nil {
		stop()
		return nil, err
	}
	b := &directBody{
		ReadCloser: res.Body, c: c, ctx: r.Context(), stop: stop,
		keep: res.StatusCode >= http.StatusOK && res.Proto == "HTTP/1.1" && !res.Close,
	}
	if res.Body == http.NoBody {
		b.end(io.EOF)
	} else {
		res.Body = b
	}
	return res, nil
}

func (c *directConn) exchange(r *http.Request, request []byte) (*http.Response, error) {
	c.head, c.inHead, c.expired = c.head[:0], true, false
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	for begin := 0; ; {
		res, err := http.ReadResponse(c.r, r)
		if err != nil && c.expired {
			return nil, os.ErrDeadlineExceeded // which net/http hides behind half a line
		}
		if err != nil {
			return nil, err
		}
		end := len(c.head) - c.r.Buffered()
		if !hasOneReading(c.head[begin:end], isInformational(res.StatusCode)) {
			return nil, errAmbiguous
		}
		begin = end
		// Any number of informational answers may come first (RFC 9110 §15.2);
		// their heads count against the bound of the one that is waited for. 101
		// is final: what follows isn't HTTP.
		if !isInformational(res.StatusCode) {
			if hasSurplus(res, c.r.Buffered()) {
				return nil, errAmbiguous
			}
			c.inHead = false
			if !c.hasWhole(res) {
				c.deadline = time.Time{}
				_ = c.SetDeadline(c.deadline) // fails if abort has run, which end finds out
			}
			return res, nil
		}
	}
}

// limit makes the connection fail when the next answer's head takes too long. The
// limit stays, and is put off only when the next one would come too soon: to do
// that for each request takes more time than reading the head.
func (c *directConn) limit(now time.Time) error {
	timeout := c.t.headerTimeout
	if timeout <= 0 || c.deadline.Sub(now) >= timeout {
		return nil
	}
	c.deadline = now.Add(timeout + timeout/64)
	return c.SetDeadline(c.deadline)
}

// hasWhole reports whether nothing of an answer is left to read.
func (c *directConn) hasWhole(res *http.Response) bool {
	length := bodyLength(res)
	return length >= 0 && length <= int64(c.r.Buffered())
}

// hasSurplus reports whether the read bytes that came with the head are more than
// the answer has. They are either the body of an answer that has none, or nobody's.
func hasSurplus(res *http.Response, read int) bool {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return false
	}
	length := bodyLength(res)
	return length >= 0 && int64(read) > length
}

// bodyLength returns the bytes of an answer's body, or -1 if only its end tells.
func bodyLength(res *http.Response) int64 {
	if res.Body == http.NoBody {
		return 0
	}
	return res.ContentLength
}

// directBody is the body of an answer. It gives the connection back when it was
// read to its end. It is for one goroutine.
type directBody struct {
	io.ReadCloser
	c    *directConn
	ctx  context.Context
	stop func() bool
	keep bool
	err  error // why nothing more comes
}

// Read implements io.Reader.
func (b *directBody) Read(p []byte) (int, error) {
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
func (b *directBody) Close() error {
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	return nil
}

// end decides what becomes of the connection. When stop comes too late, abort
// runs or will run, and would hit the next request.
func (b *directBody) end(err error) {
	b.err = err
	whole := err == io.EOF //nolint:errorlint // io.Reader returns io.EOF itself
	if b.stop() && whole && b.keep && b.c.r.Buffered() == 0 {
		b.c.t.putIdle(b.c)
		return
	}
	_ = b.c.Close()
	if !whole {
		b.err = causeOf(b.ctx, err)
	}
}

// causeOf prefers the end of ctx to what came of it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
