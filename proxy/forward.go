package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// forwarder sends requests to the FHIR server and its responses back.
type forwarder struct {
	host               string // of the FHIR server
	transport          *upstream.Transport
	namespace          namespace
	context            *contextHeaders
	hop                hop
	tracer             tracer
	stripAuthorization bool
	stallTimeout       time.Duration // of reading a request's body; 0: none
	cors               *cors         // nil: the FHIR server's headers stay
	buffers            sync.Pool     // of *buffer
}

// buffer is room for the head of a request, and for what is read of its response before
// it is written.
type buffer struct {
	bytes [32 << 10]byte
	used  int
}

// use notes that so many bytes were written.
func (b *buffer) use(n int) { b.used = max(b.used, min(n, len(b.bytes))) }

// put makes the buffer another request's. The pool must not keep tokens and data.
func (b *buffer) put(pool *sync.Pool) {
	clear(b.bytes[:b.used])
	b.used = 0
	pool.Put(b)
}

var (
	errSwitch = errors.New("FHIR server switched protocols")
	errBroken = errors.New("FHIR server broke off its response")
	errStatus = errors.New("FHIR server sent an invalid status")
)

// forward sends a request upstream and passes the response on. It returns what to refuse
// the request with when there was none.
func (f *forwarder) forward(x *exchange) (failed *decision) {
	b, ok := f.buffers.Get().(*buffer)
	if !ok {
		b = new(buffer)
	}
	b.used = len(b.bytes) // until it is known better
	defer b.put(&f.buffers)
	out := wire.Builder{Bytes: b.bytes[:0]}
	f.writeHead(&out, x)
	r := upstream.Request{Method: x.method, Length: x.length, Waits: x.waits, Last: leavesBody(x.method, x.length)}
	if x.length != 0 {
		f.addBody(x, &r, &out)
		defer x.body.leave()
		if !x.streams {
			defer x.body.stop()
		}
	}
	r.Bytes = out.Bytes
	b.used = min(len(out.Bytes), len(b.bytes))
	err, res := out.Err, &x.response
	if err == nil {
		err = f.transport.Send(x.ctx, &r, res)
	}
	if err == nil {
		if err = acceptable(res); err != nil {
			res.Close()
		}
	}
	if err != nil {
		x.failure = err
		return noResponse(x, err)
	}
	f.passOn(x, res, b)
	return nil
}

// addBody adds the body to the request: all of it if it has come, or else as it comes,
// while the response may come already. The FHIR server may answer before it has read
// everything.
func (f *forwarder) addBody(x *exchange, r *upstream.Request, out *wire.Builder) {
	var whole bool
	if out.Bytes, whole = x.remote.StartBody(out.Bytes); whole {
		x.body.ended.Store(true)
		return
	}
	r.Body = &x.body
	x.body.endStalls(f.stallTimeout)
	if !x.streams {
		x.unreadBody = &x.body
	}
}

// writeHead makes of a client's request the one for the FHIR server.
func (f *forwarder) writeHead(out *wire.Builder, x *exchange) {
	host := x.host
	if host == "" { // HTTP/1.0 has none
		host = f.host
	}
	if x.target.hasQuery {
		out.Request(x.method, host, x.target.path, x.target.query)
	} else {
		out.Request(x.method, host, x.target.path)
	}
	nominated := x.fields.Nominated()
	from := newForwarded(&x.request)
	for i := range x.fields {
		field := &x.fields[i]
		if !nominated.Has(field.Name) && f.passes(x, field) && !from.replaces(field) || isForwarding(field.Name) && !from.replaces(field) {
			out.Field(field.Name, field.Value)
		}
	}
	f.writeOwn(out, x, &from)
	switch {
	case x.length > 0:
		out.Field("Content-Length", strconv.FormatInt(x.length, 10))
	case x.length < 0:
		out.Field("Transfer-Encoding", "chunked")
	case expectsBody(x.method):
		out.Field("Content-Length", "0") // RFC 9110 §8.6
	}
	if leavesBody(x.method, x.length) {
		out.Field("Connection", "close")
	}
	out.End()
}

// passes reports whether a field goes on to the FHIR server as it came. Those that
// writeOwn writes don't.
func (f *forwarder) passes(x *exchange, field *wire.Field) bool {
	switch field.Name[0] | 0x20 {
	case 'a':
		return !field.Is("authorization")
	case 'c':
		if field.Is("cookie") {
			return x.authorized // nobody knows whose it is
		}
		return !field.Is("connection") && !field.Is("cdn-loop") && !field.Is("content-length")
	case 'e':
		// Without a body there is none to wait with (RFC 9110 §10.1.1).
		return x.length != 0 || !field.Is("expect")
	case 'h':
		return !field.Is("host")
	case 't':
		return !wire.IsHop(field.Name) && !f.tracer.replaces(field)
	case 'u':
		return !field.Is("upgrade") && (field.Value != "" || !field.Is("user-agent"))
	case 'x':
		return !field.Is("x-request-id")
	}
	return !wire.IsHop(field.Name)
}

// writeOwn writes what this proxy says to the FHIR server. It is the only place for
// that, and nothing that a client nominates in Connection keeps it away (RFC 9110
// §7.6.1).
func (f *forwarder) writeOwn(out *wire.Builder, x *exchange, from *forwarded) {
	if offersTrailers(x.fields) {
		out.Field("Te", "trailers")
	}
	from.write(out)
	out.Field("X-Request-Id", x.requestID)
	out.Field(hopHeader, f.hop.after(x.hops))
	f.tracer.inject(x.ctx, out)
	if !x.authorized {
		return
	}
	if !f.stripAuthorization {
		out.Field("Authorization", first(x.authorization))
	}
	f.context.set(x.verdict.Response, out.Field)
}

// acceptable returns an error for a response that can't be passed on. What follows
// a switch of protocols would be unchecked.
func acceptable(res *upstream.Response) error {
	switch {
	case res.Status == http.StatusSwitchingProtocols:
		return errSwitch
	case res.Status < http.StatusOK:
		return errStatus
	}
	return nil
}

// noResponse says what a client gets when the FHIR server didn't answer.
func noResponse(x *exchange, err error) *decision {
	var timeout net.Error
	switch {
	case x.body.stalled.Load():
		return clientStalled
	case x.ctx.Err() != nil:
		return clientClosed
	case x.body.failed.Load():
		return refuseBody
	case errors.As(err, &timeout) && timeout.Timeout():
		return refuseTimeout
	default:
		return refuseUpstream
	}
}

// passOn writes the FHIR server's response to the client, without the names of the
// namespace.
func (f *forwarder) passOn(x *exchange, res *upstream.Response, b *buffer) {
	nominated := res.Fields.Nominated()
	if x.method == http.MethodPost || x.method == http.MethodPut {
		x.location = res.Fields.Get("location")
	}
	x.head.Fields = res.Fields
	x.head.Fields.Delete(func(field *wire.Field) bool {
		return wire.IsHop(field.Name) || f.namespace.has(field.Name) || nominated.Has(field.Name)
	})
	if f.cors != nil {
		f.cors.replace(&x.head.Fields, x.origin)
	}
	if x.head.Told = res.Told; nominated.Has("content-length") {
		x.head.Told = -1
	}
	for _, name := range res.Trailers {
		if !f.namespace.mustNotTrail(name) {
			x.head.Trailers = append(x.head.Trailers, name)
		}
	}
	x.writeHead(res.Status)
	err := copyBody(x, res, b)
	res.Close()
	if err != nil {
		_ = x.flush()
		x.cut()
	}
	trailer := res.Trailer()
	trailer.Delete(func(field *wire.Field) bool { return f.namespace.mustNotTrail(field.Name) })
	if len(trailer) > 0 {
		x.remote.WriteTrailers(trailer)
	}
}

// copyBody copies the body of a response. What a slow server has sent must not wait for
// the rest: it is flushed before waiting.
func copyBody(x *exchange, res *upstream.Response, b *buffer) error {
	for !res.Ended() {
		n, err := res.Poll(b.bytes[:])
		if n == 0 && err == nil {
			if err := x.flush(); err != nil {
				return err
			}
			n, err = res.Read(b.bytes[:])
		}
		if b.use(n); n > 0 {
			if err := x.write(b.bytes[:n]); err != nil {
				return err
			}
		}
		if err != nil && err != io.EOF { //nolint:errorlint // io.Reader returns io.EOF itself
			return err
		}
	}
	return nil
}

// cut ends a response that has begun so that it doesn't look complete.
func (x *exchange) cut() {
	if x.body.stalled.Load() {
		x.decision = clientStalled
	} else if x.ctx.Err() == nil && !x.failed {
		x.decision, x.failure = refuseUpstream, errBroken
	}
	panic(http.ErrAbortHandler)
}

// offersTrailers reports whether TE says that trailers are passed on (RFC 9110
// §10.1.4), as they are here.
func offersTrailers(fields wire.Fields) bool {
	for i := range fields {
		if !fields[i].Is("te") {
			continue
		}
		for coding := range strings.SplitSeq(fields[i].Value, ",") {
			if strings.EqualFold(strings.Trim(coding, " \t"), "trailers") {
				return true
			}
		}
	}
	return false
}
