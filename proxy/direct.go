package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// directTransport sends GET and HEAD over plain HTTP in the goroutine of the
// request. http.Transport has two goroutines per connection, and handing each
// request and its answer from one to the other costs more than the rest of the
// proxy does. Everything else is left to it, and watched.
type directTransport struct {
	rest          *http.Transport
	dialContext   func(ctx context.Context, network, address string) (net.Conn, error)
	host          string // of the URLs that are sent directly, if any
	address       string // of that host
	headerTimeout time.Duration
	idleTimeout   time.Duration
	requests      sync.Pool // of *bytes.Buffer

	mu      sync.Mutex
	idle    []*directConn // the one used last is last
	sweeper *time.Timer   // runs while there are idle connections
}

// newDirectTransport returns a transport for requests to upstream that treats
// its connections as rest does.
func newDirectTransport(upstream *url.URL, rest *http.Transport) *directTransport {
	t := &directTransport{
		rest: rest, dialContext: rest.DialContext,
		headerTimeout: rest.ResponseHeaderTimeout, idleTimeout: rest.IdleConnTimeout,
	}
	watch(rest)
	if canProbe && upstream.Scheme == "http" && isASCII(upstream.Host) { // http.Transport knows Punycode
		port := upstream.Port()
		if port == "" {
			port = "80"
		}
		t.host, t.address = upstream.Host, net.JoinHostPort(upstream.Hostname(), port)
	}
	return t
}

func (t *directTransport) serves(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Body == nil && !r.Close &&
		r.URL.Scheme == "http" && r.URL.Host == t.host
}

// RoundTrip implements http.RoundTripper.
func (t *directTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.serves(r) {
		return t.roundTripWatched(r)
	}
	request, ok := t.requests.Get().(*bytes.Buffer)
	if !ok {
		request = new(bytes.Buffer)
	}
	request.Reset()
	defer func() {
		clear(request.Bytes()) // the pool must not keep tokens
		t.requests.Put(request)
	}()
	if err := writeRequest(request, r); err != nil {
		return nil, err
	}
	for c := t.takeIdle(); ; c = nil {
		reused := c != nil
		if !reused {
			var err error
			if c, err = t.dial(r.Context()); err != nil {
				return nil, causeOf(r.Context(), err)
			}
		}
		res, err := c.roundTrip(r, request.Bytes())
		if err == nil {
			return res, nil
		}
		_ = c.Close()
		// A server may close an unused connection at any time. If nothing was
		// answered, GET and HEAD are safe to send again (RFC 9110 §9.2.2); but a
		// server that is slow would only be asked twice.
		if !reused || len(c.head) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, causeOf(r.Context(), err)
		}
	}
}

// CloseIdleConnections closes the connections that nobody uses.
func (t *directTransport) CloseIdleConnections() {
	t.rest.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeOldest(len(t.idle))
}

// takeIdle returns the connection that was used last, or nil.
func (t *directTransport) takeIdle() *directConn {
	for {
		t.mu.Lock()
		last := len(t.idle) - 1
		if last < 0 {
			t.mu.Unlock()
			return nil
		}
		c := t.idle[last]
		t.idle[last] = nil
		t.idle = t.idle[:last]
		t.mu.Unlock()
		// A byte that nobody asked for would become the beginning of the next
		// client's answer (RFC 9112 §9.2).
		now := time.Now()
		if now.Sub(c.idleSince) < t.idleTimeout && c.limit(now) == nil && isQuiet(c.raw) {
			return c
		}
		_ = c.Close()
	}
}

// putIdle keeps a connection for the next request.
func (t *directTransport) putIdle(c *directConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.raw == nil || len(t.idle) >= t.rest.MaxIdleConns {
		_ = c.Close()
		return
	}
	if cap(c.head) > keptHead {
		c.head = nil
	}
	c.idleSince = time.Now()
	t.idle = append(t.idle, c)
	if t.sweeper == nil {
		t.sweeper = time.AfterFunc(t.idleTimeout, t.sweep)
	}
}

// sweep closes connections that have been idle for too long, so that none stays
// open because no more requests come.
func (t *directTransport) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.idle) && time.Since(t.idle[n].idleSince) >= t.idleTimeout {
		n++
	}
	t.closeOldest(n)
	t.sweeper = nil
	if len(t.idle) > 0 {
		t.sweeper = time.AfterFunc(t.idleTimeout-time.Since(t.idle[0].idleSince), t.sweep)
	}
}

func (t *directTransport) closeOldest(n int) {
	for _, c := range t.idle[:n] {
		_ = c.Close()
	}
	t.idle = slices.Delete(t.idle, 0, n)
}

// writeRequest writes the bytes that http.Transport would, but doesn't sort the
// fields, which costs more than writing them. What it has written when it fails
// must not be sent.
func writeRequest(w *bytes.Buffer, r *http.Request) error {
	target := r.URL.RequestURI()
	if !isPlainHost(r.Host) || strings.ContainsFunc(target, isControl) || len(r.Header["User-Agent"]) != 1 {
		for name, values := range r.Header {
			if err := checkField(name, values); err != nil {
				return err
			}
		}
		return r.Write(w) // which knows what to do
	}
	for _, s := range [...]string{r.Method, " ", target, " HTTP/1.1\r\nHost: ", r.Host, "\r\n"} {
		w.WriteString(s)
	}
	for name, values := range r.Header {
		if err := checkField(name, values); err != nil {
			return err
		}
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer": // say nothing about this request
			continue
		case "User-Agent":
			if values[0] == "" { // ReverseProxy's word for none
				continue
			}
		}
		for _, value := range values {
			b := append(append(w.AvailableBuffer(), name...), ": "...)
			w.Write(append(append(b, strings.Trim(value, " \t")...), "\r\n"...))
		}
	}
	w.WriteString("\r\n")
	return nil
}

// checkField returns an error for what http.Transport wouldn't send.
func checkField(name string, values []string) error {
	if !isToken(name) {
		return errors.New("invalid header name")
	}
	for _, value := range values {
		for i := range len(value) {
			if c := value[i]; isControl(rune(c)) && c != '\t' {
				// It would end the value, or is read differently by different servers
				// (RFC 9110 §5.5).
				return fmt.Errorf("invalid value of header %s", name)
			}
		}
	}
	return nil
}

// isToken reports whether name can name a field (RFC 9110 §5.6.2).
func isToken(name string) bool {
	for i := range len(name) {
		if !isTokenChar(name[i]) {
			return false
		}
	}
	return name != ""
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// isPlainHost reports whether a host needs neither Punycode nor brackets.
func isPlainHost(host string) bool {
	for i := range len(host) {
		if c := host[i]; !isAlphanumeric(c) && c != '.' && c != '-' && c != ':' {
			return false
		}
	}
	return host != ""
}
