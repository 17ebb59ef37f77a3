package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Bodies of all sizes and framings arrive as they were sent.
func TestBlackboxBodies(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := dial(t, w.data)
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 2, 100, 4095, 4096, 4097, 32 << 10, 32<<10 + 1, 300_000} {
		body := make([]byte, size)
		_, _ = random.Read(body)
		for _, chunked := range []bool{false, true} {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "GET"} {
				raw := request(method+" /fhir/Patient", good, fmt.Sprintf("Content-Length: %d", size)) + string(body)
				if chunked {
					raw = request(method+" /fhir/Patient", good, "Transfer-Encoding: chunked")
					for rest := body; len(rest) > 0; {
						n := min(len(rest), 1+random2(random, 40_000))
						raw += fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n])
						rest = rest[n:]
					}
					raw += "0\r\n\r\n"
				}
				a, err := c.do(raw)
				if err != nil || a.status != 200 {
					t.Fatalf("%s %d chunked %v: got %v (%v), want 200", method, size, chunked, a, err)
				}
				if chunked { // the connection ends, as a length may have stood beside the chunks
					_ = c.Close()
					c = dial(t, w.data)
				}
				if r := w.up.last(t); r.size != int64(size) || r.sum != sha256.Sum256(body) {
					t.Errorf("%s %d chunked %v: FHIR server got %d bytes, want those that were sent", method, size, chunked, r.size)
				}
			}
		}
	}
}

func random2(r *rand.ChaCha8, n uint64) int { return int(r.Uint64() % n) }

// I14: what the FHIR server answers is what the client gets, byte for byte.
func TestBlackboxResponses(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(bytes.Repeat([]byte(`{"a":"b"}`), 1000))
	_ = z.Close()
	gz := zipped.String()
	for i, c := range []struct{ method, response, body string }{
		{"GET", "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nETag: W/\"3\"\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}", "{}"},
		{"GET", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: \"x-gzip\"\r\nContent-Length: %d\r\n\r\n%s", len(gz), gz), gz},
		{"GET", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(gz), gz), gz},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: W/\"3\"\r\n\r\n", ""},
		{"GET", "HTTP/1.1 304 Not Modified\r\nETag: W/\"3\"\r\n\r\n", ""},
		{"DELETE", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"POST", "HTTP/1.1 201 Created\r\nLocation: http://fhir.test/fhir/Patient/1/_history/1\r\nContent-Length: 0\r\n\r\n", ""},
		{"POST", "HTTP/1.1 202 Accepted\r\nContent-Location: http://x/y\r\nX-Progress: in-progress\r\nContent-Length: 0\r\n\r\n", ""},
		{"GET", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"upstream\", error=\"invalid_token\"\r\nContent-Length: 2\r\n\r\nno", "no"},
		{"GET", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "no"},
		{"GET", "HTTP/1.1 301 Moved Permanently\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n", ""},
		{"GET", "HTTP/1.1 500 Internal Server Error\r\nX-Powered-By: HAPI\r\nContent-Length: 3\r\n\r\nerr", "err"},
		{"GET", "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n", ""},
		{"GET", "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n", ""},
		{"GET", "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://a.example\r\nContent-Length: 0\r\nX-Request-Id: upstreams-own\r\nCache-Control: private\r\n\r\n", ""},
		{"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", "until the end"},
		{"GET", "HTTP/1.0 200 OK\r\n\r\nold", "old"},
	} {
		path := fmt.Sprintf("/fhir/r%d", i)
		w.up.bytesOn(path, c.response, !strings.Contains(c.response, "close") && !strings.Contains(c.response, "HTTP/1.0"))
		a := w.ask(t, c.method+" "+path, good, "Accept-Encoding: gzip", "Origin: https://app.example")
		if a.body != c.body {
			t.Errorf("%d: body %.60q, want %.60q", i, a.body, c.body)
		}
		head, _, _ := strings.Cut(c.response, "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		if !strings.Contains(lines[0], fmt.Sprintf(" %d ", a.status)) {
			t.Errorf("%d: status %d, want %q", i, a.status, lines[0])
		}
		sent := http.Header{"Date": a.header["Date"], "Connection": a.header["Connection"]}
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ": ")
			if name != "Transfer-Encoding" && name != "Connection" {
				sent.Add(name, value)
			}
		}
		for name := range sent {
			if got := a.header[name]; fmt.Sprint(got) != fmt.Sprint(sent[name]) {
				t.Errorf("%d: %s %q, want %q", i, name, got, sent[name])
			}
		}
		for name := range a.header {
			if sent[name] == nil && name != "Content-Type" && name != "Content-Length" && name != "X-Request-Id" {
				t.Errorf("%d: client got %s: %q, want only what was sent", i, name, a.header[name])
			}
		}
	}
	// I04: the FHIR server's own 401 says nothing about our verdict.
	if n := w.as.Introspections(); n != 1 {
		t.Errorf("got %d introspections, want 1", n)
	}
}

// I05: a large upload streams: the FHIR server sees the first bytes before the
// last ones were sent, and memory stays flat.
func TestBlackboxUpload(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	begun := make(chan struct{})
	w.up.on("/fhir/Binary", func(c *upstreamConn, r *arrival) bool {
		if _, err := c.Reader.Peek(1000); err == nil {
			close(begun)
		}
		return echo(c, r)
	})
	const size = 64 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	sum := sha256.New()
	for range size / len(block) {
		sum.Write(block)
	}
	w.ask(t, "GET /fhir/Patient", good)
	before := w.residentKiB(t, "VmRSS")
	c := dial(t, w.data)
	_, _ = io.WriteString(c, request("POST /fhir/Binary", good, fmt.Sprintf("Content-Length: %d", size)))
	_, _ = c.Write(block)
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("FHIR server sees nothing while the client sends, want the first bytes")
	}
	for range size/len(block) - 1 {
		if _, err := c.Write(block); err != nil {
			t.Fatalf("c.Write: got error %v, want none", err)
		}
	}
	a, err := c.answer("POST")
	if err != nil || a.status != 200 {
		t.Fatalf("got %v (%v), want 200", a, err)
	}
	if r := w.up.last(t); r.size != size || hex.EncodeToString(r.sum[:]) != hex.EncodeToString(sum.Sum(nil)) {
		t.Errorf("%d bytes arrived, want the %d that were sent", r.size, size)
	}
	if grown := w.residentKiB(t, "VmHWM") - before; grown > 32<<10 {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 32<<10)
	}
}

// I06: a download that the client doesn't read is not read from the FHIR server.
func TestBlackboxDownload(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const size = 256 << 20
	var sent atomic.Int64
	w.up.on("/fhir/Binary", func(c *upstreamConn, r *arrival) bool {
		_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		block := make([]byte, 64<<10)
		for range size / len(block) {
			n, err := c.Conn.Write(block)
			if sent.Add(int64(n)); err != nil {
				return false
			}
		}
		return true
	})
	w.ask(t, "GET /fhir/Patient", good)
	before := w.residentKiB(t, "VmRSS")
	c := dial(t, w.data)
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	_, _ = io.WriteString(c, request("GET /fhir/Binary", good))
	if _, err := c.ReadString('\n'); err != nil {
		t.Fatalf("c.ReadString: got error %v, want none", err)
	}
	// It comes to rest, long before the end.
	var last int64
	eventually(t, "the download comes to rest", func() bool {
		now := sent.Load()
		time.Sleep(100 * time.Millisecond)
		rest := now == last && now > 0
		last = now
		return rest
	})
	if last > size/2 {
		t.Errorf("%d MiB went out to a client that doesn't read, want at most %d", last>>20, size>>21)
	}
	if grown := w.residentKiB(t, "VmHWM") - before; grown > 32<<10 {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 32<<10)
	}
	// I07: it leaves, and the FHIR server learns of it.
	_ = c.Close()
	eventually(t, "the FHIR server's connection breaks", func() bool {
		w.up.mu.Lock()
		defer w.up.mu.Unlock()
		return len(w.up.conns) <= 1
	})
}

// I12: each event arrives when it is sent.
func TestBlackboxEvents(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	next := make(chan struct{})
	events := func(head string, wrap func(string) string) responder {
		return func(c *upstreamConn, r *arrival) bool {
			_, _ = io.WriteString(c.Conn, head)
			for i := range 5 {
				<-next
				if _, err := io.WriteString(c.Conn, wrap(fmt.Sprintf("data: %d\n\n", i))); err != nil {
					return false
				}
			}
			_, _ = io.WriteString(c.Conn, wrap(""))
			return false
		}
	}
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	w.up.on("/fhir/chunked", events("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", chunk))
	w.up.on("/fhir/ndjson", events("HTTP/1.1 200 OK\r\nContent-Type: application/fhir+ndjson\r\nTransfer-Encoding: chunked\r\n\r\n", chunk))
	w.up.on("/fhir/length", events("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 45\r\n\r\n", func(s string) string { return s }))
	w.up.on("/fhir/close", events("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", func(s string) string { return s }))
	for _, path := range []string{"chunked", "ndjson", "length", "close"} {
		c := dial(t, w.data)
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, request("GET /fhir/"+path, good, "Connection: close")); err != nil {
			t.Fatalf("io.WriteString: got error %v, want none", err)
		}
		if path == "length" {
			next <- struct{}{} // its head may come with the first event
		}
		res, err := http.ReadResponse(c.Reader, nil)
		if err != nil {
			t.Fatalf("%s: got error %v, want a response", path, err)
		}
		buffer := make([]byte, 9)
		for i := range 5 {
			if path != "length" || i > 0 {
				next <- struct{}{}
			}
			if _, err := io.ReadFull(res.Body, buffer); err != nil || string(buffer) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("%s: got %q (%v), want event %d", path, buffer, err, i)
			}
		}
		_ = res.Body.Close()
	}
}

// I07: who leaves cancels the request; nothing is sent twice.
func TestBlackboxClientLeaves(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	gone := make(chan struct{}, 10)
	w.up.on("/fhir/wait", func(c *upstreamConn, r *arrival) bool {
		c.readBody(r)
		_, _ = c.Reader.ReadByte() // until the sidecar hangs up
		gone <- struct{}{}
		return false
	})
	for _, raw := range []string{
		request("GET /fhir/wait", good), request("POST /fhir/wait", good, "Content-Length: 3") + "abc",
		request("POST /fhir/wait", good, "Content-Length: 300000") + "abc",
	} {
		before := w.up.count()
		c := dial(t, w.data)
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatalf("io.WriteString: got error %v, want none", err)
		}
		eventually(t, "the request arrives", func() bool { return w.up.count() > before })
		_ = c.Conn.(*net.TCPConn).SetLinger(0) // a reset; one that only says that it won't send more has longer
		_ = c.Close()
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Fatalf("request %.20q goes on, want its end with the client", raw)
		}
		if n := w.up.count() - before; n != 1 {
			t.Errorf("sent %d times, want once", n)
		}
	}
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="upstream_error"`); n != 0 {
		t.Errorf("got %v leaving clients counted as the FHIR server's faults, want none", n)
	}
}

// I02: a FHIR server that breaks: each request is sent once, whatever its method
// allows, unless it is safe.
func TestBlackboxUpstreamBreaks(t *testing.T) {
	t.Parallel()
	w := start(t, env{"UPSTREAM_HEADER_TIMEOUT": "1s"})
	w.up.on("/fhir/reset", func(c *upstreamConn, r *arrival) bool {
		c.readBody(r)
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return false
	})
	w.up.on("/fhir/slow", func(c *upstreamConn, r *arrival) bool {
		c.readBody(r)
		_, _ = c.Reader.ReadByte()
		return false
	})
	w.up.bytesOn("/fhir/short", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", false)
	w.up.bytesOn("/fhir/shortchunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", false)
	for _, head := range []string{"X-A: b", "Idempotency-Key: k", "X-Idempotency-Key: k"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			w.ask(t, "POST /fhir/Patient", good).is(t, 200) // there is an idle connection to break
			before := w.up.count()
			w.send(t, request(method+" /fhir/reset", good, head, "Content-Length: 3")+"abc").refused(t, 502, "transient", "")
			if n := w.up.count() - before; n != 1 {
				t.Errorf("%s with %s: sent %d times, want once", method, head, n)
			}
			w.ask(t, "POST /fhir/Patient", good).is(t, 200)
			before = w.up.count()
			w.ask(t, method+" /fhir/reset", good, head).refused(t, 502, "transient", "")
			if n := w.up.count() - before; n != 1 {
				t.Errorf("%s with %s without body: sent %d times, want once", method, head, n)
			}
		}
	}
	w.ask(t, "GET /fhir/slow", good).refused(t, 504, "timeout", "")
	w.send(t, request("POST /fhir/slow", good, "Content-Length: 3")+"abc").refused(t, 504, "timeout", "")
	for _, path := range []string{"short", "shortchunk"} {
		c := dial(t, w.data)
		if a, err := c.do(request("GET /fhir/"+path, good)); err == nil {
			t.Errorf("%s: got %v for a response that was cut off, want an error", path, a)
		}
	}
	w.up.close()
	w.ask(t, "GET /fhir/Patient", good).refused(t, 502, "transient", "")
	w.ask(t, "GET /fhir/metadata").refused(t, 502, "transient", "")
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="upstream_error"`, `code="5xx"`); n < 20 {
		t.Errorf("got %v upstream errors counted, want at least 20", n)
	}
}

// I09: after an early answer the client's connection is clean or closed.
func TestBlackboxEarlyAnswerConnection(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.up.on("/fhir/early", func(c *upstreamConn, _ *arrival) bool {
		_, err := io.WriteString(c.Conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		return err == nil
	})
	size := fmt.Sprintf("%x\r\n", len(smuggled))
	for _, c := range []struct{ framing, first, rest string }{
		{fmt.Sprintf("Content-Length: %d", len(smuggled)), "", smuggled},
		{fmt.Sprintf("Content-Length: %d", len(smuggled)+1), "x", smuggled},
		{"Content-Length: 400000", "", smuggled},
		{"Transfer-Encoding: chunked", "", size + smuggled + "\r\n0\r\n\r\n"},
		{"Transfer-Encoding: chunked", size, smuggled + "\r\n0\r\n\r\n"},
	} {
		for range 10 { // it is a race
			conn := dial(t, w.data)
			a, err := conn.do(request("POST /fhir/early", good, c.framing) + c.first)
			if err != nil || a.status != 413 {
				t.Fatalf("got %v (%v), want 413", a, err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience / 3))
			_, _ = io.WriteString(conn, c.rest+request("GET /fhir/mine", good))
			a, err = conn.answer("GET")
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the next request got nothing, want a response or a closed connection", c.framing)
				break
			}
			if err == nil && (a.status != 200 || a.body != `{"line":"GET /fhir/mine"}`) {
				t.Errorf("%s: got %d %s for the next request, want its own response", c.framing, a.status, a.body)
				break
			}
			_ = conn.Close()
		}
		w.victim(t, "early")
	}
}
