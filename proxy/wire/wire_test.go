package wire_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// TestMain looks for goroutines that are left. net/http lets an ended connection
// linger for half a second, which is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// patience is far beyond what any test takes; it only ends one that hangs.
const patience = 15 * time.Second

// front is a server behind a wire.Listener.
type front struct {
	testing.TB
	address string
	roots   *x509.CertPool

	mu       sync.Mutex
	requests []string
	reported []string
}

func (f *front) seen() (requests, reported []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests), slices.Clone(f.reported)
}

// newFront serves with handler; nil answers with what it has read.
func newFront(tb testing.TB, secured bool, handler http.HandlerFunc) *front {
	tb.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &front{TB: tb, address: inner.Addr().String()}
	if handler == nil {
		handler = f.echo
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience, IdleTimeout: patience, ErrorLog: log.New(io.Discard, "", 0), MaxHeaderBytes: 16 << 10}
	config := wire.Config{Report: func(reason wire.Reason, status int, peer string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !strings.HasPrefix(peer, "127.0.0.1:") {
			tb.Errorf("peer: got %q, want an address", peer)
		}
		f.reported = append(f.reported, fmt.Sprint(status, " ", reason))
	}}
	if secured {
		config.TLS, f.roots = certificate(tb)
	}
	listener, ended := wire.New(inner, server, config), make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	tb.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return f
}

func (f *front) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	f.requests = append(f.requests, fmt.Sprintf("%s %s %q", r.Method, r.RequestURI, body))
	f.mu.Unlock()
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	_, _ = fmt.Fprintf(w, "%s %t", body, r.TLS != nil)
}

func certificate(tb testing.TB) (*tls.Config, *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}, roots
}

func (f *front) dial() net.Conn {
	f.Helper()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		f.Fatal(err)
	}
	if f.roots != nil {
		c = tls.Client(c, &tls.Config{RootCAs: f.roots, ServerName: "127.0.0.1"})
	}
	f.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// everything sends the bytes in pieces of that size, says that no more will come,
// and returns what comes back.
func (f *front) everything(raw string, size int) string {
	f.Helper()
	c := f.dial()
	go func() {
		for rest := raw; rest != ""; {
			n := min(size, len(rest))
			if _, err := io.WriteString(c, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		f.Fatalf("after %.100q: got error %v, want the end", raw, err)
	}
	return string(got)
}

const host = "Host: a\r\n"

// TestHeads: what has one reading passes, whole and in pieces, over TCP and TLS; the
// rest is refused before a handler sees it, and told of once.
func TestHeads(t *testing.T) {
	many := strings.Repeat("x", 40<<10)
	for _, tt := range []struct {
		name, raw string
		requests  []string // that the handler sees
		reported  string   // "" for nothing
	}{
		{"GET", "GET /1 HTTP/1.1\r\n" + host + "\r\n", []string{`GET /1 ""`}, ""},
		{"two", "GET /1 HTTP/1.1\r\n" + host + "\r\nGET /2 HTTP/1.1\r\n" + host + "\r\n", []string{`GET /1 ""`, `GET /2 ""`}, ""},
		{"length", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\na\nbGET /2 HTTP/1.1\r\n" + host + "\r\n", []string{`POST /1 "a\nb"`, `GET /2 ""`}, ""},
		{
			"chunks", "POST /1 HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\n" + host + "\r\n",
			[]string{`POST /1 "a\nb0123456789"`, `GET /2 ""`},
			"",
		},
		{"zero", "POST /1 HTTP/1.1\r\n" + host + "content-length:0\r\n\r\nGET /2 HTTP/1.1\r\n" + host + "\r\n", []string{`POST /1 ""`, `GET /2 ""`}, ""},
		{"same length twice", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", []string{`POST /1 "a"`}, ""},
		{"1.0", "GET /1 HTTP/1.0\r\n\r\n", []string{`GET /1 ""`}, ""},
		{
			"empty line after a body", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\na\r\nPOST /2 HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
			[]string{`POST /1 "a"`, `POST /2 "hello"`},
			"",
		},
		{"nothing", "", nil, ""},

		{"bare after an empty line", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\na\r\nGET /2 HTTP/1.1\n" + host + "\r\n", []string{`POST /1 "a"`}, "400 line_end"},
		{"bare line feeds", "GET /1 HTTP/1.1\nHost: a\n\n", nil, "400 line_end"},
		{"one bare line feed", "GET /1 HTTP/1.1\r\nX: y\n" + host + "\r\n", nil, "400 line_end"},
		{"the last one bare", "GET /1 HTTP/1.1\r\n" + host + "\n", nil, "400 line_end"},
		{"a bare one in a field", "GET /1 HTTP/1.1\r\n" + host + "X: y\nGET /2 HTTP/1.1\r\n\r\n", nil, "400 line_end"},
		{"bare in the second", "GET /1 HTTP/1.1\r\n" + host + "\r\nGET /2 HTTP/1.1\nHost: a\n\n", []string{`GET /1 ""`}, "400 line_end"},
		{"bare after a body", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\naGET /2 HTTP/1.1\n" + host + "\r\n", []string{`POST /1 "a"`}, "400 line_end"},
		{"length with a zero", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 010\r\n\r\n0123456789", nil, "400 framing"},
		{"length with a plus", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: +5\r\n\r\n01234", nil, "400 framing"},
		{"no length", "POST /1 HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", nil, "400 framing"},
		{"length list", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\na", nil, "400 framing"},
		{"two lengths", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", nil, "400 framing"},
		{"continued length", "POST /1 HTTP/1.1\r\n" + host + "Content-Length: 1\r\n 0\r\n\r\n0123456789", nil, "400 framing"},
		{"continued coding", "POST /1 HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", nil, "400 framing"},

		{"two hosts", "GET /1 HTTP/1.1\r\n" + host + host + "\r\n", nil, "400 host"},
		{"no host", "GET /1 HTTP/1.1\r\n\r\n", nil, "400 host"},
		{"space in a name", "GET /1 HTTP/1.1\r\n" + host + "X Y: z\r\n\r\n", nil, "400 field"},
		{"NUL in a value", "GET /1 HTTP/1.1\r\n" + host + "X: \x00\r\n\r\n", nil, "400 malformed"},
		{"too large", "GET /1 HTTP/1.1\r\n" + host + "X: " + many + "\r\n\r\n", nil, "431 too_large"},
		{"other coding", "POST /1 HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", nil, "501 transfer_encoding"},
		{"version", "GET /1 HTTP/3.0\r\n" + host + "\r\n", nil, "505 version"},
		{"no HTTP", "SSH-2.0-x\r\n\r\n", nil, "400 malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, secured := range []bool{false, true} {
				for _, size := range []int{1 << 20, 7, 1} {
					if size == 1 && len(tt.raw) > 1000 || secured && tt.raw == "" { // or the client never begins TLS
						continue
					}
					f := newFront(t, secured, nil)
					response := f.everything(tt.raw, size)
					requests, reported := f.seen()
					if !slices.Equal(requests, tt.requests) {
						t.Errorf("TLS %t, pieces of %d: got requests %q, want %q; response %.200q", secured, size, requests, tt.requests, response)
					}
					if got := strings.Join(reported, ", "); got != tt.reported {
						t.Errorf("TLS %t, pieces of %d: got report %q, want %q; response %.200q", secured, size, got, tt.reported, response)
					}
					if tt.reported != "" && !strings.Contains(response, "HTTP/1.1 "+tt.reported[:3]+" ") {
						t.Errorf("TLS %t, pieces of %d: got response %.200q, want %s", secured, size, response, tt.reported[:3])
					}
				}
			}
		})
	}
}

// TestMalformedChunks: where a body ends in a way that others may not see, nothing
// after it is a request.
func TestMalformedChunks(t *testing.T) {
	for _, chunks := range []string{
		"1\nx\r\n0\r\n\r\n", "1\r\nx\n0\r\n\r\n", "1\r\nx\r\n0\n\r\n", "1\r\nx\r\n0\r\n\n", "0x1\r\nx\r\n0\r\n\r\n", "-1\r\n", "\r\n", "1\r\nxy\r\n0\r\n\r\n",
		"1;a\nb\r\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\nX: y\n\r\n", "0000000000000001\r\nx\r\n0\r\n\r\n",
	} {
		f := newFront(t, false, nil)
		f.everything("POST /1 HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n"+chunks+"GET /2 HTTP/1.1\r\n"+host+"\r\n", 1<<20)
		requests, _ := f.seen()
		if i := slices.IndexFunc(requests, func(r string) bool { return strings.Contains(r, "/2") }); i >= 0 {
			t.Errorf("after %q: got request %q, want none", chunks, requests[i])
		}
	}
}

// TestTLS: a handler sees over HTTP/1.1 that it was TLS, and HTTP/2 passes.
func TestTLS(t *testing.T) {
	f := newFront(t, true, nil)
	for _, http2 := range []bool{false, true} {
		var protocols http.Protocols
		protocols.SetHTTP1(!http2)
		protocols.SetHTTP2(http2)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots}, Protocols: &protocols}
		res, err := (&http.Client{Transport: transport}).Post("https://"+f.address+"/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatalf("HTTP/2 %t: got %v, want a response", http2, err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		transport.CloseIdleConnections()
		if got, want := fmt.Sprint(res.ProtoMajor, " ", string(body)), map[bool]string{false: "1 body true", true: "2 body true"}[http2]; got != want {
			t.Errorf("HTTP/2 %t: got %q, want %q", http2, got, want)
		}
	}
}

// TestHandshake: what isn't TLS is told of, and answered as net/http does; a probe
// that says nothing isn't.
func TestHandshake(t *testing.T) {
	f := newFront(t, true, nil)
	f.roots = nil
	if got := f.everything("GET / HTTP/1.1\r\n"+host+"\r\n", 1<<20); !strings.HasPrefix(got, "HTTP/1.0 400 ") {
		t.Errorf("plain HTTP: got %q, want 400", got)
	}
	f.everything("", 1)
	if _, reported := f.seen(); !slices.Equal(reported, []string{"0 tls_handshake"}) {
		t.Errorf("reported: got %q, want one handshake", reported)
	}
}

// TestHalfClosed: a client that only says that it won't send more gets its response;
// one that resets its connection ends its request at once, and one that stays away
// does in the end (RFC 9112 §9.6).
func TestHalfClosed(t *testing.T) {
	for _, secured := range []bool{false, true} {
		for _, method := range []string{"GET", "POST"} {
			for _, reset := range []bool{false, true} {
				t.Run(fmt.Sprint(method, " TLS ", secured, " reset ", reset), func(t *testing.T) {
					t.Parallel()
					began, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
					f := newFront(t, secured, func(w http.ResponseWriter, r *http.Request) {
						_, _ = io.ReadAll(r.Body)
						close(began)
						select {
						case <-release:
							_, _ = io.WriteString(w, "late")
						case <-r.Context().Done():
						}
						ended <- r.Context().Err()
					})
					c := f.dial()
					_, _ = io.WriteString(c, method+" / HTTP/1.1\r\n"+host+"Content-Length: 0\r\n\r\n")
					<-began
					_ = c.(interface{ CloseWrite() error }).CloseWrite()
					if !reset {
						time.AfterFunc(300*time.Millisecond, func() { close(release) }) // long after net/http would have seen it
						response, err := http.ReadResponse(bufio.NewReader(c), nil)
						if err != nil {
							t.Fatalf("half-closed: got %v, want a response", err)
						}
						body, _ := io.ReadAll(response.Body)
						if err := <-ended; string(body) != "late" || err != nil {
							t.Errorf("half-closed: got %q, %v, want the whole response", body, err)
						}
						return
					}
					time.Sleep(100 * time.Millisecond) // the end arrives before the reset
					tcp := c
					if s, ok := c.(*tls.Conn); ok {
						tcp = s.NetConn()
					}
					_ = tcp.(*net.TCPConn).SetLinger(0)
					_ = tcp.Close()
					select {
					case err := <-ended:
						if !errors.Is(err, context.Canceled) {
							t.Errorf("reset: got %v, want %v", err, context.Canceled)
						}
					case <-time.After(wire.Linger / 2):
						t.Errorf("reset: got a request that goes on, want it cancelled at once")
						close(release)
					}
				})
			}
		}
	}
}

// TestLeft: a client that is gone without a reset ends its request when its time is up.
func TestLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a client gets")
	}
	began, ended := make(chan struct{}), make(chan error)
	f := newFront(t, false, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	c := f.dial()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n"+host+"\r\n")
	<-began
	left := time.Now()
	_ = c.(*net.TCPConn).CloseWrite()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if took := time.Since(left); took < wire.Linger-time.Second || took > wire.Linger+5*time.Second {
		t.Errorf("took %v, want about %v", took, wire.Linger)
	}
}

// TestIdleEnd: a connection that nobody waits on closes at once.
func TestIdleEnd(t *testing.T) {
	f := newFront(t, false, nil)
	c := f.dial()
	began := time.Now()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n"+host+"\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(res.Body)
	_ = c.(*net.TCPConn).CloseWrite()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) || time.Since(began) > wire.Linger/2 {
		t.Errorf("got %v after %v, want the end at once", err, time.Since(began))
	}
}

// FuzzRequests: whatever comes, a handler sees no request that it wouldn't see
// without this package, in the order it would see it.
func FuzzRequests(f *testing.F) {
	for _, raw := range []string{
		"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /1 HTTP/1.1\nHost: a\n\n", "POST /1 HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(raw))
	}
	with := newFront(f, false, nil)
	without := &front{TB: f}
	plain := httptest.NewUnstartedServer(http.HandlerFunc(without.echo))
	plain.Config.ErrorLog, plain.Config.MaxHeaderBytes = log.New(io.Discard, "", 0), 16<<10
	plain.Start()
	f.Cleanup(plain.Close)
	without.address = plain.Listener.Addr().String()
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Without, the end of what is sent is taken for the client's: it comes late.
		got := requestsOf(t, with, raw)
		want := requestsOf(t, without, raw)
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("%q: got requests %q, want the first of %q", raw, got, want)
		}
	})
}

func requestsOf(t *testing.T, f *front, raw []byte) []string {
	t.Helper()
	f.mu.Lock()
	f.requests = nil
	f.mu.Unlock()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write(raw)
	time.AfterFunc(20*time.Millisecond, func() { _ = c.(*net.TCPConn).CloseWrite() })
	_, _ = io.Copy(io.Discard, c)
	requests, _ := f.seen()
	return requests
}
