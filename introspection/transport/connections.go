package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleTimeout stays below the five seconds after which common servers close
	// an idle connection: a POST sent into a closing one fails, and must not be
	// sent again, because the server may have consumed the token.
	idleTimeout = 3 * time.Second

	// maxConnectionAge is how long a connection of HTTP/2 gets new requests. Under
	// steady load it would otherwise keep a server for ever that has moved.
	maxConnectionAge = 15 * time.Second
)

// connections are those that were made under one state of the files. Servers that
// choose HTTP/2 share them among requests: there each response names its stream.
// Others get one for each request (see exchange).
type connections struct {
	dialer *dialer

	mu        sync.Mutex
	multiplex map[string]bool // addresses whose servers chose HTTP/2
	streams   *http.Transport // nil: none yet
	born      time.Time       // of streams
}

func newConnections(d *dialer) *connections {
	return &connections{dialer: d, multiplex: make(map[string]bool)}
}

// roundTrip sends a request. Nothing is sent twice, except that net/http sends
// again what a server of HTTP/2 says it hasn't looked at: by REFUSED_STREAM, or
// GOAWAY with a lower last stream (RFC 9113 §8.7).
func (c *connections) roundTrip(req *http.Request) (*http.Response, error) {
	address, secure := addressOf(req.URL), req.URL.Scheme == "https"
	req = resendable(req)
	for {
		if secure && c.choseHTTP2(address) {
			res, err := c.current().RoundTrip(req)
			if !errors.Is(err, errHTTP1) {
				return res, err
			}
			c.note(address, false)
			if req, err = again(req); err != nil {
				return nil, err
			}
		}
		conn, err := c.dialer.dial(req.Context(), address, secure)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		if negotiatedHTTP2(conn) {
			c.note(address, true)
			_ = conn.Close()
			continue
		}
		res, err := send(conn, req)
		closeBody(req)
		return res, err
	}
}

// maxResends is how often a request may be sent again. Left alone, net/http does it
// hundreds of times before the deadline.
const maxResends = 2

// resendable bounds how often the body of a request can be had again.
func resendable(req *http.Request) *http.Request {
	if req.GetBody == nil {
		return req
	}
	var resends atomic.Int64
	getBody := req.GetBody
	req.GetBody = func() (io.ReadCloser, error) {
		if resends.Add(1) > maxResends {
			return nil, errRefused
		}
		return getBody()
	}
	return req
}

// errRefused says that a server of HTTP/2 refused to look at a request.
const errRefused = SafeText("the server refused the request without a response")

// addressOf returns host and port of a URL.
func addressOf(u *url.URL) string { return net.JoinHostPort(u.Hostname(), PortOf(u)) }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// again returns the request as it was before a transport closed its body unread.
func again(req *http.Request) (*http.Request, error) {
	if req.GetBody == nil {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Body = body
	return req, nil
}

func negotiatedHTTP2(conn net.Conn) bool {
	secured, ok := conn.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

func (c *connections) choseHTTP2(address string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.multiplex[address]
}

func (c *connections) note(address string, multiplex bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.multiplex) >= maxHosts {
		clear(c.multiplex)
	}
	c.multiplex[address] = multiplex
}

// current returns the transport for HTTP/2. One that has served for long gets no
// more requests; its connections close after those that they have.
func (c *connections) current() *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams != nil && time.Since(c.born) < maxConnectionAge {
		return c.streams
	}
	if c.streams != nil {
		c.streams.CloseIdleConnections()
	}
	c.streams, c.born = c.newStreams(), time.Now()
	return c.streams
}

func (c *connections) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams != nil {
		c.streams.CloseIdleConnections()
	}
}

// errHTTP1 says that a server chose HTTP/2 once and doesn't any more. Nothing was
// sent to it.
const errHTTP1 = SafeText("server doesn't choose HTTP/2 any more")

func (c *connections) newStreams() *http.Transport {
	timeout := c.dialer.timeout
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy: nil, // the environment must not choose who sees the tokens
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := c.dialer.dial(ctx, address, true)
			if err == nil && !negotiatedHTTP2(conn) {
				hangUp(conn)
				return nil, errHTTP1
			}
			return conn, err
		},
		ResponseHeaderTimeout:  timeout,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              &protocols,
		// A silent connection is given up, else every call would be sent into it and
		// time out, long after the server is back.
		HTTP2: &http.HTTP2Config{SendPingTimeout: timeout, PingTimeout: timeout, WriteByteTimeout: timeout},
	}
}
