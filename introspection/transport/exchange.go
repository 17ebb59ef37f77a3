package transport

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
)

// exchange sends one request over a connection of HTTP/1.1 and reads its response.
// The connection is used for nothing else, before or after.
//
// A response of HTTP/1.1 doesn't say which request it belongs to; its place in the
// order of bytes does. A gateway that relays a late response puts it into that
// order twice, and nothing that the next request's sender could look at tells it
// from the response he waits for: when it arrives while that request is on its
// way, it comes after it was sent and before it was read. So there is no next
// request. A connection of its own costs a handshake and can't be wrong.
type exchange struct {
	conn net.Conn
	r    *bufio.Reader
	head []byte // of the responses so far, and what was read beyond them
	body bool   // whether the final response's head was read
}

// send returns the response, whose body ends the connection. When it fails, the
// connection is closed.
func send(conn net.Conn, req *http.Request) (*http.Response, error) {
	x := &exchange{conn: conn}
	x.r = bufio.NewReader(x)
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: conn})
	}
	stop := context.AfterFunc(req.Context(), func() { hangUp(conn) })
	res, err := x.do(req)
	if err != nil {
		stop()
		hangUp(conn)
		return nil, causeOf(req.Context(), err)
	}
	res.Body = &body{ReadCloser: res.Body, x: x, ctx: req.Context(), stop: stop}
	if secured, ok := conn.(*tls.Conn); ok {
		state := secured.ConnectionState()
		res.TLS = &state
	}
	decode(res)
	return res, nil
}

func (x *exchange) do(req *http.Request) (*http.Response, error) {
	if err := x.write(req); err != nil {
		return nil, err
	}
	for begin := 0; ; {
		res, err := http.ReadResponse(x.r, req)
		if err != nil {
			return nil, err
		}
		end := len(x.head) - x.r.Buffered()
		if !unambiguous(x.head[begin:end], isInformational(res.StatusCode)) {
			return nil, errAmbiguous
		}
		begin = end
		switch {
		case isInformational(res.StatusCode): // any number; their heads count against one bound
			continue
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitched
		}
		x.body = true
		return res, nil
	}
}

// write sends the request in one piece, unless something came before it.
func (x *exchange) write(req *http.Request) error {
	out := req.Clone(req.Context())
	out.Close = true // so that the server closes first, and keeps the port's waiting time
	if out.Header.Get("Accept-Encoding") == "" {
		out.Header.Set("Accept-Encoding", "gzip")
	}
	var buffer bytes.Buffer
	defer func() { clear(buffer.Bytes()) }() // it holds a token and a credential
	if err := out.Write(&buffer); err != nil {
		return err
	}
	if err := disturbance(x.conn); err != nil {
		return err
	}
	_, err := x.conn.Write(buffer.Bytes())
	return err
}

// Read implements io.Reader for the reader. It bounds heads and remembers them.
func (x *exchange) Read(p []byte) (int, error) {
	if x.body {
		return x.conn.Read(p)
	}
	if len(x.head) >= maxHeaderBytes {
		return 0, errHead
	}
	n, err := x.conn.Read(p[:min(maxHeaderBytes-len(x.head), len(p))])
	x.head = append(x.head, p[:n]...)
	return n, err
}

// body ends the connection when it was read to its end or closed.
type body struct {
	io.ReadCloser
	x    *exchange
	ctx  context.Context //nolint:containedctx // the request's, as long as its body
	stop func() bool
	err  error // why nothing more comes
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF && b.x.r.Buffered() > 0 {
		err = errSurplus
	}
	b.end(causeOf(b.ctx, err))
	return n, b.err
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	return nil
}

func (b *body) end(err error) {
	b.err = err
	b.stop()
	hangUp(b.x.conn)
}

// causeOf prefers the end of ctx to what came of it.
func causeOf(ctx context.Context, err error) error {
	if err == io.EOF { //nolint:errorlint // not one that is wrapped
		return err // the body was whole
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// decode makes the body what it was before it was compressed, as http.Transport
// does.
func decode(res *http.Response) {
	if !strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		return
	}
	res.Header.Del("Content-Encoding")
	res.Header.Del("Content-Length")
	res.ContentLength, res.Uncompressed = -1, true
	res.Body = &unzipped{packed: res.Body}
}

// unzipped reads the head of the compressed body no sooner than it is asked to.
type unzipped struct {
	packed io.ReadCloser
	zip    *gzip.Reader
}

// Read implements io.Reader.
func (u *unzipped) Read(p []byte) (n int, err error) {
	if u.zip == nil {
		if u.zip, err = gzip.NewReader(u.packed); err != nil {
			u.zip = nil
			return 0, err
		}
	}
	return u.zip.Read(p)
}

// Close implements io.Closer.
func (u *unzipped) Close() error { return u.packed.Close() }
