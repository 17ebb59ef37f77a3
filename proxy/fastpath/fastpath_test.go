package fastpath_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
)

// TestMain looks for goroutines that are left. net/http lets an ended connection
// linger for half a second, which is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// patience is far beyond what any test takes; it only ends one that hangs.
const patience = 15 * time.Second

// front is a server, with a fast path before it or without.
type front struct {
	testing.TB
	server  *http.Server
	fast    *fastpath.Server // nil: without
	address string
	others  atomic.Int32 // connections that the http.Server got
	log     bytes.Buffer // complete when the fast path has ended
}

func newFront(tb testing.TB, withFast bool, handler http.HandlerFunc, options ...func(*http.Server)) *front {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("net.Listen: got error %v, want none", err)
	}
	f := &front{TB: tb, address: listener.Addr().String()}
	f.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: patience, IdleTimeout: patience, DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(&f.log, nil), slog.LevelInfo),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				f.others.Add(1)
			}
		},
	}
	for _, option := range options {
		option(f.server)
	}
	if withFast {
		f.fast = fastpath.New(fastpath.Config{
			Handler: adapted(handler), HeaderTimeout: f.server.ReadHeaderTimeout, IdleTimeout: f.server.IdleTimeout, ErrorLog: f.server.ErrorLog,
		})
		f.server.RegisterOnShutdown(f.fast.Close)
		listener = pass(listener, f.fast)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.server.Serve(listener)
	}()
	tb.Cleanup(func() {
		_ = f.server.Close()
		if f.fast != nil {
			now, cancel := context.WithCancel(tb.Context())
			cancel()
			_ = f.fast.Wait(now)
		}
		<-ended
	})
	return f
}

func (f *front) dial() *net.TCPConn {
	f.Helper()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		f.Fatalf("net.Dial: got error %v, want none", err)
	}
	f.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (f *front) send(c net.Conn, raw string) {
	f.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		f.Fatalf("io.WriteString: got error %v, want none", err)
	}
}

// everything sends the bytes, says after a pause that no more will come, and
// returns all that comes back.
func (f *front) everything(tb testing.TB, raw string, pause time.Duration) string {
	tb.Helper()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		tb.Fatalf("net.Dial: got error %v, want none", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, raw) // the server may have had enough before the end
	end := time.AfterFunc(pause, func() { _ = c.(*net.TCPConn).CloseWrite() })
	defer end.Stop()
	got, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		tb.Fatalf("connection stays open after %.200q, want its end", raw)
	}
	return string(got)
}

var dates = regexp.MustCompile(`Date: [^\r]*\r\n`)

// normalized makes what a server sent the same for the same answers: it sorts
// the fields of every head and leaves out dates.
func normalized(raw string) string {
	raw = dates.ReplaceAllString(raw, "")
	var out []string
	for part := range strings.SplitSeq(raw, "HTTP/1.1 ") {
		head, body, _ := strings.Cut(part, "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		slices.Sort(lines[1:])
		out = append(out, fmt.Sprintf("%q %q", lines, body))
	}
	return strings.Join(out, "\n")
}

// compare fails unless both fronts make the same of the bytes. An http.Server that
// sees the end of what its client sends while it answers may leave out the
// answers to come, or not, and the fast path does the same. So the end comes later
// and later, until it can't matter.
func compare(t *testing.T, with, without *front, raw string) {
	t.Helper()
	var got, want string
	for pause := time.Duration(0); pause < patience/2; pause = 3*pause + 10*time.Millisecond {
		got, want = normalized(with.everything(t, raw, pause)), normalized(without.everything(t, raw, pause))
		// A rest shorter than four bytes gets no response from a server that has
		// answered before, but one that sees it first calls it a bad request.
		if got == want || got == want+badRequest {
			return
		}
	}
	t.Errorf("with the fast path:\n%.1000s\nwithout:\n%.1000s", got, want)
}

var badRequest = strings.TrimPrefix(normalized("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"+
	"Connection: close\r\n\r\n400 Bad Request"), normalized(""))

// describe answers with all that a handler can see of a request.
func describe(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	text := fmt.Sprintf("%s|%q|%#v|%s %d %d|%q|%q|%d %q|%v|%t|%q|%q %v|%v\n", r.Method, r.RequestURI, *r.URL, r.Proto, r.ProtoMajor,
		r.ProtoMinor, r.Host, fields(r.Header), r.ContentLength, r.TransferEncoding, r.Close, r.TLS == nil, host, body, err, r.Trailer)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	_, _ = io.WriteString(w, text)
}

func fields(h http.Header) (lines []string) {
	for name, values := range h {
		if name != "Content-Length" { // which stands in the request itself
			lines = append(lines, fmt.Sprintf("%q %q", name, values))
		}
	}
	slices.Sort(lines)
	return lines
}

// manyFields returns n fields with different names.
func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X%d: 1\r\n", i)
	}
	return b.String()
}

// heads are requests, and whether they are plain.
var heads = []struct {
	name, raw string
	plain     bool
}{
	{"GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"HEAD", "HEAD /fhir/Patient/1 HTTP/1.1\r\nHost: a:80\r\n\r\n", true},
	{"ordinary", "GET /fhir/Patient?name=a%20b&x HTTP/1.1\r\nHost: [::1]:8000\r\nUser-Agent: HAPI (x; y)\r\naccept: a, b;q=0.5\r\nX-A_b: \"c\"\r\nConnection: keep-alive\r\n\r\n", true},
	{"same name twice", "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\nX-A: 4\r\n\r\n", true},
	{"odd target", "GET //a/../b;c#d?<>{}|\\^`\"?? HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + manyFields(63) + "X1: 2\r\n\r\n", true},
	{"two", "GET /1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\nX-B: 2\r\n\r\n", true},
	{"bodies among others", "GET /1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\nPOST /2 HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}GET /3 HTTP/1.1\r\nHost: a\r\n\r\n" +
		"PUT /4 HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: Chunked\r\n\r\n1;x\r\n{\r\n01\r\n}\r\n0\r\n\r\nDELETE /5 HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"plain, then not", "GET /1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\nPOST /2 HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}GET /3 HTTP/1.1\r\nHost:a\r\n\r\n", false},
	{"large body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("0123456789", 4000) + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"large chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9c40\r\n" + strings.Repeat("0123456789", 4000) + "\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"empty line after POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"two empty lines after POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"three empty lines after POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"only an empty line after POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\r\n", true},
	{"empty line after PUT", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"empty line, and another after GET", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"PATCH", "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", true},
	{"OPTIONS", "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"POST without length", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", true},
	{"JDK", "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: a\r\nHTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\n\r\n", true},
	{"Expect", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n{}", true},
	{"body cut off", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{}", true},
	{"long body cut off", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036720368808\r\n\r\n{}", true},
	{"chunk cut off", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", true},

	{"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"unknown method", "QUERY / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", false},
	{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\ncontent-length: 5\r\n\r\n{}abc", false},
	{"length list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}", false},
	{"octal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 02\r\n\r\n{}", false},
	{"signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}", false},
	{"negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n{}", false},
	{"hexadecimal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n{}", false},
	{"endless length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n{}", false},
	{"length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
	{"chunked and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", false},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
	{"gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", false},
	{"identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", false},
	{"obscured chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x chunked\r\n\r\n0\r\n\r\n", false},
	{"other expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", false},
	{"two expectations", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", false},
	{"Connection nominates alone", "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-A\r\nX-A: b\r\n\r\n", false},
	{"escape cut off", "GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"nothing", "", true},

	{"POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", true},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"lower case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"absolute target", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"no slash", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"control character in target", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"tab in target", "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"UTF-8 in target", "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"bad escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"blank in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"two blanks", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"blank at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", false},
	{"1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", false},
	{"1.0 keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", false},
	{"1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", false},
	{"2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false},
	{"0.9", "GET /\r\n\r\n", false},
	{"TLS", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", false},
	{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	{"bare line feeds", "GET / HTTP/1.1\nHost: a\n\n", false},
	{"one bare line feed", "GET / HTTP/1.1\r\nX-A: b\nHost: a\r\n\r\n", false},
	{"last line feed bare", "GET / HTTP/1.1\r\nHost: a\r\n\n", false},
	{"bare carriage return", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", false},
	{"no host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n", false},
	{"no fields", "GET / HTTP/1.1\r\n\r\n", false},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", false},
	{"two hosts, one in lower case", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", false},
	{"odd host", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", false},
	{"host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", false},
	{"empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", false},
	{"blank before colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", false},
	{"blank before name", "GET / HTTP/1.1\r\nHost: a\r\n X-A: b\r\n\r\n", false},
	{"continued line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", false},
	{"no blank after colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A:b\r\n\r\n", false},
	{"two blanks after colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A:  b\r\n\r\n", false},
	{"blank after value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b \r\n\r\n", false},
	{"tab in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\tc\r\n\r\n", false},
	{"empty value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: \r\n\r\n", false},
	{"NUL in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00\r\n\r\n", false},
	{"DEL in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x7f\r\n\r\n", false},
	{"UTF-8 in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: ä\r\n\r\n", false},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", false},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", false},
	{"odd name", "GET / HTTP/1.1\r\nHost: a\r\nX(A: b\r\n\r\n", false},
	{"dot in name", "GET / HTTP/1.1\r\nHost: a\r\nX.A: b\r\n\r\n", false},
	{"Content-Length", "GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 2\r\n\r\n{}", true},
	{"Content-Length 0", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true},
	{"Transfer-Encoding", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", true},
	{"Connection: close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", true},
	{"Connection: Keep-Alive", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", true},
	{"Connection nominates", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-A\r\nX-A: b\r\n\r\n", false},
	{"Keep-Alive", "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\n\r\n", true},
	{"Upgrade", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n", true},
	{"HTTP2-Settings", "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: x\r\n\r\n", true},
	{"Expect without a body", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", false},
	{"TE", "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", true},
	{"Trailer", "GET / HTTP/1.1\r\nHost: a\r\nTrailer: X-A\r\n\r\n", false},
	{"Proxy-Connection", "GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: x\r\n\r\n", true},
	{"Pragma", "GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n", false},
	{"Pragma and Cache-Control", "GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nCache-Control: max-age=0\r\n\r\n", true},
	{"carriage return in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", false},
	{"head cut off", "GET / HTTP/1.1\r\nHost: a\r\n", false},
	{"request line cut off", "GET /", false},
	{"too many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + manyFields(65) + "\r\n", false},
	{"long", "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 17000) + "\r\n\r\n", false},
	{"too long", "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", false},
}

// TestSameRequest finds for every head that a handler sees the same request with
// a fast path as without, that the client sees the same answer, and that only what is
// plain is answered by the fast path.
func TestSameRequest(t *testing.T) {
	for _, tt := range heads {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			with, without := newFront(t, true, describe), newFront(t, false, describe)
			compare(t, with, without, tt.raw)
			if plain := with.others.Load() == 0; plain != tt.plain {
				t.Errorf("taken for plain: %t, want %t", plain, tt.plain)
			}
		})
	}
}

// FuzzSameRequest finds the same of any bytes.
func FuzzSameRequest(f *testing.F) {
	for _, tt := range heads {
		if len(tt.raw) < 10_000 {
			f.Add([]byte(tt.raw))
		}
	}
	with, without := newFront(f, true, describe), newFront(f, false, describe)
	f.Fuzz(func(t *testing.T, raw []byte) {
		compare(t, with, without, string(raw))
	})
}

// TestSameAnswer finds that what a handler answers reaches the client alike.
func TestSameAnswer(t *testing.T) {
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	for name, handle := range map[string]func(h http.Header, w http.ResponseWriter){
		"nothing with length": func(h http.Header, _ http.ResponseWriter) { h.Set("Content-Length", "0") },
		"length": func(h http.Header, w http.ResponseWriter) {
			h["Content-Length"], h["X-A"], h["Content-Type"] = []string{"3"}, []string{"1", "2"}, nil
			_, _ = io.WriteString(w, "abc")
		},
		"in parts": func(h http.Header, w http.ResponseWriter) {
			h.Set("Content-Length", "6")
			_, _ = io.WriteString(w, "abc")
			flush(w)
			_, _ = io.WriteString(w, "")
			_, _ = io.WriteString(w, "def")
		},
		"too short": func(h http.Header, w http.ResponseWriter) {
			h.Set("Content-Length", "6")
			_, _ = io.WriteString(w, "abc")
		},
		"too long": func(h http.Header, w http.ResponseWriter) {
			h.Set("Content-Length", "2")
			if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		},
		"large": func(h http.Header, w http.ResponseWriter) {
			h.Set("Content-Length", "300000")
			_, _ = w.Write(bytes.Repeat([]byte("x"), 300_000))
		},
		"stream": func(_ http.Header, w http.ResponseWriter) {
			flush(w)
			for range 3 {
				_, _ = io.WriteString(w, "data: 1\n\n")
				flush(w)
			}
		},
		"trailers": func(h http.Header, w http.ResponseWriter) {
			h.Set("Trailer", "X-B, x-c")
			flush(w)
			_, _ = io.WriteString(w, "abc")
			flush(w)
			h["X-B"], h["X-E"] = []string{"1"}, []string{"2"}
		},
		"trailer not announced": func(h http.Header, w http.ResponseWriter) {
			_, _ = io.WriteString(w, "abc")
			flush(w)
			h[http.TrailerPrefix+"X-B"] = []string{"1", "2"}
		},
		"204": func(h http.Header, w http.ResponseWriter) {
			h["Content-Length"], h["X-A"] = []string{"3"}, []string{"1"}
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		},
		"304": func(h http.Header, w http.ResponseWriter) {
			h["Content-Length"], h["Content-Type"], h["Etag"] = []string{"3"}, []string{"x"}, []string{"1"}
			w.WriteHeader(http.StatusNotModified)
		},
		"odd statuses": func(h http.Header, w http.ResponseWriter) {
			h.Set("Content-Length", "0")
			w.WriteHeader(799)
			w.WriteHeader(200)
		},
		"odd names": func(h http.Header, w http.ResponseWriter) {
			h["Content-Length"], h["X-A : b\r\nX-B"], h["X A"], h[""] = []string{"0"}, []string{"1"}, []string{"1"}, []string{"1"}
			w.WriteHeader(http.StatusOK)
		},
		"odd names of trailers": func(h http.Header, w http.ResponseWriter) {
			h.Set("Trailer", "X A, X-B")
			flush(w)
			_, _ = io.WriteString(w, "abc")
			flush(w)
			h["X A"], h["X-B"] = []string{"1"}, []string{"1"}
			h[http.TrailerPrefix+"X C"], h[http.TrailerPrefix+"X-D\r\n"] = []string{"1"}, []string{"1"}
		},
		"close": func(h http.Header, _ http.ResponseWriter) {
			h["Content-Length"], h["Connection"] = []string{"0"}, []string{"close"}
		},
		"abort at once": func(http.Header, http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"panic at once": func(http.Header, http.ResponseWriter) { panic("lost") },
		"abort midway": func(_ http.Header, w http.ResponseWriter) {
			flush(w)
			_, _ = io.WriteString(w, "abc")
			flush(w)
			_, _ = io.WriteString(w, "def")
			panic(http.ErrAbortHandler)
		},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				handler := func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/last" {
						w.Header().Set("Content-Length", "0")
						return
					}
					w.Header().Set("Content-Type", "text/plain")
					handle(w.Header(), w)
				}
				// A second request shows where the first response ends.
				raw := method + " /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /last HTTP/1.1\r\nHost: a\r\n\r\n"
				with, without := newFront(t, true, handler), newFront(t, false, handler)
				compare(t, with, without, raw)
				if with.others.Load() > 0 {
					t.Error("got a response of net/http, want one of the fast path")
				}
			})
		}
	}
}

// TestNoValueBeginsAField finds that what would not be read as one field isn't sent.
func TestNoValueBeginsAField(t *testing.T) {
	f := newFront(t, true, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Length"], h["X-A"], h["X-B"], h["X-C"] = []string{"0"}, []string{" b\r\nX-Evil: 1\r\n\r\n<html>"}, []string{"b\nX-Evil: 1"}, []string{" c\t"}
	})
	got := dates.ReplaceAllString(f.everything(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", patience), "")
	if want := "HTTP/1.1 200 OK\r\nX-C: c\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

const plainRequest = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"

// gate is a handler that says that it has begun, and waits.
type gate struct {
	begun chan context.Context
	open  chan struct{}
}

func newGate() *gate { return &gate{make(chan context.Context, 1), make(chan struct{}, 1)} }

func (g *gate) handle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "0")
	g.begun <- r.Context()
	select {
	case <-g.open:
	case <-r.Context().Done():
	}
}

// receive returns what ch gives.
func receive[T any](tb testing.TB, what string, ch <-chan T) (v T) {
	tb.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		tb.Fatalf("waited in vain, want: %s", what)
	}
	return v
}

// answered reads one answer without a body.
func (f *front) answered(r *bufio.Reader) *http.Response {
	f.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		f.Fatalf("http.ReadResponse: got error %v, want none", err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return res
}

// ends fails unless the connection is closed without another byte.
func (f *front) ends(r *bufio.Reader) {
	f.Helper()
	if b, err := r.ReadByte(); err == nil {
		f.Errorf("got %q, want the end of the connection", b)
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // of package net
		f.Error("connection stays open, want its end")
	}
}

func TestClientLeaves(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for wire.Linger: a client that has closed may only have ended its sending")
	}
	g := newGate()
	f := newFront(t, true, g.handle)
	c := f.dial()
	f.send(c, plainRequest)
	ctx := receive(t, "the request", g.begun)
	_ = c.Close()
	receive(t, "the end of its context", ctx.Done())
}

// TestNextRequestMeanwhile finds that what comes during a response isn't lost, and
// isn't taken for a client that leaves.
func TestNextRequestMeanwhile(t *testing.T) {
	g := newGate()
	f := newFront(t, true, g.handle)
	c := f.dial()
	r := bufio.NewReader(c)
	f.send(c, plainRequest)
	for i := range 5 {
		receive(t, "a request", g.begun)
		time.Sleep(20 * time.Millisecond) // let the fast path watch; it needs not
		f.send(c, plainRequest[:10])
		time.Sleep(5 * time.Millisecond)
		f.send(c, plainRequest[10:])
		g.open <- struct{}{}
		if res := f.answered(r); res.StatusCode != http.StatusOK {
			t.Fatalf("request %d: got %s, want 200", i, res.Status)
		}
	}
	g.open <- struct{}{}
	receive(t, "the last request", g.begun)
}

// TestOneWatcher finds that nothing is lost of what comes around the moment at
// which the fast path begins to look after the client, under load too.
func TestOneWatcher(t *testing.T) {
	f := newFront(t, true, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Length"], h["X-Target"] = []string{"0"}, []string{r.RequestURI}
		time.Sleep(10*time.Millisecond + time.Duration(rand.Int64N(int64(time.Millisecond))))
	})
	targets := []string{"/1", "/2", "/" + strings.Repeat("0123456789", 10)}
	var all sync.WaitGroup
	defer all.Wait()
	for range 100 {
		c := f.dial()
		all.Go(func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for range 10 {
				_, _ = io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
				go func() {
					for part := range slices.Chunk([]byte("GET "+targets[2]+" HTTP/1.1\r\nHost: a\r\n\r\n"), 20) {
						time.Sleep(2500 * time.Microsecond)
						_, _ = c.Write(part)
					}
				}()
				for _, target := range targets {
					res, err := http.ReadResponse(r, nil)
					if err != nil {
						t.Errorf("%q: got error %v, want a response", target, err)
						return
					}
					if got := res.Header.Get("X-Target"); got != target {
						t.Errorf("%q: got %d for %q, want 200", target, res.StatusCode, got)
						return
					}
				}
			}
		})
	}
}

// TestClientGone finds that nothing of a response that couldn't be sent gets into
// somebody else's.
func TestClientGone(t *testing.T) {
	g := newGate()
	f := newFront(t, true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/2" {
			w.Header().Set("Content-Length", "0")
			return
		}
		g.begun <- r.Context()
		<-r.Context().Done()
		_ = http.NewResponseController(w).Flush()
		w.Header().Set(http.TrailerPrefix+"X-Secret", "1")
		g.open <- struct{}{}
	})
	for range 10 {
		gone := f.dial()
		f.send(gone, plainRequest)
		receive(t, "the request", g.begun)
		_ = gone.SetLinger(0) // so that sending fails at once
		_ = gone.Close()
		receive(t, "the response", g.open)
		time.Sleep(time.Millisecond) // for the fast path to be done with it
		if got := f.everything(t, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", patience/100); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
			t.Fatalf("got %q, want 200", got)
		}
	}
}

// TestTimeouts finds that connections on which nothing happens end, and that a
// slow head is net/http's.
func TestTimeouts(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	const short = 200 * time.Millisecond
	t.Run("no request", func(t *testing.T) {
		f := newFront(t, true, describe, func(s *http.Server) { s.ReadHeaderTimeout = short })
		f.ends(bufio.NewReader(f.dial()))
	})
	t.Run("no further request", func(t *testing.T) {
		f := newFront(t, true, describe, func(s *http.Server) { s.IdleTimeout = short })
		c := f.dial()
		r := bufio.NewReader(c)
		f.send(c, plainRequest)
		f.answered(r)
		f.ends(r)
	})
	t.Run("slow head", func(t *testing.T) {
		// Long enough for the first bytes to come before it ends.
		f := newFront(t, true, describe, func(s *http.Server) { s.ReadHeaderTimeout = 10 * short })
		c := f.dial()
		f.send(c, plainRequest[:20])
		if _, err := io.ReadAll(c); err != nil { // it may say 408
			t.Errorf("io.ReadAll: got error %v, want none", err)
		}
		if f.others.Load() != 1 {
			t.Error("not given to the http.Server, want it there")
		}
	})
	t.Run("head in two parts", func(t *testing.T) {
		f := newFront(t, true, describe)
		c := f.dial()
		f.send(c, plainRequest[:20])
		time.Sleep(150 * time.Millisecond)
		f.send(c, plainRequest[20:])
		f.answered(bufio.NewReader(c))
	})
}

// TestShutdown finds that idle connections end at once, that requests finish,
// and that the responses tell their clients to leave.
func TestShutdown(t *testing.T) {
	g := newGate()
	f := newFront(t, true, g.handle)
	idle, quiet, busy := f.dial(), f.dial(), f.dial()
	f.send(idle, plainRequest)
	receive(t, "the first request", g.begun)
	g.open <- struct{}{}
	idleReader := bufio.NewReader(idle)
	f.answered(idleReader)
	f.send(busy, plainRequest)
	receive(t, "the second request", g.begun)
	done := make(chan error, 1)
	go func() { done <- errors.Join(f.server.Shutdown(t.Context()), f.fast.Wait(t.Context())) }()
	f.ends(idleReader)
	f.ends(bufio.NewReader(quiet))
	select {
	case err := <-done:
		t.Errorf("got %v while answering, want the server to wait", err)
	default:
	}
	g.open <- struct{}{}
	r := bufio.NewReader(busy)
	if res := f.answered(r); !res.Close {
		t.Error("got a response that doesn't say that the connection closes, want one that does")
	}
	f.ends(r)
	if err := receive(t, "the end", done); err != nil {
		t.Errorf("receive: got error %v, want none", err)
	}
	if c, err := net.Dial("tcp", f.address); err == nil {
		_ = c.Close()
		t.Error("still listens, want no listener")
	}
}

// TestCloseKept finds that connections between two requests can be closed while all others
// are served on.
func TestCloseKept(t *testing.T) {
	g := newGate()
	f := newFront(t, true, g.handle)
	kept, fresh, busy := f.dial(), f.dial(), f.dial()
	serve := func(c net.Conn) *bufio.Reader {
		f.send(c, plainRequest)
		receive(t, "a request", g.begun)
		g.open <- struct{}{}
		r := bufio.NewReader(c)
		f.answered(r)
		return r
	}
	keptReader := serve(kept)
	f.send(busy, plainRequest)
	receive(t, "the busy one's request", g.begun)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.ends(keptReader)
	}()
	for waiting := true; waiting; { // the response comes a moment before the connection is kept
		f.fast.CloseKept()
		select {
		case <-ended:
			waiting = false
		case <-time.After(time.Millisecond):
		}
	}
	g.open <- struct{}{}
	f.answered(bufio.NewReader(busy))
	serve(busy)
	serve(fresh)
}

// TestShutdownEnds finds that requests that take too long are broken off.
func TestShutdownEnds(t *testing.T) {
	g := newGate()
	f := newFront(t, true, g.handle)
	c := f.dial()
	f.send(c, plainRequest)
	ctx := receive(t, "the request", g.begun)
	f.fast.Close()
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := f.fast.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fast.Wait: got error %v, want none", err)
	}
	receive(t, "the end of the request's context", ctx.Done())
}

// TestPanicIsLogged finds that a panic of the handler is told, and an abort isn't.
func TestPanicIsLogged(t *testing.T) {
	for _, p := range []any{"lost", http.ErrAbortHandler} {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			f := newFront(t, true, func(http.ResponseWriter, *http.Request) { panic(p) })
			if got := f.everything(t, plainRequest, patience); got != "" {
				t.Errorf("got %q, want nothing", got)
			}
			if err := f.fast.Wait(t.Context()); err != nil {
				t.Fatalf("fast.Wait: got error %v, want none", err)
			}
			if logged := strings.Contains(f.log.String(), "panic serving"); logged != (p == "lost") {
				t.Errorf("got log %q, want a panic: %t", f.log.String(), p == "lost")
			}
		})
	}
}

// TestStream finds that what a handler flushes arrives before the response ends.
func TestStream(t *testing.T) {
	next := make(chan struct{})
	f := newFront(t, true, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		for range next {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
	})
	c := f.dial()
	f.send(c, plainRequest)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("http.ReadResponse: got error %v, want none", err)
	}
	for range 3 {
		next <- struct{}{}
		if n, err := res.Body.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Fatalf("got %d bytes (%v), want 1", n, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("got rest %q (%v), want none", rest, err)
	}
}

// TestAbandonedBody: of a body that nobody has read nothing is taken for a request, and
// the response arrives all the same.
func TestAbandonedBody(t *testing.T) {
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, tt := range []struct{ name, framing, body string }{
		{"length", fmt.Sprintf("Content-Length: %d", len(smuggled)), smuggled},
		{"length, cut off", "Content-Length: 100000", smuggled},
		{"length, large", "Content-Length: 200000", strings.Repeat(smuggled, 5000)},
		{"chunked", "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)},
		{"waits", "Expect: 100-continue\r\nContent-Length: 2", ""},
	} {
		for _, half := range []bool{false, true} {
			f := newFront(t, true, func(w http.ResponseWriter, r *http.Request) {
				if half {
					_, _ = r.Body.Read(make([]byte, 1))
				}
				w.Header().Set("Content-Length", "2")
				_, _ = io.WriteString(w, "no")
			})
			if half && tt.body == "" {
				continue
			}
			got := f.everything(t, "POST /1 HTTP/1.1\r\nHost: a\r\n"+tt.framing+"\r\n\r\n"+tt.body, patience/10)
			if strings.Count(got, "HTTP/1.1") != 1 || !strings.HasSuffix(got, "\r\n\r\nno") {
				t.Errorf("%s, half read %t: got %q, want one response", tt.name, half, got)
			}
		}
	}
}

// TestContinue: a client that waits is told to send its body when somebody reads it, and
// not once it has its response (RFC 9110 §10.1.1).
func TestContinue(t *testing.T) {
	const head, told = "POST /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"
	for name, times := range map[string]int{"read first": 1, "written first": 0} {
		f := newFront(t, true, func(w http.ResponseWriter, r *http.Request) {
			if times == 0 {
				_ = http.NewResponseController(w).Flush()
			}
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(append([]byte("got "), body...))
		})
		c := f.dial()
		f.send(c, head)
		r := bufio.NewReader(c)
		first, err := r.Peek(len(told))
		if (string(first) == told) != (times > 0) || err != nil {
			t.Errorf("%s: got %q, %v, want to be told to send: %t", name, first, err, times > 0)
		}
		f.send(c, "{}")
		if got, _ := io.ReadAll(r); strings.Count(string(got), told) != times || !bytes.Contains(got, []byte("got {}")) {
			t.Errorf("%s: got %q, want what was sent, after %d responses of 100", name, got, times)
		}
	}
}
