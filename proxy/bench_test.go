package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// benchToken has the length of a Koppeltaal access token.
var benchToken = strings.Repeat("eyJhbGciOiJSUzM4NCJ9", 40)

const benchPatient = `{"resourceType":"Patient","id":"123","meta":{"versionId":"1"},"active":true}`

// benchRequest is what arrives from an ordinary FHIR client.
func benchRequest(tb testing.TB) *http.Request {
	tb.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET /fhir/Patient/123?_summary=true HTTP/1.1\r\n" +
		"Host: fhir.example.org\r\nUser-Agent: HAPI-FHIR/6.8.0 (FHIR Client; FHIR 4.0.1/R4; apache)\r\n" +
		"Accept: application/fhir+json\r\nAuthorization: Bearer " + benchToken + "\r\n" +
		"X-Request-Id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301\r\n\r\n")))
	if err != nil {
		tb.Fatalf("http.ReadRequest: got error %v, want none", err)
	}
	r.RemoteAddr = "10.1.2.3:45678"
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), http.ServerContextKey, &http.Server{}))
	tb.Cleanup(cancel)
	return r.WithContext(ctx)
}

// newMemoryServer is a FHIR server that answers heads without a body, with as little work
// as can be. It returns its base.
func newMemoryServer(tb testing.TB, answer func(head string) string) *url.URL {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("net.Listen: got error %v, want none", err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerHeads(conn, answer)
		}
	}()
	return &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/fhir"}
}

func answerHeads(conn net.Conn, answer func(head string) string) {
	defer conn.Close()
	buffer := make([]byte, 32<<10)
	for read := 0; ; {
		n, err := conn.Read(buffer[read:])
		if read += n; err != nil {
			return
		}
		if !bytes.HasSuffix(buffer[:read], []byte("\r\n\r\n")) {
			continue
		}
		if _, err := io.WriteString(conn, answer(string(buffer[:read]))); err != nil {
			return
		}
		read = 0
	}
}

// benchServer answers with a patient, and fails without context headers where the
// request has a token.
func benchServer(tb testing.TB) *url.URL {
	tb.Helper()
	return newMemoryServer(tb, func(head string) string {
		if strings.Contains(head, "Authorization") && strings.Count(head, "\r\nX-Launch-Patient: ") != 1 {
			return "HTTP/1.1 500 No context\r\nContent-Length: 0\r\n\r\n"
		}
		return benchAnswer
	})
}

var benchAnswer = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nEtag: W/\"1\"\r\n"+
	"Last-Modified: Mon, 05 Oct 2026 10:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", len(benchPatient), benchPatient)

// benchWriter is a client that costs nothing.
type benchWriter struct {
	header http.Header
	status int
}

func (w *benchWriter) Header() http.Header         { return w.header }
func (w *benchWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *benchWriter) WriteHeader(status int)      { w.status = status }

// benchProxy is a proxy as it runs by default, metrics exported.
func benchProxy(tb testing.TB, verdicts introspection.Introspector) *Proxy {
	tb.Helper()
	p, err := New(Config{
		Upstream:     benchServer(tb),
		Introspector: verdicts, TokenRef: func(string) string { return "00000000" },
		MaxTokenBytes: 8192, PublicPaths: []string{"metadata", ".well-known/smart-configuration"},
		Headers: defaultHeaders(), HeaderPrefix: "X-Launch-", Registerer: prometheus.NewPedanticRegistry(),
	})
	if err != nil {
		tb.Fatalf("New: got error %v, want none", err)
	}
	tb.Cleanup(p.CloseIdleConnections)
	return p
}

func benchCache(tb testing.TB, source introspection.Introspector) *cache.Cache {
	tb.Helper()
	c, err := cache.New(cache.Config{
		Source: source, Authority: func() string { return "https://as.example.org/introspect\x00bearer sidecar" },
		Timeout: time.Minute, MaxEntries: 100, InactiveAge: time.Hour, Registerer: prometheus.NewPedanticRegistry(),
	})
	if err != nil {
		tb.Fatalf("cache.New: got error %v, want none", err)
	}
	tb.Cleanup(c.Close)
	return c
}

// BenchmarkHit shows what a request with a known token costs. What the sidecar
// adds is the difference between a line and the first one, which is
// httputil.ReverseProxy alone; all have the same client and the same server.
func BenchmarkHit(b *testing.B) {
	response := decode(b, fmt.Sprintf(seedAnswer, time.Now().Add(24*time.Hour).Unix()))
	known := introspectorFunc(func(context.Context, string) (*introspection.Response, error) { return response, nil })
	upstream := newMemoryServer(b, func(string) string { return benchAnswer })
	transport := &http.Transport{}
	b.Cleanup(transport.CloseIdleConnections)
	handlers := []struct {
		name string
		http.Handler
	}{
		{"reverseproxy", &httputil.ReverseProxy{
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.Out.URL.Scheme, pr.Out.URL.Host = upstream.Scheme, upstream.Host
			},
			Transport: transport,
		}},
		{"proxy", benchProxy(b, known)},
		{"proxy+cache", benchProxy(b, benchCache(b, known))},
	}
	for _, h := range handlers {
		b.Run(h.name, func(b *testing.B) {
			r, w := benchRequest(b), &benchWriter{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, r)
			}
			if w.status != http.StatusOK {
				b.Fatalf("got status %d, want 200", w.status)
			}
		})
	}
}

// BenchmarkRefusal shows what a request costs that is not let through: a stranger
// can send as many as he likes.
func BenchmarkRefusal(b *testing.B) {
	nobody := introspectorFunc(func(context.Context, string) (*introspection.Response, error) {
		return nil, introspection.ErrInactive
	})
	p := benchProxy(b, benchCache(b, nobody))
	for _, refused := range []struct {
		name, target string
		header       http.Header
		status       int
	}{
		{"no token", "/fhir/Patient/123", http.Header{}, http.StatusUnauthorized},
		{"known junk", "/fhir/Patient/123", http.Header{"Authorization": {"Bearer junk"}}, http.StatusUnauthorized},
		{"ambiguous path", "/fhir/metadata/..;/Patient", http.Header{}, http.StatusBadRequest},
		{"outside the base", "/", http.Header{}, http.StatusNotFound},
	} {
		b.Run(refused.name, func(b *testing.B) {
			r, w := benchRequest(b), &benchWriter{header: make(http.Header)}
			r.RequestURI, r.Header = refused.target, refused.header
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				p.ServeHTTP(w, r)
			}
			if w.status != refused.status {
				b.Fatalf("got status %d, want %d", w.status, refused.status)
			}
		})
	}
}

// BenchmarkExchange shows what a request with a known token costs from the client's
// socket to the FHIR server's and back, in the fast path.
func BenchmarkExchange(b *testing.B) {
	response := decode(b, fmt.Sprintf(seedAnswer, time.Now().Add(24*time.Hour).Unix()))
	known := introspectorFunc(func(context.Context, string) (*introspection.Response, error) { return response, nil })
	p := benchProxy(b, benchCache(b, known))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatalf("net.Listen: got error %v, want none", err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	fast := fastpath.New(fastpath.Config{
		Handler:       func(ctx context.Context, r *wire.Request, x *fastpath.Exchange) { p.Serve(ctx, r, x) },
		HeaderTimeout: time.Minute, IdleTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
	})
	b.Cleanup(fast.Close)
	go func() {
		for c, err := listener.Accept(); err == nil; c, err = listener.Accept() {
			go fast.Serve(c)
		}
	}()
	for _, request := range []struct{ name, text string }{
		{"hit", "GET /fhir/Patient/123?_summary=true HTTP/1.1\r\nHost: fhir.example.org\r\n" +
			"User-Agent: HAPI-FHIR/6.8.0 (FHIR Client; FHIR 4.0.1/R4; apache)\r\nAccept: application/fhir+json\r\n" +
			"Authorization: Bearer " + benchToken + "\r\nConnection: Keep-Alive\r\n\r\n"},
		{"no token", "GET /fhir/Patient/123 HTTP/1.1\r\nHost: fhir.example.org\r\nAccept: application/fhir+json\r\n\r\n"},
	} {
		b.Run(request.name, func(b *testing.B) { benchExchange(b, listener.Addr().String(), []byte(request.text)) })
	}
}

func benchExchange(b *testing.B, address string, request []byte) {
	b.Helper()
	client, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatalf("net.Dial: got error %v, want none", err)
	}
	b.Cleanup(func() { _ = client.Close() })
	response := make([]byte, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(request); err != nil {
			b.Fatalf("Write: got error %v, want none", err)
		}
		n, err := client.Read(response) // which comes in one write
		if err != nil || !bytes.HasPrefix(response[:n], []byte("HTTP/1.1 ")) || bytes.HasPrefix(response[:n], []byte("HTTP/1.1 5")) {
			b.Fatalf("Read: got %q and error %v, want a response", response[:n], err)
		}
	}
}
