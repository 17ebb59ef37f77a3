package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// framings tell where a body ends, or seem to.
var framings = []string{
	"Content-Length: %d", "Content-Length: %d", "Content-Length: %d", "content-length:%d", "Content-Length:  %d ", "Content-Length: 0%d", "Content-Length: +%d",
	"Content-Length: %d, %[1]d", "Content-Length: %d\r\nContent-Length: %[1]d", "Content-Length: %d\r\nContent-Length: 0", "Content-Length : %d", "Content-Length\t: %d",
	"Content-Length: %d\r\n 0", "Content_Length: %d", "X-A: b\r\n Content-Length: %d", "Content-Length: %d\r\nTransfer-Encoding: chunked", "Content-Length: %x",
	"Transfer-Encoding: chunked\r\nContent-Length: %d", "Content-Length: \x0b%d", "Content-Length: %d;x", "Content-Length: %d\x00", "Content-Length: 9223372036854775808%d",
}

var chunkedFramings = []string{
	"Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "transfer-encoding: Chunked", "Transfer-Encoding:chunked ",
	"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity, chunked", "Transfer-Encoding: xchunked",
	"Transfer-Encoding : chunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: chunked\r\n x", "Transfer_Encoding: chunked",
	"Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
	"Transfer-Encoding: chunked\r\nTrailer: X-A", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;x=y", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
}

// chunkLines stand between the data of chunks, or can't.
var chunkLines = []string{
	"%x\r\n", "%x\r\n", "%x\r\n", "%X\r\n", "0%x\r\n", "%x;a=b\r\n", "%x ;a\r\n", "%x \r\n", "%x\t\r\n", "%x;\"\r\n\"\r\n", "%x\n", "%x\r\r\n", "%x;a\n\r\n", "0x%x\r\n", "+%x\r\n", "-%x\r\n",
	" %x\r\n", "%x;\x00\r\n", "%x;\r\n", "1000000000000000%x\r\n", "%x\r\n\r\n", "%x;a\rb\r\n", "\r\n%x\r\n", "000000000000000%x\r\n",
}

var chunkEnds = []string{"\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "", "x\r\n", "\r\n\r\n"}

var lastChunks = []string{
	"0\r\n\r\n", "0\r\n\r\n", "0\r\n\r\n", "00\r\n\r\n", "0;a\r\n\r\n", "0\r\nX-Launch-Patient: 1\r\n\r\n", "0\r\nContent-Length: 5\r\nHost: x\r\n\r\n", "0\n\n", "0\r\n\n", "0\r\nX: y\n\r\n", "0\r\nX: y\r\r\n\r\n",
	"0\r\n X: y\r\n\r\n", "0\r\nno colon\r\n\r\n", "\r\n", "", "0\r\nX: \x00\r\n\r\n", "0\r\nX : y\r\n\r\n",
}

// framedRequest makes up a request whose body has an end, or two.
func (c chance) framedRequest(id string) string {
	odd := func(from []string) string {
		if c.IntN(3) > 0 {
			return from[0]
		}
		return pick(c, from)
	}
	body := pick(c, []string{"", "hello", smuggled, "0\r\n\r\n" + smuggled, smuggled + smuggled, strings.Repeat("x", c.IntN(40_000)), "5\r\nhello\r\n0\r\n\r\n" + smuggled})
	head := odd(append([]string{"POST"}, bodyMethods...)) + " " + odd([]string{"/fhir/Patient/1", "http://a/fhir/Patient/2", "/fhir/metadata", "/fhir/a%2fb", "*", "/livez"}) + " " +
		odd([]string{"HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1"}) + "\r\nHost: fhir.test\r\n" + bearerTOK + "\r\nX-Request-Id: " + id + "\r\n"
	for range c.IntN(3) {
		head += odd(append([]string{"X-A: 1"}, append(oddFields, "Expect: 100-continue", "expect: 100-Continue")...)) + "\r\n"
	}
	if c.IntN(2) == 0 {
		f := odd(framings)
		if strings.Contains(f, "%") {
			f = fmt.Sprintf(f, len(body))
		}
		return head + f + "\r\n\r\n" + body
	}
	var b strings.Builder
	b.WriteString(head + odd(chunkedFramings) + "\r\n\r\n")
	for rest := body; rest != ""; {
		n := 1 + c.IntN(len(rest))
		fmt.Fprintf(&b, odd(chunkLines), n)
		b.WriteString(rest[:n] + odd(chunkEnds))
		rest = rest[n:]
	}
	return b.String() + odd(lastChunks)
}

// asRead is what net/http reads in raw, one request after the other.
func asRead(raw string) (all []string) {
	r := bufio.NewReader(strings.NewReader(raw))
	for {
		request, err := http.ReadRequest(r)
		if err != nil {
			return all
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return all
		}
		t := parseTarget(request.RequestURI)
		target := t.path
		if t.hasQuery {
			target += "?" + t.query
		}
		all = append(all, fmt.Sprintf("%s %s %q", request.Method, target, body))
		if request.Method == http.MethodPost { // as http.Server
			next, _ := r.Peek(4)
			for len(next) > 0 && (next[0] == '\r' || next[0] == '\n') {
				_, _ = r.Discard(1)
				next = next[1:]
			}
		}
	}
}

// send sends raw in parts, and says that no more will come.
func (c chance) send(conn net.Conn, raw string) {
	for raw != "" {
		n := len(raw)
		if c.IntN(2) == 0 {
			n = 1 + c.IntN(min(len(raw), 1+c.IntN(2000)))
		}
		if _, err := io.WriteString(conn, raw[:n]); err != nil {
			return
		}
		if raw = raw[n:]; c.IntN(8) == 0 {
			time.Sleep(time.Duration(c.IntN(3)) * time.Millisecond)
		}
	}
	_ = conn.(*net.TCPConn).CloseWrite()
}

// wired makes a stack with all that the program has before http.Server.
func wired(fast bool) func(net.Listener, *http.Server) net.Listener {
	return func(l net.Listener, s *http.Server) net.Listener {
		served, _ := s.Handler.(*observed)
		p, _ := served.Handler.(*Proxy)
		config := wire.Config{}
		if fast {
			f := fastpath.New(fastpath.Config{
				Handler:       func(ctx context.Context, r *wire.Request, x *fastpath.Exchange) { p.Serve(ctx, r, x) },
				HeaderTimeout: s.ReadHeaderTimeout, IdleTimeout: s.IdleTimeout, ErrorLog: s.ErrorLog,
			})
			s.RegisterOnShutdown(f.Close)
			config.Serve = f.Serve
		}
		return wire.New(l, s, config)
	}
}

// sentTo sends what was made up and returns the requests that the FHIR server got, and the
// statuses that the client did.
func (c chance) sentTo(s *stack, raw string) (got []string, statuses string) {
	s.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	var sending sync.WaitGroup
	sending.Go(func() { c.send(conn, raw) })
	client, err := io.ReadAll(conn)
	if isTimeout(err) {
		s.Errorf("connection stays open after %q", raw)
	}
	_ = conn.Close()
	sending.Wait()
	for len(s.upstream.requests) > 0 {
		r := <-s.upstream.requests
		got = append(got, fmt.Sprintf("%s %q", strings.TrimSuffix(r.line, " HTTP/1.1"), r.body))
	}
	return got, strings.Join(statusLine.FindAllString(string(client), -1), "|")
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 \d\d\d`)

// isWithin reports whether all of part stands in whole, in its order.
func isWithin(part, whole []string) bool {
	for _, one := range part {
		at := slices.Index(whole, one)
		if at < 0 {
			return false
		}
		whole = whole[at+1:]
	}
	return true
}

// TestPropertyFraming: whatever a client sends, and in whatever parts, the FHIR server gets
// no request that net/http doesn't read there, none with another body, and all in their
// order. But for chunked bodies, after which net/http's connection ends, the fast path
// makes no difference.
func TestPropertyFraming(t *testing.T) {
	quiet := func(config *Config) { config.Logger = slog.New(slog.DiscardHandler) }
	with, without := newStackBehind(t, wired(true), quiet), newStackBehind(t, wired(false), quiet)
	with.discardDone()
	without.discardDone()
	c, reached := newChance(8), 0
	for range inputs(t, 300) {
		var b strings.Builder
		for i := range 1 + c.IntN(3) {
			b.WriteString(c.framedRequest(fmt.Sprint("r", i)))
		}
		raw := c.damaged(b.String()) + lastRequest
		want := asRead(raw)
		got, statuses := c.sentTo(with, raw)
		reached += len(got)
		if !isWithin(got, want) {
			t.Fatalf("%q:\ngot  %.500q\nwant %.500q, or the beginning of it", raw, got, want)
		}
		if strings.Contains(strings.ToLower(raw), "chunked") {
			continue
		}
		// What says that it won't send more may be too early for some responses.
		for try := 1; ; try++ {
			want, wanted := c.sentTo(without, raw)
			if slices.Equal(got, want) && statuses == wanted {
				break
			}
			if try == 5 {
				t.Fatalf("%q:\nwith    %.500q %s\nwithout %.500q %s", raw, got, statuses, want, wanted)
			}
			got, statuses = c.sentTo(with, raw)
		}
	}
	if reached == 0 {
		t.Error("got no request at the FHIR server, want some")
	}
}
