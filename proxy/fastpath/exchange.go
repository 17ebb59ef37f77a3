package fastpath

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

const (
	// flushSize is how much of a response is kept before it is sent, in bytes.
	flushSize = 32 << 10

	// maxKept is how much memory for responses is used again, in bytes.
	maxKept = 2*flushSize + 4<<10
)

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Exchange is the other side of a request: the client, which may still send the body,
// and gets the response. What is written is kept until it is flushed, or is much, or the
// exchange ends, so that a short response is one write.
type Exchange struct {
	c        *conn
	body     wire.Body
	out      *[]byte
	used     int   // of out, at most so far
	status   int   // 0: the response has not begun
	length   int64 // that was told, or -1
	written  int64
	head     bool // to HEAD
	bodiless bool // by its status
	chunked  bool
	closes   bool
	err      error
	trailers wire.Fields

	mu      sync.Mutex
	expects bool // the client waits to be told to send its body
}

func (x *Exchange) begin(c *conn, h *head) {
	x.c, x.body = c, wire.NewBody(c.in, h.Length)
	x.head, x.closes, x.expects, x.length = h.Method == http.MethodHead, h.closes, h.expects, -1
}

// StartBody begins to read the body of the request. It appends the body if all of it has
// come; else it is to be read with Read.
func (x *Exchange) StartBody(to []byte) (with []byte, whole bool) {
	if x.expects {
		x.c.awaitBody()
		return to, false
	}
	body, whole := x.body.Whole()
	if !whole {
		if _, err := x.c.in.Poll(); err == nil { // it may have come meanwhile
			body, whole = x.body.Whole()
		}
	}
	if !whole {
		x.c.awaitBody()
		return to, false
	}
	with = append(to, body...)
	x.c.in.Release()
	x.c.startWatching() // which may read from now on
	return with, true
}

// awaitBody lets a body take as long as it moves.
func (c *conn) awaitBody() {
	c.readDeadline = time.Time{}
	_ = c.SetReadDeadline(c.readDeadline)
}

// Read reads the body of the request, and may be called while the response is written.
// Its last bytes come with io.EOF.
func (x *Exchange) Read(p []byte) (int, error) {
	if err := x.tellToSend(); err != nil {
		return 0, err
	}
	if x.body.Ended() {
		return 0, io.EOF
	}
	n, err := x.body.Read(p, true)
	if x.body.Ended() {
		x.c.startWatching()
	}
	return n, err
}

// tellToSend sends 100 Continue to a client that waits for it, unless its response has
// begun (RFC 9110 §10.1.1).
func (x *Exchange) tellToSend() (err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.expects {
		x.expects = false
		_, err = io.WriteString(x.c.Conn, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	return err
}

// SetReadDeadline ends a Read.
func (x *Exchange) SetReadDeadline(t time.Time) error { return x.c.SetReadDeadline(t) }

// WriteHead begins the response with a final status, once. Its body has the length that
// is Told, or else is chunked.
func (x *Exchange) WriteHead(h *wire.ResponseHead) {
	if x.status != 0 {
		return
	}
	x.mu.Lock()
	x.expects = false
	x.mu.Unlock()
	x.out, _ = buffers.Get().(*[]byte)
	x.status, x.length = h.Status, h.Told
	x.bodiless = h.Status == http.StatusNoContent || h.Status == http.StatusNotModified
	x.chunked = !x.head && !x.bodiless && x.length < 0
	x.closes = x.closes || !h.Keeps || !x.c.s.isOpen()
	x.appendHead(h)
}

func (x *Exchange) appendHead(h *wire.ResponseHead) {
	out := append(*x.out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(h.Status), 10)
	out = append(out, ' ')
	if text := http.StatusText(h.Status); text != "" {
		out = append(out, text...)
	} else {
		out = append(out, "status code "...)
		out = strconv.AppendInt(out, int64(h.Status), 10)
	}
	out = append(out, "\r\n"...)
	dated := false
	for i := range h.Fields {
		f := &h.Fields[i]
		dated = dated || f.Is("date")
		if h.Status != http.StatusNotModified || !f.Is("content-type") {
			out = wire.AppendField(out, f.Name, f.Value)
		}
	}
	if !dated {
		out = wire.AppendField(out, "Date", x.c.s.now())
	}
	if x.length >= 0 && !x.bodiless {
		out = append(out, "Content-Length: "...)
		out = append(strconv.AppendInt(out, x.length, 10), "\r\n"...)
	}
	if len(h.Trailers) > 0 {
		out = wire.AppendField(out, "Trailer", strings.Join(h.Trailers, ", "))
	}
	if x.chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if x.closes {
		out = append(out, "Connection: close\r\n"...)
	}
	*x.out = append(out, "\r\n"...)
}

// Write writes a part of the response's body.
func (x *Exchange) Write(p []byte) (int, error) {
	x.written += int64(len(p))
	switch {
	case x.err != nil:
		return 0, x.err
	case x.bodiless:
		return 0, http.ErrBodyNotAllowed
	case x.length >= 0 && x.written > x.length:
		return 0, http.ErrContentLength
	case x.head || len(p) == 0:
		return len(p), nil
	}
	switch {
	case x.chunked:
		*x.out = append(strconv.AppendInt(*x.out, int64(len(p)), 16), "\r\n"...)
		*x.out = append(append(*x.out, p...), "\r\n"...)
	case len(*x.out) == 0 && len(p) >= flushSize:
		return len(p), x.send(p)
	default:
		*x.out = append(*x.out, p...)
	}
	if len(*x.out) >= flushSize {
		return len(p), x.Flush()
	}
	return len(p), nil
}

func (x *Exchange) send(p []byte) error {
	if _, x.err = x.c.Conn.Write(p); x.err != nil {
		x.c.cancel()
	}
	return x.err
}

// Flush sends what has been written.
func (x *Exchange) Flush() error {
	if x.out != nil && x.err == nil && len(*x.out) > 0 {
		_ = x.send(*x.out)
		x.used = max(x.used, len(*x.out))
		*x.out = (*x.out)[:0]
	}
	return x.err
}

// WriteTrailers writes what follows a chunked body.
func (x *Exchange) WriteTrailers(trailers wire.Fields) { x.trailers = trailers }

// finish ends the response, and reports whether it was whole and the connection may be
// used again.
func (x *Exchange) finish() bool {
	if x.chunked {
		*x.out = append(*x.out, "0\r\n"...)
		for i := range x.trailers {
			*x.out = wire.AppendField(*x.out, x.trailers[i].Name, x.trailers[i].Value)
		}
		*x.out = append(*x.out, "\r\n"...)
	}
	short := !x.head && !x.bodiless && x.length >= 0 && x.written != x.length
	err := x.Flush()
	x.drop()
	return err == nil && x.status != 0 && !short && !x.closes
}

// drop gives the memory back, cleared: it was for one client's response.
func (x *Exchange) drop() {
	out := x.out
	x.out = nil
	if out == nil || cap(*out) > maxKept {
		return
	}
	clear((*out)[:max(x.used, len(*out))])
	*out = (*out)[:0]
	buffers.Put(out)
}
