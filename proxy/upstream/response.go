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

	c      *conn           // nil: it is somebody else's
	ctx    context.Context //nolint:containedctx // of the request
	stop   func() bool
	upload *upload // nil: the request has no body
	body   wire.Body
	err    error          // why nothing more comes
	fields [16]wire.Field // room for those of an ordinary response
}

// begin makes the body readable, and ends a response that has none.
func (res *Response) begin() {
	if res.body = wire.NewBody(res.c.in, res.Length); res.body.Ended() {
		res.end(io.EOF)
	}
}

// Ended reports whether all of the body was read.
func (res *Response) Ended() bool { return res.body.Ended() }

// Trailer is what followed a body that has ended.
func (res *Response) Trailer() wire.Fields { return res.body.Trailers() }

// Read implements io.Reader. The last bytes of the body come with io.EOF.
func (res *Response) Read(p []byte) (int, error) { return res.read(p, true) }

// Poll reads what is there, and returns nothing if that can't be known without waiting.
func (res *Response) Poll(p []byte) (int, error) { return res.read(p, false) }

func (res *Response) read(p []byte, wait bool) (n int, err error) {
	if res.err != nil {
		return 0, res.err
	}
	if n, err = res.body.Read(p, wait); err != nil {
		res.end(err)
	}
	return n, res.err
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
	res.err, res.c = err, nil
	whole := res.body.Ended()
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
