package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// TestTLS: a server behind TLS is spoken to alike, over a connection that is used
// again; its certificate counts.
func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+" "+string(body))
	}))
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := New(base, Limits{HeaderTimeout: patience})
	defer tr.CloseIdleConnections()
	send := func() (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, io.NopCloser(io.LimitReader(zeros{}, 0)))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = -1
		return fetched(tr, r)
	}
	if got, err := send(); err == nil {
		t.Errorf("unknown authority: got %q, want an error", got)
	}
	tr.tls.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	var last *conn
	for range 3 {
		if got, err := send(); got != "200 HTTP/1.1 " || err != nil {
			t.Fatalf("over TLS: got %q, %v, want 200 HTTP/1.1", got, err)
		}
		if n := tr.idleCount(); n != 1 || last != nil && tr.idle.conns[0] != last {
			t.Errorf("connections: got %d, want the same one", n)
		}
		last = tr.idle.conns[0]
	}
}

// TestTLSLeftover: what TLS has read beyond a response is noticed before the next
// request.
func TestTLSLeftover(t *testing.T) {
	if !canPeek {
		t.Skip("no connection is used again here")
	}
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := tls.NewListener(inner, &tls.Config{Certificates: cert.TLS.Certificates, MinVersion: tls.VersionTLS12})
	conns := make(chan net.Conn, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			conns <- c
			// Two records at once: the client's TLS may read both of them.
			b := make([]byte, 4096)
			_, _ = c.Read(b)
			_, _ = io.WriteString(c, okResponse)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
		}
	}()
	defer func() {
		_ = listener.Close()
		<-done
		for len(conns) > 0 {
			_ = (<-conns).Close()
		}
	}()
	tr := New(&url.URL{Scheme: "https", Host: inner.Addr().String()}, Limits{HeaderTimeout: patience})
	tr.tls.RootCAs = cert.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	defer tr.CloseIdleConnections()
	for range 5 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+inner.Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fetched(tr, r); got != "200 {}" && err == nil {
			t.Errorf("got %q, want 200 {} or a failure, never another's response", got)
		}
		time.Sleep(5 * time.Millisecond) // for the rest to arrive
	}
}
