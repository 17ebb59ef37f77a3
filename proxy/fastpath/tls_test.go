package fastpath_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// TestTLS: over TLS too canonical requests are served here, with their bodies, and others
// by an http.Server that knows of the TLS; HTTP/2 is its own.
func TestTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	certificates, client := certified.TLS.Certificates, certified.Client()
	certified.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	var others atomic.Int32 // requests that the http.Server got
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := fmt.Sprintf("%s %s %t %s", r.Proto, r.Method, r.TLS != nil, body)
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text)
	}
	server := &http.Server{ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		others.Add(1)
		handler(w, r)
	})
	fast := fastpath.New(fastpath.Config{
		Handler: adapted(http.HandlerFunc(handler)), HeaderTimeout: patience, IdleTimeout: patience, ErrorLog: server.ErrorLog,
	})
	server.RegisterOnShutdown(fast.Close)
	wired := wire.New(listener, server, wire.Config{TLS: &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12}, Serve: fast.Serve})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(wired)
	}()
	defer func() {
		_ = server.Close()
		fast.Close()
		_ = fast.Wait(t.Context())
		<-ended
	}()
	roots := client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	c, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatalf("tls.Dial: got error %v, want none", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for _, tt := range []struct {
		raw, want string
		others    int32
	}{
		{"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 GET true ", 0},
		{"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 POST true {}", 0},
		{"PUT /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "HTTP/1.1 PUT true a", 0},
		{"GET /4 HTTP/1.1\r\nHost:a\r\n\r\n", "HTTP/1.1 GET true ", 1},
		{"GET /5 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 GET true ", 2}, // it has the connection now
	} {
		if _, err := io.WriteString(c, tt.raw); err != nil {
			t.Fatalf("%q: got error %v, want none", tt.raw, err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%q: got error %v, want a response", tt.raw, err)
		}
		if got, _ := io.ReadAll(res.Body); string(got) != tt.want || others.Load() != tt.others {
			t.Errorf("%q: got %q, %d of them by the http.Server, want %q, %d", tt.raw, got, others.Load(), tt.want, tt.others)
		}
	}
	both := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}}
	defer both.CloseIdleConnections()
	res, err := both.Get("https://" + listener.Addr().String())
	if err != nil {
		t.Fatalf("HTTP/2: got error %v, want a response", err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != "HTTP/2.0 GET true " {
		t.Errorf("HTTP/2: got %q, want one of HTTP/2.0", got)
	}
}
