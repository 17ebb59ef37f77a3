package fastpath_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// This file lets a handler of net/http serve the exchanges of the fast path, so that
// what it sees and what becomes of its responses can be compared with http.Server.

// adapted returns a handler as one of the fast path.
func adapted(handler http.Handler) fastpath.Handler {
	return func(ctx context.Context, in *wire.Request, x *fastpath.Exchange) {
		r := (&http.Request{
			Method: in.Method, RequestURI: in.Target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
			Host: in.Host, ContentLength: in.Length, RemoteAddr: in.Peer, Body: http.NoBody,
		}).WithContext(ctx)
		r.URL, _ = url.ParseRequestURI(in.Target)
		for _, f := range in.Fields {
			r.Header.Add(f.Name, f.Value)
		}
		r.Close = slices.ContainsFunc(strings.Split(r.Header.Get("Connection"), ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "close") })
		switch {
		case in.Length < 0:
			r.TransferEncoding = []string{"chunked"}
		case in.Length > 0:
			r.Header.Set("Content-Length", strconv.FormatInt(in.Length, 10))
		case in.Length == 0 && slices.Contains([]string{"POST", "PUT", "PATCH"}, in.Method):
			r.Header.Set("Content-Length", "0")
		}
		if in.Length != 0 {
			r.Body = &adaptedBody{x: x, short: in.Length >= 0 && in.Length < 256<<10}
		}
		if in.Secure {
			r.TLS = &tls.ConnectionState{}
		}
		w := &adaptedWriter{x: x, header: http.Header{}, body: r.Body}
		handler.ServeHTTP(w, r)
		w.end()
	}
}

// adaptedBody begins to read when it is read.
type adaptedBody struct {
	x     *fastpath.Exchange
	short bool // enough for http.Server to hope for the rest
	begun bool
	whole []byte
	all   bool
	ended bool
}

func (b *adaptedBody) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.whole, b.all = b.x.StartBody(nil)
	}
	if !b.all {
		n, err := b.x.Read(p)
		b.ended = err == io.EOF //nolint:errorlint // io.Reader returns io.EOF itself
		return n, err
	}
	n := copy(p, b.whole)
	if b.whole = b.whole[n:]; len(b.whole) == 0 {
		b.ended = true
		return n, io.EOF
	}
	return n, nil
}

func (b *adaptedBody) Close() error { return nil }

// adaptedWriter writes a response in the way of net/http.
type adaptedWriter struct {
	x         *fastpath.Exchange
	header    http.Header
	begun     bool
	body      io.ReadCloser
	announced []string
}

func (w *adaptedWriter) Header() http.Header { return w.header }

func (w *adaptedWriter) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun = true
	h := wire.ResponseHead{Status: status, Told: -1, Keeps: w.header.Get("Connection") != "close"}
	if body, ok := w.body.(*adaptedBody); ok {
		h.Keeps = h.Keeps && (body.ended || body.short)
	}
	for name, values := range w.header {
		for _, value := range values {
			switch name {
			case "Content-Length":
				h.Told, _ = strconv.ParseInt(value, 10, 64)
			case "Trailer":
				for key := range strings.SplitSeq(value, ",") {
					w.announced = append(w.announced, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(key)))
				}
				h.Trailers = []string{value}
			case "Connection":
			default:
				if !strings.HasPrefix(name, http.TrailerPrefix) {
					h.Fields.Add(name, value)
				}
			}
		}
	}
	w.x.WriteHead(&h)
}

func (w *adaptedWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.x.Write(p)
}

func (w *adaptedWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return w.x.Flush()
}

// end writes the trailers.
func (w *adaptedWriter) end() {
	w.WriteHeader(http.StatusOK)
	var trailers wire.Fields
	for name, values := range w.header {
		rest, prefixed := strings.CutPrefix(name, http.TrailerPrefix)
		if !prefixed && !slices.Contains(w.announced, name) {
			continue
		}
		for _, value := range values {
			trailers.Add(rest, value)
		}
	}
	slices.SortFunc(trailers, func(a, b wire.Field) int { return strings.Compare(a.Name, b.Name) })
	w.x.WriteTrailers(trailers)
}

// passing is a listener whose connections a Server serves first.
type passing struct {
	net.Listener
	fast   *fastpath.Server
	rest   chan net.Conn
	closed chan struct{}
}

func pass(l net.Listener, fast *fastpath.Server) *passing {
	p := &passing{Listener: l, fast: fast, rest: make(chan net.Conn), closed: make(chan struct{})}
	go func() {
		defer close(p.closed)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *passing) serve(c net.Conn) {
	if c = p.fast.Serve(c); c == nil {
		return
	}
	select {
	case p.rest <- c:
	case <-p.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (p *passing) Accept() (net.Conn, error) {
	select {
	case c := <-p.rest:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
