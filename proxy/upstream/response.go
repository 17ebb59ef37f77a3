package upstream

import (
	"context"
	"io"
	"net/http"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// Response is a response whose head has been read. Its connection is given back when
// its body was read to the end. It is for one goroutine.
type Response struct {
	wire.ResponseHead
	// Trailer is what followed the body, once that has ended.
	Trailer wire.Fields

	c      *conn
	ctx    context.Context //nolint:containedctx // of the request
	stop   func() bool
	upload *upload // nil: the request has no body
	left   int64   // of the body, unless it is chunked or ends with the connection
	chunks wire.Chunks
	err    error          // why nothing more comes
	fields [16]wire.Field // room for those of an ordinary response
}

// begin makes the body readable, and ends a response that has none.
func (res *Response) begin() {
	if res.left = res.Length; res.left == 0 {
		res.end(io.EOF)
	}
}

// Ended reports whether all of the body was read.
func (res *Response) Ended() bool { return res.err == io.EOF } //nolint:errorlint // io.Reader returns io.EOF itself

// Read implements io.Reader. The last bytes of the body come with io.EOF.
func (res *Response) Read(p []byte) (int, error) { return res.read(p, true) }

// Poll reads what is there, and returns nothing if that can't be known without waiting.
func (res *Response) Poll(p []byte) (int, error) { return res.read(p, false) }

func (res *Response) read(p []byte, wait bool) (n int, err error) {
	if res.err != nil {
		return 0, res.err
	}
	switch res.Length {
	case wire.Chunked:
		n, err = res.readChunk(p, wait)
	case wire.UntilClose:
		n, err = res.c.in.Read(p, wait)
	default:
		n, err = res.c.in.Read(p[:min(int64(len(p)), res.left)], wait)
		if res.left -= int64(n); res.left == 0 {
			err = io.EOF
		} else {
			err = noEOF(err)
		}
	}
	if err != nil {
		res.end(err)
		err = res.err
	}
	return n, err
}

// readChunk reads some of the data of a chunked body, and its end if that has come too.
func (res *Response) readChunk(p []byte, wait bool) (n int, err error) {
	in := res.c.in
	if left := res.chunks.Left(0); left > 0 && in.Len() == 0 {
		n, err = in.Read(p[:min(int64(len(p)), left)], wait)
		res.chunks.Left(n)
	}
	for err == nil && !res.chunks.Ended {
		framing, data, broken := res.chunks.Next(in.Bytes(), len(p)-n)
		n += copy(p[n:], in.Bytes()[framing:framing+data])
		in.Take(framing + data)
		switch {
		case broken != nil:
			return n, broken
		case framing+data > 0:
		case n > 0:
			return n, nil
		case wait:
			err = in.Fill()
		default:
			var more bool
			if more, err = in.Poll(); !more {
				return 0, noEOF(err)
			}
		}
	}
	if res.chunks.Ended {
		res.Trailer = res.chunks.Trailers
		return n, io.EOF
	}
	return n, noEOF(err)
}

// noEOF makes an early end an error.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // io.Reader returns io.EOF itself
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close ends a response of which nobody wants more.
func (res *Response) Close() {
	if res.err == nil {
		res.end(http.ErrBodyReadAfterClose)
	}
}

// end decides what becomes of the connection. When stop comes too late, abort
// runs or will run, and would hit the next request.
func (res *Response) end(err error) {
	c := res.c
	res.err, res.c = err, nil // which is somebody else's from now on
	whole := res.Ended()
	surplus := c.in.Len() > 0
	if res.stop() && whole && res.Keeps && !surplus && res.upload.complete() {
		c.in.Drop()
		c.release(c)
		return
	}
	c.close()
	if !whole {
		res.err = causeOf(res.ctx, err)
	}
}
