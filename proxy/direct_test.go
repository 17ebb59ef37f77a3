package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// direct returns the transport of the proxy, or skips where there is none.
func (s *stack) direct() *directTransport {
	s.Helper()
	if !canProbe {
		s.Skip("http.Transport does everything here")
	}
	return s.proxy.reverse.Transport.(*directTransport)
}

func (t *directTransport) idleCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// outgoing makes a request as ReverseProxy would.
func (s *stack) outgoing(ctx context.Context, method, path string) *http.Request {
	s.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.upstream.Addr().String()+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header["User-Agent"] = []string{""}
	return r
}

// fetch sends a GET and reads the answer to its end.
func (s *stack) fetch(path string) (body string, err error) {
	s.Helper()
	return s.fetchAs(http.MethodGet, path)
}

func (s *stack) fetchAs(method, path string) (body string, err error) {
	s.Helper()
	res, err := s.direct().RoundTrip(s.outgoing(s.Context(), method, path))
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	return string(b), err
}

// eventually waits for what happens on another goroutine.
func (s *stack) eventually(what string, holds func() bool) {
	s.Helper()
	for end := time.Now().Add(deadline); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.Fatal("doesn't happen: " + what)
		}
	}
}

// sameConn reports whether two requests came over one connection.
func (s *stack) sameConn() bool {
	s.Helper()
	first, second := s.upstream.got(), s.upstream.got()
	return first.conn == second.conn
}

// left waits until the upstream is rid of n connections.
func (s *stack) left(n int) {
	s.Helper()
	for range n {
		select {
		case <-s.upstream.gone:
		case <-time.After(deadline):
			s.Fatal("connection to the FHIR server stays open")
		}
	}
}

// victimAnswer is for whoever asks for /victim, and nobody else.
const victimAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nvictim"

// rawAnswer is what a FHIR server may send.
type rawAnswer struct {
	name, raw string
	kept      bool // the connection may be used again
	ends      bool // the answer is over only when the connection is
	head      bool // to HEAD
}

func rawAnswers() []rawAnswer {
	const ok, poison = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	long := strings.Repeat("x", maxUpstreamHeader+1)
	return []rawAnswer{
		{name: "length", raw: ok + "Content-Length: 2\r\n\r\n{}", kept: true},
		{name: "empty", raw: ok + "Content-Length: 0\r\n\r\n", kept: true},
		{name: "long", raw: fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", ok, len(long), long), kept: true},
		{name: "chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n", kept: true},
		{name: "CHUNKED", raw: ok + "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", kept: true},
		{name: "trailer", raw: ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n1\r\na\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", kept: true},
		{name: "trailer too long", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: " + long + "\r\n\r\n"},
		{name: "trailer cut off", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b", ends: true},
		{name: "trailer malformed", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A\r\n\r\n"},
		{name: "trailer forbidden", raw: ok + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n"},
		{name: "204", raw: "HTTP/1.1 204 No Content\r\n\r\n", kept: true},
		{name: "304", raw: "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 5\r\n\r\n", kept: true},
		{name: "HEAD", raw: ok + "Content-Length: 12345\r\n\r\n", kept: true, head: true},
		{name: "HEAD chunked", raw: ok + "Transfer-Encoding: chunked\r\n\r\n", kept: true, head: true},
		{name: "HEAD without length", raw: ok + "\r\n", kept: true, head: true},
		{name: "HEAD and body", raw: ok + "Content-Length: 45\r\n\r\n" + poison, head: true},
		{name: "401", raw: "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", kept: true},
		{name: "999", raw: "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nno", kept: true},
		{name: "no reason", raw: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", kept: true},
		{name: "1xx", raw: "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n{}", kept: true},
		{name: "many 1xx", raw: strings.Repeat("HTTP/1.1 102 P\r\n\r\n", 100) + ok + "Content-Length: 2\r\n\r\n{}", kept: true},
		{name: "too many 1xx", raw: strings.Repeat("HTTP/1.1 102 P\r\n\r\n", maxUpstreamHeader/18+1) + ok + "Content-Length: 2\r\n\r\n{}"},
		{name: "1xx only", raw: "HTTP/1.1 100 Continue\r\n\r\n", ends: true},
		{name: "1xx with length", raw: "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n{}"},
		{name: "same value twice", raw: ok + "Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\n{}", kept: true},
		{name: "blanks around value", raw: ok + "X-A:  \t b \r\nContent-Length:2\r\n\r\n{}", kept: true},
		{name: "close", raw: ok + "Connection: close\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "close among others", raw: ok + "Connection: x, Close\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "until the end", raw: ok + "\r\nabc", ends: true},
		{name: "1.0", raw: "HTTP/1.0 200 OK\r\n\r\nabc", ends: true},
		{name: "1.0 with length", raw: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "1.0 keep-alive", raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "1.0 chunked", raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ends: true},
		{name: "1.2", raw: "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "2.0", raw: "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "0.9", raw: "<html>old</html>", ends: true},
		{name: "SSH", raw: "SSH-2.0-x\r\n"},
		{name: "101", raw: "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"},
		{name: "099", raw: "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "status of four digits", raw: "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "negative status", raw: "HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "length twice, equal", raw: ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "length twice, differing", raw: ok + "Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc"},
		{name: "length list", raw: ok + "Content-Length: 2, 2\r\n\r\n{}"},
		{name: "length no number", raw: ok + "Content-Length: +2\r\n\r\n{}"},
		{name: "length negative", raw: ok + "Content-Length: -2\r\n\r\n{}"},
		{name: "length and chunked", raw: ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
		{name: "chunked and length", raw: ok + "tRANSFER-ENCODING: chunked\r\ncONTENT-LENGTH: 3\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
		{name: "chunked twice", raw: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "gzip", raw: ok + "Transfer-Encoding: gzip\r\n\r\n{}"},
		{name: "gzip, chunked", raw: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
		{name: "blank before colon", raw: ok + "Content-Length : 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{name: "bare line feeds", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"},
		{name: "last line feed bare", raw: ok + "Content-Length: 2\r\n\n{}"},
		{name: "one line feed bare", raw: ok + "X-A: b\nContent-Length: 2\r\n\r\n{}"},
		{name: "bare carriage return in reason", raw: "HTTP/1.1 200 O\rContent-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "bare carriage return", raw: ok + "X-A: b\rContent-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "continued line", raw: ok + "X-A: b\r\n Content-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "continued line, tab", raw: ok + "X-A: b\r\n\tContent-Length: 6\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "no colon", raw: ok + "X-A\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "empty name", raw: ok + ": x\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "NUL", raw: ok + "X-A: \x00\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "large head", raw: ok + "X-A: " + strings.Repeat("x", maxUpstreamHeader-100) + "\r\nContent-Length: 2\r\n\r\n{}", kept: true},
		{name: "too large a head", raw: ok + "X-A: " + strings.Repeat("x", maxUpstreamHeader) + "\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "nothing", raw: "", ends: true},
		{name: "head cut off", raw: ok + "Content-Le", ends: true},
		{name: "body cut off", raw: ok + "Content-Length: 10\r\n\r\nabc", ends: true},
		{name: "chunk cut off", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", ends: true},
		{name: "last chunk missing", raw: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ends: true},
		{name: "chunk size no number", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"},
		{name: "chunk longer than its size", raw: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"},
		{name: "more after length", raw: ok + "Content-Length: 2\r\n\r\n{}" + poison},
		{name: "more after chunks", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison},
		{name: "more after 204", raw: "HTTP/1.1 204 No\r\n\r\n" + poison},
		{name: "more after 304", raw: "HTTP/1.1 304 No\r\n\r\n" + poison},
		{name: "one byte more", raw: ok + "Content-Length: 2\r\n\r\n{}\n"},
	}
}

// TestDirectConnection finds for every answer whether its connection is used
// again, and that the next request gets its own answer in any case.
func TestDirectConnection(t *testing.T) {
	for _, tt := range rawAnswers() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t)
			s.upstream.answer = func(conn net.Conn, r *received) bool {
				if strings.Contains(r.line, "/victim") {
					_, err := io.WriteString(conn, victimAnswer)
					return err == nil
				}
				_, err := io.WriteString(conn, tt.raw)
				return err == nil && !tt.ends
			}
			method := http.MethodGet
			if tt.head {
				method = http.MethodHead
			}
			_, _ = s.fetchAs(method, "/attack")
			if got := s.direct().idleCount() == 1; got != tt.kept {
				t.Errorf("connection kept: %t", got)
			}
			if body, err := s.fetch("/victim"); body != "victim" || err != nil {
				t.Errorf("victim got %q, %v", body, err)
			}
			if got := s.sameConn(); got != tt.kept {
				t.Errorf("connection used again: %t", got)
			}
		})
	}
}

// pipe is a connection in memory. It can't be probed, but may be kept.
type pipe struct{ net.Conn }

func (pipe) SyscallConn() (syscall.RawConn, error) { return rawPipe{}, nil }

type rawPipe struct{}

func (rawPipe) Control(func(uintptr)) error    { return errors.ErrUnsupported }
func (rawPipe) Read(func(uintptr) bool) error  { return errors.ErrUnsupported }
func (rawPipe) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// pipedTransports returns a direct transport and the http.Transport behind it,
// with an upstream that gives one answer and closes. wait returns when it has.
func pipedTransports(answer []byte) (direct *directTransport, wait func()) {
	var served sync.WaitGroup
	dial := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		served.Add(1)
		go func() {
			defer served.Done()
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				_, _ = far.Write(answer)
			}
		}()
		return pipe{near}, nil
	}
	direct = newDirectTransport(&url.URL{Scheme: "http", Host: "fhir.test"}, &http.Transport{
		DialContext: dial, DisableCompression: true, MaxIdleConns: 1, MaxIdleConnsPerHost: 1,
		IdleConnTimeout: deadline, ResponseHeaderTimeout: deadline, MaxResponseHeaderBytes: maxUpstreamHeader,
	})
	return direct, served.Wait
}

// outcome is what a client could tell answers apart by.
type outcome struct {
	failure  string
	status   int
	protocol string
	length   int64
	close    bool
	header   http.Header
	trailer  http.Header
	body     string
	broken   string // why the body ended before its end
}

// outcomeOf sends a request that is answered with these bytes.
func outcomeOf(transport http.RoundTripper, r *http.Request) (o outcome) {
	res, err := transport.RoundTrip(r)
	if err != nil {
		return outcome{failure: failureText(upstreamError, err)}
	}
	body := res.Body
	if res.StatusCode == http.StatusSwitchingProtocols {
		_ = body.Close() // which is all that modifyResponse lets happen
		body = http.NoBody
	}
	b, err := io.ReadAll(body)
	_ = res.Body.Close()
	if err != nil {
		o.broken = failureText(upstreamError, err)
	}
	o.status, o.protocol, o.length, o.close = res.StatusCode, res.Proto, res.ContentLength, res.Close
	o.header, o.trailer, o.body = res.Header, res.Trailer, string(b)
	return o
}

// sameAsTransport fails unless both ways make the same of an answer. It returns
// whether the direct one kept the connection, which it may only if http.Transport
// does.
func sameAsTransport(t *testing.T, method string, answer []byte) (kept bool) {
	t.Helper()
	if !canProbe {
		t.Skip("http.Transport does everything here")
	}
	direct, wait := pipedTransports(answer)
	request := func(ctx context.Context) *http.Request {
		r, err := http.NewRequestWithContext(ctx, method, "http://fhir.test/Patient", nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	got := outcomeOf(direct, request(t.Context()))
	kept = direct.idleCount() == 1
	keptThere := false
	transport := func() outcome {
		return outcomeOf(roundTrip(direct.roundTripWatched), request(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			PutIdleConn: func(err error) { keptThere = err == nil },
		})))
	}
	want := transport()
	// The upstream closes after its answer. If http.Transport sees that before it
	// could keep the connection, it must be asked again.
	for range 10 {
		if kept && !keptThere {
			want = transport()
		}
	}
	direct.CloseIdleConnections()
	wait()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%.300q:\n got %.500s\nwant %.500s", answer, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	}
	if kept && !keptThere {
		t.Errorf("%.300q: connection kept, but not by http.Transport", answer)
	}
	return kept
}

// quietLog keeps http.Transport from writing about what it throws away.
func quietLog(tb testing.TB) {
	tb.Helper()
	out := log.Writer()
	log.SetOutput(io.Discard)
	tb.Cleanup(func() { log.SetOutput(out) })
}

func TestDirectIsAsTransport(t *testing.T) {
	quietLog(t)
	for _, tt := range rawAnswers() {
		t.Run(tt.name, func(t *testing.T) {
			method := http.MethodGet
			if tt.head {
				method = http.MethodHead
			}
			if kept := sameAsTransport(t, method, []byte(tt.raw)); kept != tt.kept {
				t.Errorf("connection kept: %t", kept)
			}
		})
	}
}

// FuzzDirectAnswer finds that both transports make the same of any answer.
func FuzzDirectAnswer(f *testing.F) {
	quietLog(f)
	for _, tt := range rawAnswers() {
		if len(tt.raw) < 1000 {
			f.Add([]byte(tt.raw), tt.head)
		}
	}
	f.Fuzz(func(t *testing.T, answer []byte, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		sameAsTransport(t, method, answer)
	})
}

// TestDirectRetry finds when a request is sent again, and how often.
func TestDirectRetry(t *testing.T) {
	const begun = "HTTP/1.1 200 OK\r\n"
	for name, tt := range map[string]struct {
		reused      bool   // the first answer comes on a connection used before
		first, then string // what the upstream sends before it closes
		sent        int
		body        string
	}{
		"unused connection":       {false, "", victimAnswer, 1, ""},
		"used connection":         {true, "", victimAnswer, 2, "victim"},
		"used, then unused":       {true, "", "", 2, ""},
		"answer had begun":        {true, begun, victimAnswer, 1, ""},
		"informational had begun": {true, "HTTP/1.1 103 Hints\r\n\r\n", victimAnswer, 1, ""},
		"one byte":                {true, "H", victimAnswer, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			if tt.reused {
				// Two, so that not just any other connection will do.
				s.keep(2)
			}
			asked := 0
			s.upstream.answer = func(conn net.Conn, _ *received) bool {
				asked++
				answer := tt.first
				if asked > 1 {
					answer = tt.then
				}
				_, _ = io.WriteString(conn, answer)
				return false
			}
			body, err := s.fetch("/x")
			if body != tt.body || (err != nil) != (tt.body == "") {
				t.Errorf("%q, %v", body, err)
			}
			if err != nil && tt.first != "H" && failureText(upstreamError, err) != "FHIR server closed the connection" {
				t.Error(err)
			}
			s.direct().CloseIdleConnections()
			conns := map[int]bool{}
			for range tt.sent {
				conns[s.upstream.got().conn] = true
			}
			s.upstream.untouched()
			if len(conns) != tt.sent {
				t.Errorf("sent over %v", conns)
			}
			if tt.sent == 2 && !conns[3] {
				t.Errorf("sent again over a used connection: %v", conns)
			}
		})
	}
}

// keep makes n idle connections.
func (s *stack) keep(n int) {
	s.Helper()
	var held []*http.Response
	for range n {
		res, err := s.direct().RoundTrip(s.outgoing(s.Context(), http.MethodGet, "/keep"))
		if err != nil {
			s.Fatal(err)
		}
		held = append(held, res)
		s.upstream.got()
	}
	for _, res := range held {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if got := s.direct().idleCount(); got != n {
		s.Fatalf("%d connections kept, want %d", got, n)
	}
}

// TestDirectTimeout finds that a head has a deadline, and a body none.
func TestDirectTimeout(t *testing.T) {
	const timeout = 100 * time.Millisecond
	for name, begun := range map[string]string{"nothing": "", "half a status line": "HTTP/1.1 2", "part of a head": "HTTP/1.1 200 OK\r\nX-A: ", "1xx": "HTTP/1.1 102 P\r\n\r\n"} {
		for _, reused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reused %t", name, reused), func(t *testing.T) {
				t.Parallel()
				s := newStack(t, func(c *Config) { c.UpstreamHeaderTimeout = timeout })
				if reused {
					s.keep(1)
				}
				s.upstream.answer = func(conn net.Conn, _ *received) bool {
					_, _ = io.WriteString(conn, begun)
					_, _ = conn.Read(make([]byte, 1))
					return false
				}
				start := time.Now()
				_, err := s.fetch("/slow")
				if took := time.Since(start); !isTimeout(err) || took < timeout || took > deadline/2 {
					t.Errorf("%v after %v", err, took)
				}
				if failureText(upstreamError, err) != "FHIR server timed out" {
					t.Error(failureText(upstreamError, err))
				}
				s.left(1)
				s.upstream.got()
				s.upstream.untouched() // a slow server isn't asked twice
			})
		}
	}
	t.Run("slow body", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, func(c *Config) { c.UpstreamHeaderTimeout = timeout })
		s.upstream.answer = func(conn net.Conn, _ *received) bool {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
			time.Sleep(3 * timeout)
			_, err := io.WriteString(conn, "b")
			return err == nil
		}
		for range 2 {
			if body, err := s.fetch("/slow"); body != "ab" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
		}
		if !s.sameConn() {
			t.Error("connection wasn't used again")
		}
	})
	t.Run("idle for longer", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, func(c *Config) { c.UpstreamHeaderTimeout = timeout })
		for range 2 {
			if body, err := s.fetch("/"); body != "{}" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
			time.Sleep(2 * timeout)
		}
		if !s.sameConn() {
			t.Error("connection wasn't used again")
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, func(c *Config) { c.UpstreamHeaderTimeout = 0 })
		if body, err := s.fetch("/"); body != "{}" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	})
	t.Run("server doesn't read", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, func(c *Config) { c.UpstreamHeaderTimeout = timeout })
		near, far := net.Pipe()
		defer far.Close()
		s.direct().dialContext = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		if _, err := s.fetch("/"); !isTimeout(err) {
			t.Error(err)
		}
	})
}

// TestDirectCancel finds that a client that leaves takes the request with it at
// once, whatever it is at.
func TestDirectCancel(t *testing.T) {
	cause := errors.New("client left")
	for name, begun := range map[string]string{
		"waiting": "", "in the head": "HTTP/1.1 200 OK\r\nX-A: ", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "until the end": "HTTP/1.1 200 OK\r\n\r\nabc",
	} {
		for _, reused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reused %t", name, reused), func(t *testing.T) {
				s := newStack(t)
				if reused {
					s.keep(1)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				s.upstream.answer = func(conn net.Conn, _ *received) bool {
					_, _ = io.WriteString(conn, begun)
					time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
					_, _ = conn.Read(make([]byte, 1))
					return false
				}
				res, err := s.direct().RoundTrip(s.outgoing(ctx, http.MethodGet, "/x"))
				if err == nil {
					_, err = io.ReadAll(res.Body)
					_ = res.Body.Close()
				}
				if !errors.Is(err, cause) {
					t.Error(err)
				}
				s.left(1)
				if n := s.direct().idleCount(); n != 0 {
					t.Errorf("%d connections kept", n)
				}
				s.upstream.got()
				s.upstream.untouched()
			})
		}
	}
	t.Run("dialing", func(t *testing.T) {
		s := newStack(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		s.direct().dialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			cancel(cause)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if _, err := s.direct().RoundTrip(s.outgoing(ctx, http.MethodGet, "/x")); !errors.Is(err, cause) {
			t.Error(err)
		}
	})
	t.Run("whole answer read already", func(t *testing.T) {
		s := newStack(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		res, err := s.direct().RoundTrip(s.outgoing(ctx, http.MethodGet, "/x"))
		if err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		if b, err := io.ReadAll(res.Body); string(b) != "{}" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if n := s.direct().idleCount(); n != 0 {
			t.Error("connection is kept, and closed")
		}
		_ = res.Body.Close()
		s.left(1)
	})
	t.Run("after the end", func(t *testing.T) {
		s := newStack(t)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			ctx, cancel := context.WithCancelCause(t.Context())
			res, err := s.direct().RoundTrip(s.outgoing(ctx, method, "/x"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			cancel(cause) // is none of the connection's business any more
			_ = res.Body.Close()
			if b, err := s.fetch("/y"); b != "{}" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if !s.sameConn() {
				t.Error("connection wasn't used again")
			}
		}
	})
}

// watchedContext can be cancelled, and counts who waits for that.
type watchedContext struct {
	context.Context
	done    chan struct{}
	waiting *int
}

func (c watchedContext) Done() <-chan struct{} { return c.done }

// AfterFunc is what context.AfterFunc calls.
func (c watchedContext) AfterFunc(func()) func() bool {
	*c.waiting++
	return func() bool { *c.waiting--; return true }
}

// TestDirectStops finds that nothing waits for the end of a request that is
// over, whether or not it got an answer.
func TestDirectStops(t *testing.T) {
	for _, raw := range []string{okAnswer, "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "SSH", ""} {
		s := newStack(t)
		s.keep(1) // to be tried twice
		s.upstream.answer = func(conn net.Conn, _ *received) bool {
			_, _ = io.WriteString(conn, raw)
			return false
		}
		var waiting, most int
		res, err := s.direct().RoundTrip(s.outgoing(watchedContext{t.Context(), make(chan struct{}), &waiting}, http.MethodGet, "/"))
		if err == nil {
			most = waiting
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		if waiting != 0 || strings.Contains(raw, "Length") && most != 1 {
			t.Errorf("%q: %d wait, %d before the end", raw, waiting, most)
		}
	}
}

// TestDirectLateCancel finds that a connection is given up when its request is
// cancelled before its answer was read, even if all of that is at hand: it will be
// closed at any moment.
func TestDirectLateCancel(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := newStack(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		res, err := s.direct().RoundTrip(s.outgoing(ctx, http.MethodGet, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if late {
			cancel()
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		if kept := s.direct().idleCount() == 1; kept == late {
			t.Errorf("cancelled %t, connection kept %t", late, kept)
		}
	}
}

// TestDirectCancelRace cancels requests around the end of their answers, and
// finds that the others' are their own and whole.
func TestDirectCancelRace(t *testing.T) {
	s := newStack(t)
	s.upstream.answer = func(conn net.Conn, r *received) bool {
		path := strings.Fields(r.line)[1]
		if len(path)%2 == 0 {
			_, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
			return err == nil
		}
		_, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(path), path)
		return err == nil
	}
	s.discardReceived()
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for i := range 500 {
				path := fmt.Sprintf("/%d/%s", client, strings.Repeat("x", i))
				ctx, cancel := context.WithCancel(t.Context())
				leaves := i%2 == 0
				var done chan struct{}
				if leaves {
					done = make(chan struct{})
					go func() {
						defer close(done)
						time.Sleep(time.Duration(rand.N(300)) * time.Microsecond)
						cancel()
					}()
				}
				res, err := s.direct().RoundTrip(s.outgoing(ctx, http.MethodGet, path))
				var body []byte
				if err == nil {
					body, err = io.ReadAll(res.Body)
					_ = res.Body.Close()
				}
				if err == nil && string(body) != path || err != nil && !leaves {
					t.Errorf("%.20s...: %.20q, %v", path, body, err)
				}
				cancel()
				if leaves {
					<-done
				}
			}
		})
	}
	clients.Wait()
}

// discardReceived is for tests with more requests than the upstream keeps.
func (s *stack) discardReceived() {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-s.upstream.requests:
			case <-s.upstream.gone:
			case <-stop:
				return
			}
		}
	})
	s.Cleanup(func() {
		s.direct().CloseIdleConnections()
		_ = s.upstream.Close()
		s.upstream.closeConns()
		s.upstream.wg.Wait()
		close(stop)
		ended.Wait()
	})
}

// TestDirectPool finds that idle connections are few, used last in first out,
// and closed in time.
func TestDirectPool(t *testing.T) {
	t.Run("bounded", func(t *testing.T) {
		s := newStack(t)
		s.direct().rest.MaxIdleConns = 2
		var held []*http.Response
		for range 5 {
			res, err := s.direct().RoundTrip(s.outgoing(t.Context(), http.MethodGet, "/"))
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, res)
		}
		for _, res := range held {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		s.left(3)
		if n := s.direct().idleCount(); n != 2 {
			t.Errorf("%d connections kept", n)
		}
	})
	t.Run("last in first out", func(t *testing.T) {
		s := newStack(t)
		s.keep(3)
		for range 3 {
			if _, err := s.fetch("/"); err != nil {
				t.Fatal(err)
			}
			if conn := s.upstream.got().conn; conn != 3 {
				t.Errorf("connection %d is used", conn)
			}
		}
	})
	t.Run("too old to use", func(t *testing.T) {
		s := newStack(t)
		s.keep(2)
		s.direct().mu.Lock()
		for _, c := range s.direct().idle {
			c.idleSince = c.idleSince.Add(-upstreamIdleTimeout)
		}
		s.direct().mu.Unlock()
		if _, err := s.fetch("/"); err != nil {
			t.Fatal(err)
		}
		if conn := s.upstream.got().conn; conn != 3 {
			t.Errorf("connection %d is used", conn)
		}
		s.left(2)
	})
	t.Run("closed without traffic", func(t *testing.T) {
		s := newStack(t)
		s.direct().idleTimeout = 100 * time.Millisecond
		for range 2 { // also when there were none in the meantime
			s.keep(2)
			time.Sleep(60 * time.Millisecond)
			start := time.Now()
			// One of the two stays longer, or a third if the machine was slow.
			if _, err := s.fetch("/"); err != nil {
				t.Fatal(err)
			}
			used, closed := s.upstream.got().conn, 0
			for closed != used {
				select {
				case closed = <-s.upstream.gone:
				case <-time.After(deadline):
					t.Fatal("connection stays open")
				}
			}
			if took := time.Since(start); took < 90*time.Millisecond {
				t.Errorf("closed after %v", took)
			}
			s.eventually("the sweeper ends", func() bool {
				s.direct().mu.Lock()
				defer s.direct().mu.Unlock()
				return s.direct().sweeper == nil && len(s.direct().idle) == 0
			})
		}
	})
	t.Run("closed when told so", func(t *testing.T) {
		s := newStack(t)
		s.direct()
		s.do(get("/fhir/Patient", bearerTOK))
		s.do(request("POST", "/fhir/Patient", "{}", bearerTOK))
		if s.sameConn() {
			t.Error("GET and POST share a connection")
		}
		start := time.Now()
		s.proxy.CloseIdleConnections()
		s.left(2)
		if took := time.Since(start); took > upstreamIdleTimeout/2 {
			t.Errorf("closed after %v", took)
		}
	})
	t.Run("not when it can't be probed", func(t *testing.T) {
		s := newStack(t)
		near, far := net.Pipe()
		defer far.Close()
		s.direct().dialContext = func(context.Context, string, string) (net.Conn, error) { return near, nil }
		go func() {
			_, _ = far.Read(make([]byte, 1000))
			_, _ = io.WriteString(far, victimAnswer)
		}()
		if body, err := s.fetch("/"); body != "victim" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
		if n := s.direct().idleCount(); n != 0 {
			t.Error("connection is kept")
		}
	})
	t.Run("memory of a large head", func(t *testing.T) {
		s := newStack(t)
		s.upstream.writes("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("x", 100<<10) + "\r\nContent-Length: 2\r\n\r\n{}")
		if _, err := s.fetch("/"); err != nil {
			t.Fatal(err)
		}
		if n := cap(s.direct().idle[0].head); n > keptHead {
			t.Errorf("%d bytes stay with an idle connection", n)
		}
	})
}

// TestDirectIsFor finds what goes to http.Transport.
func TestDirectIsFor(t *testing.T) {
	s := newStack(t)
	host := s.upstream.Addr().String()
	s.direct().rest.DialTLSContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.ErrUnsupported }
	for _, tt := range []struct {
		name   string
		direct bool
		change func(r *http.Request)
	}{
		{"GET", true, func(*http.Request) {}},
		{"HEAD", true, func(r *http.Request) { r.Method = http.MethodHead }},
		{"POST", false, func(r *http.Request) { r.Method = http.MethodPost }},
		{"DELETE", false, func(r *http.Request) { r.Method = http.MethodDelete }},
		{"OPTIONS", false, func(r *http.Request) { r.Method = http.MethodOptions }},
		{"with body", false, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{}")); r.ContentLength = 2 }},
		{"to be closed", false, func(r *http.Request) { r.Close = true }},
		{"TLS", false, func(r *http.Request) { r.URL.Scheme = "https" }},
		{"other host", false, func(r *http.Request) { r.URL.Host = "127.0.0.1:1" }},
	} {
		r := s.outgoing(t.Context(), http.MethodGet, "/")
		tt.change(r)
		res, err := s.direct().RoundTrip(r)
		if (err != nil) != (r.URL.Scheme == "https" || r.URL.Host != host) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		if got := s.direct().idleCount() == 1; got != tt.direct {
			t.Errorf("%s: sent directly: %t", tt.name, got)
		}
		s.direct().CloseIdleConnections()
	}
	for upstream, want := range map[string]string{
		"http://fhir.test/fhir": "fhir.test:80", "http://fhir.test:8080": "fhir.test:8080", "http://[::1]": "[::1]:80", "http://[fe80::1%25eth0]:8080": "[fe80::1%eth0]:8080",
		"https://fhir.test": "", "http://fh\u0131r.test": "",
	} {
		u, err := url.Parse(upstream)
		if err != nil {
			t.Fatal(err)
		}
		if d := newDirectTransport(u, &http.Transport{}); d.address != want || (d.host != "") != (want != "") {
			t.Errorf("%s: %q, %q", upstream, d.host, d.address)
		}
	}
}

// TestDirectRequest finds that a request has the bytes that net/http would
// write, but for the order of the fields.
func TestDirectRequest(t *testing.T) {
	s := newStack(t)
	for name, change := range map[string]func(r *http.Request){
		"as ReverseProxy makes it": func(*http.Request) {},
		"HEAD":                     func(r *http.Request) { r.Method = http.MethodHead },
		"fields": func(r *http.Request) {
			maps.Copy(r.Header, http.Header{"X-B": {"1", "2"}, "x-Lower_case": {"a"}, "X-Empty": {""}, "X-None": nil, "Te": {"trailers"}, "Expect": {"100-continue"}})
		},
		"blanks":            func(r *http.Request) { r.Header["X-A"] = []string{" \t a \t b\t "} },
		"bytes above ASCII": func(r *http.Request) { r.Header["X-A"] = []string{"\xff\xe9 é"} },
		"framing": func(r *http.Request) {
			maps.Copy(r.Header, http.Header{"Content-Length": {"5"}, "Transfer-Encoding": {"chunked"}, "Trailer": {"X-A"}, "Host": {"evil"}})
		},
		"agent":              func(r *http.Request) { r.Header["User-Agent"] = []string{"x/1"} },
		"agents":             func(r *http.Request) { r.Header["User-Agent"] = []string{"x/1", "y/1"} },
		"no agent":           func(r *http.Request) { delete(r.Header, "User-Agent") },
		"empty agent list":   func(r *http.Request) { r.Header["User-Agent"] = nil },
		"opaque":             func(r *http.Request) { r.URL.Opaque, r.URL.RawQuery = "/fhir/a%2Fb;c", "a=1;b=%zz" },
		"empty query":        func(r *http.Request) { r.URL.Opaque, r.URL.ForceQuery = "/fhir", true },
		"two slashes":        func(r *http.Request) { r.URL.Opaque = "//fhir" },
		"target with blank":  func(r *http.Request) { r.URL.Opaque = "/a b" },
		"target with tab":    func(r *http.Request) { r.URL.Opaque = "/a\tb" },
		"target with line":   func(r *http.Request) { r.URL.Opaque = "/a HTTP/1.1\r\nX: y" },
		"target with DEL":    func(r *http.Request) { r.URL.RawQuery = "\x7f" },
		"host":               func(r *http.Request) { r.Host = "a-b.example.org:8443" },
		"no host":            func(r *http.Request) { r.Host = "" },
		"IPv6 host":          func(r *http.Request) { r.Host = "[fe80::1%25eth0]:80" },
		"Unicode host":       func(r *http.Request) { r.Host = "f\u00efr.test" },
		"host with line":     func(r *http.Request) { r.Host = "a\r\nX: y" },
		"host with slash":    func(r *http.Request) { r.Host = "a/b" },
		"host with blank":    func(r *http.Request) { r.Host = "a b" },
		"host with userinfo": func(r *http.Request) { r.Host = "a@b" },
	} {
		r := s.outgoing(t.Context(), http.MethodGet, "/fhir/Patient?a=b")
		change(r)
		var got, want bytes.Buffer
		gotErr, wantErr := writeRequest(&got, r), r.Write(&want)
		if (gotErr != nil) != (wantErr != nil) {
			t.Errorf("%s: %v, want %v", name, gotErr, wantErr)
		}
		if wantErr == nil && !slices.Equal(sortedLines(got.String()), sortedLines(want.String())) {
			t.Errorf("%s:\n got %q\nwant %q", name, &got, &want)
		}
	}
	for name, value := range map[string]string{
		"": "a", "X A": "a", "X:A": "a", "X\r\nA": "a", "X\x00": "a", "X-\u00e9": "a", "X(": "a",
		"X-Cr": "a\rb", "X-Lf": "a\nb", "X-Crlf": "a\r\nb: c", "X-Nul": "\x00", "X-Del": "\x7f", "X-Vt": "\x0b",
	} {
		r := s.outgoing(t.Context(), http.MethodGet, "/")
		r.Header[name] = []string{"fine", value}
		_, err := s.direct().RoundTrip(r)
		_, wantErr := s.direct().rest.RoundTrip(r)
		if err == nil || wantErr == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q: %v, and http.Transport %v", name, value, err, wantErr)
		}
	}
	s.upstream.untouched()
}

func sortedLines(text string) []string {
	lines := strings.SplitAfter(text, "\r\n")
	slices.Sort(lines[2:]) // the request line and Host come first
	return lines
}

// TestDirectDial finds that a FHIR server that isn't there is told apart.
func TestDirectDial(t *testing.T) {
	s := newStack(t)
	_ = s.upstream.Close()
	_, err := s.fetch("/")
	if got := failureText(upstreamError, err); got != "FHIR server: dial: connection refused" {
		t.Errorf("%q: %v", got, err)
	}
}

// TestDirectClose finds that an answer that nobody reads to its end takes its
// connection with it.
func TestDirectClose(t *testing.T) {
	for size, sent := range map[int]int{100: 100, 1 << 20: 1 << 20, 1000: 50} {
		s := newStack(t)
		s.upstream.writes(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", sent)))
		res, err := s.direct().RoundTrip(s.outgoing(t.Context(), http.MethodGet, "/"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(res.Body, make([]byte, 50))
		for range 2 {
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		if n, err := res.Body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if n := s.direct().idleCount(); n != 0 {
			t.Errorf("%d connections kept", n)
		}
		s.left(1)
	}
}

// BenchmarkTransport shows what a GET costs over loopback, server included.
func BenchmarkTransport(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go benchUpstream(listener)
	defer listener.Close()
	upstream := &url.URL{Scheme: "http", Host: listener.Addr().String()}
	rest := &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, DisableCompression: true, MaxIdleConns: maxIdleUpstream, MaxIdleConnsPerHost: maxIdleUpstream,
		IdleConnTimeout: upstreamIdleTimeout, ResponseHeaderTimeout: deadline, MaxResponseHeaderBytes: maxUpstreamHeader,
	}
	direct := newDirectTransport(upstream, rest)
	defer direct.CloseIdleConnections()
	for name, transport := range map[string]http.RoundTripper{"http.Transport": rest, "direct": direct} {
		b.Run(name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			r := benchRequest(b).Clone(ctx)
			r.URL.Scheme, r.URL.Host, r.RequestURI, r.Body = "http", upstream.Host, "", nil
			b.ReportAllocs()
			for b.Loop() {
				res, err := transport.RoundTrip(r)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
}

// benchUpstream answers whatever comes in one piece.
func benchUpstream(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for request := make([]byte, 8<<10); ; {
				if _, err := conn.Read(request); err != nil {
					return
				}
				_, _ = io.WriteString(conn, okAnswer)
			}
		}()
	}
}
