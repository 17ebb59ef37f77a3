package transport

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// tlsServer tells with which certificate and protocol it was called.
func tlsServer(t *testing.T, conf *tls.Config) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if certs := r.TLS.PeerCertificates; len(certs) > 0 {
			name = certs[0].Subject.CommonName
		}
		_, _ = fmt.Fprintf(w, "%s %s resumed=%v", name, r.Proto, r.TLS.DidResume)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS, server.EnableHTTP2 = conf, true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func mustClient(t *testing.T, cfg Config) *http.Client {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	client, err := NewClient(cfg)
	if err != nil {
		t.Fatalf("NewClient: got error %v, want none", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// getBody returns the body, or the redacted error.
func getBody(client *http.Client, url string) (string, error) {
	res, err := client.Get(url)
	if err != nil {
		return "", Redact(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func expectBody(t *testing.T, client *http.Client, url, want string) {
	t.Helper()
	if body, err := getBody(client, url); body != want || err != nil {
		t.Errorf("answer %q, %v, want %q", body, err, want)
	}
}

func expectError(t *testing.T, client *http.Client, url, want string) {
	t.Helper()
	if body, err := getBody(client, url); err == nil || err.Error() != want {
		t.Errorf("answer %q, error %v, want %q", body, err, want)
	}
}

// TestRedirectsAreAnswers is G25: nothing follows, and nothing is sent there.
func TestRedirectsAreAnswers(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	other.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			elsewhere.Add(1)
		}
	}
	other.Start()
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL, status))
		defer server.Close()
		client := mustClient(t, Config{})
		res, err := client.Post(server.URL, "application/x-www-form-urlencoded", strings.NewReader("token="+canary))
		if err != nil {
			t.Fatalf("client.Post: got error %v, want none", err)
		}
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("status %d, want %d", res.StatusCode, status)
		}
	}
	if elsewhere.Load() != 0 {
		t.Errorf("got %d connections to where the redirects lead, want none", elsewhere.Load())
	}
}

// TestNoProxyNoCookies is G38.
func TestNoProxyNoCookies(t *testing.T) {
	client := mustClient(t, Config{})
	streams := client.Transport.(*reloadingTransport).current().current()
	if streams.Proxy != nil {
		// net/http reads the environment once and never for loopback, so that
		// a proxy in it can't be tried here.
		t.Error("a proxy is looked up, want none")
	}
	var cookies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookies = append(cookies, r.Header.Get("Cookie"))
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "x"})
	}))
	defer server.Close()
	for range 2 {
		expectBody(t, client, server.URL, "")
	}
	if !slices.Equal(cookies, []string{"", ""}) {
		t.Errorf("got cookies %q, want none", cookies)
	}
}

func TestUserAgent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.UserAgent())
	}))
	defer server.Close()
	client := mustClient(t, Config{UserAgent: "sidecar/1"})
	expectBody(t, client, server.URL, "sidecar/1")
	req := must(http.NewRequest(http.MethodGet, server.URL, nil))
	res := must(client.Transport.RoundTrip(req))
	_ = res.Body.Close()
	if len(req.Header) != 0 {
		t.Errorf("the caller's header became %v, want it left alone", req.Header)
	}
	req.Header.Set("User-Agent", "other")
	res = must(client.Do(req))
	defer res.Body.Close()
	if body := must(io.ReadAll(res.Body)); string(body) != "other" {
		t.Errorf("got agent %q, want other", body)
	}
}

func TestTransportFaults(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	cert, key := ca.Issue("client", nil)
	_, otherKey := ca.Issue("other", nil)
	second := introspectiontest.NewAuthority(t, "second").PEM()
	const onlyPEM = "CA: doesn't hold PEM certificates only"
	const noPair = "ClientCert: certificate and key can't be read, or don't belong together"
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no timeout", Config{Timeout: -1}, "Timeout: must be above zero"},
		{"empty CA", Config{CA: fixed("")}, onlyPEM},
		{"CA of text", Config{CA: fixed(canary)}, onlyPEM},
		{"CA of a key", Config{CA: fixed(ca.PEM() + key)}, onlyPEM},
		{"CA that isn't DER", Config{CA: fixed(ca.PEM() + pemOf("CERTIFICATE", []byte(canary)))}, onlyPEM},
		{"CA cut off", Config{CA: fixed(ca.PEM() + second[:len(second)/2])}, onlyPEM},
		{"CA unreadable", Config{CA: unreadable(errors.New("denied"))}, "CA: denied"},
		{"no key", Config{ClientCert: fixed(cert)}, "ClientCert: certificate and key are needed, or neither"},
		{"no certificate", Config{ClientCertKey: fixed(key)}, "ClientCert: certificate and key are needed, or neither"},
		{"another's key", Config{ClientCert: fixed(cert), ClientCertKey: fixed(otherKey)}, noPair},
		{"key of text", Config{ClientCert: fixed(cert), ClientCertKey: fixed(canary)}, noPair},
		{"certificate unreadable", Config{ClientCert: unreadable(errors.New("denied")), ClientCertKey: fixed(key)}, "ClientCert: denied"},
		{"key unreadable", Config{ClientCert: fixed(cert), ClientCertKey: unreadable(errors.New("denied"))}, "ClientCert: denied"},
		{"all at once", Config{Timeout: -1, CA: fixed(""), ClientCert: fixed(cert)}, "Timeout: must be above zero\n" + onlyPEM + "\nClientCert: certificate and key are needed, or neither"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.Timeout == 0 {
				tt.cfg.Timeout = time.Second
			}
			_, err := NewClient(tt.cfg)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("fault %v, want %q", err, tt.want)
			}
			introspectiontest.NoCanary(t, "error", err.Error())
		})
	}
	mustClient(t, Config{CA: fixed("# two of them\n" + ca.PEM() + "\n" + second + "\n")})
}

// TestTrust is G24: what a server shows must hold up, and the reason is told.
func TestTrust(t *testing.T) {
	ca, own := introspectiontest.NewAuthority(t, "ca"), introspectiontest.NewAuthority(t, "localhost")
	good := ca.Pair("localhost", nil)
	long := introspectiontest.NewAuthority(t, "other").Pair("localhost", nil)
	for range 400 { // 200 KB, just below what crypto/tls reads
		long.Certificate = append(long.Certificate, long.Certificate[0])
	}
	leaf := ca.Pair("localhost", nil)
	issued := introspectiontest.AuthorityOf(t, leaf).Pair("localhost", nil)
	issued.Certificate = append(issued.Certificate, leaf.Certificate[0])
	for _, tt := range []struct {
		name string
		conf *tls.Config
		ca   *File
		want string
	}{
		{"good", &tls.Config{Certificates: []tls.Certificate{good}}, fixed(ca.PEM()), ""},
		{"system roots", &tls.Config{Certificates: []tls.Certificate{good}}, nil, "TLS: certificate is signed by an unknown authority"},
		{"another authority", &tls.Config{Certificates: []tls.Certificate{good}}, fixed(introspectiontest.NewAuthority(t, "other").PEM()), "TLS: certificate is signed by an unknown authority"},
		{"self-signed", &tls.Config{Certificates: []tls.Certificate{own.Own()}}, fixed(ca.PEM()), "TLS: certificate is signed by an unknown authority"},
		{"a chain of hundreds", &tls.Config{Certificates: []tls.Certificate{long}}, fixed(ca.PEM()), "TLS: certificate is signed by an unknown authority"},
		{"issued by no authority", &tls.Config{Certificates: []tls.Certificate{issued}}, fixed(ca.PEM()), "TLS: certificate is signed by an unknown authority"},
		{"not valid yet", &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Minute)
		})}}, fixed(ca.PEM()), "TLS: certificate has expired or is not valid yet"},
		{"name in the subject only", &tls.Config{Certificates: []tls.Certificate{ca.Pair("127.0.0.1", func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, nil
		})}}, fixed(ca.PEM()), "TLS: certificate is for another host"},
		{"TLS 1.0", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, fixed(ca.PEM()), "TLS: refused by the server: protocol version not supported"},
		{"expired", &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		})}}, fixed(ca.PEM()), "TLS: certificate has expired or is not valid yet"},
		{"another host", &tls.Config{Certificates: []tls.Certificate{ca.Pair(canary+".test", func(c *x509.Certificate) {
			c.IPAddresses = nil
		})}}, fixed(ca.PEM()), "TLS: certificate is for another host"},
		{"not for servers", &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}}, fixed(ca.PEM()), "TLS: certificate is not valid"},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, fixed(ca.PEM()), "TLS: refused by the server: protocol version not supported"},
		{"client certificate wanted", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, fixed(ca.PEM()), "TLS: refused by the server: handshake failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := tlsServer(t, tt.conf)
			client := mustClient(t, Config{CA: tt.ca})
			if tt.want == "" {
				expectBody(t, client, server.URL, "nobody HTTP/2.0 resumed=false")
				return
			}
			expectError(t, client, server.URL, tt.want)
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		expectError(t, mustClient(t, Config{}), strings.Replace(server.URL, "http:", "https:", 1), "TLS: the server doesn't speak it on this port")
	})
}

// TestAuthorityIsReplaced is the trust half of H10: the new file decides for the
// next call, also while a connection made under the old one is open.
func TestAuthorityIsReplaced(t *testing.T) {
	var logged introspectiontest.Log
	one, two := introspectiontest.NewAuthority(t, "one"), introspectiontest.NewAuthority(t, "two")
	server := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{one.Pair("localhost", nil)}})
	file := introspectiontest.NewFile(one.PEM())
	client := mustClient(t, Config{CA: fileOf(file), Logger: logged.Logger()})
	const ok = "nobody HTTP/2.0 resumed=false"
	expectBody(t, client, server.URL, ok)
	file.Replace(two.PEM())
	expectError(t, client, server.URL, "TLS: certificate is signed by an unknown authority")
	file.Replace(two.PEM() + one.PEM())
	expectBody(t, client, server.URL, ok)
	for _, bad := range []string{canary, "", one.PEM()[:100]} {
		file.Replace(bad)
		expectBody(t, client, server.URL, ok)
	}
	file.Fail(errors.New("gone"))
	expectBody(t, client, server.URL, ok)
	expectBody(t, client, server.URL, ok)
	introspectiontest.NoCanary(t, "log", logged.String())
	if lines := strings.Count(logged.String(), "\n"); lines != 2 { // three times the same fault, then another
		t.Errorf("got log of two faults, want two lines:\n%s", logged.String())
	}
}

// TestClientCertificateIsReplaced is the other half of H10. Certificate and key
// are replaced one after the other, as they are on disk.
func TestClientCertificateIsReplaced(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	server := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.Pair("localhost", nil)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	})
	firstCert, firstKey := ca.Issue("first", nil)
	secondCert, secondKey := ca.Issue("second", nil)
	cert, key := introspectiontest.NewFile(firstCert), introspectiontest.NewFile(firstKey)
	client := mustClient(t, Config{CA: fixed(ca.PEM()), ClientCert: fileOf(cert), ClientCertKey: fileOf(key)})
	expectBody(t, client, server.URL, "first HTTP/2.0 resumed=false")
	cert.Replace(strings.TrimSpace(secondCert)) // some tools write no last line end
	expectBody(t, client, server.URL, "first HTTP/2.0 resumed=false")
	key.Replace(secondKey)
	expectBody(t, client, server.URL, "second HTTP/2.0 resumed=false")
	stranger, strangersKey := introspectiontest.NewAuthority(t, "stranger").Issue("stranger", nil)
	cert.Replace(stranger)
	key.Replace(strangersKey)
	if body, err := getBody(client, server.URL); err == nil {
		t.Errorf("a stranger's certificate was taken, want an error: %s", body)
	}
}

// TestOldConnectionsEnd: after a file was replaced the idle connections go at
// once, not only when they have been idle for long.
func TestOldConnectionsEnd(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	closed := make(chan struct{}, 10)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", nil)}}
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.StartTLS()
	defer server.Close()
	file := introspectiontest.NewFile(ca.PEM())
	client := mustClient(t, Config{CA: fileOf(file)})
	if _, err := getBody(client, server.URL); err != nil {
		t.Fatalf("getBody: got error %v, want none", err)
	}
	file.Replace(ca.PEM() + introspectiontest.NewAuthority(t, "new").PEM())
	if _, err := getBody(client, server.URL); err != nil {
		t.Fatalf("getBody: got error %v, want none", err)
	}
	select {
	case <-closed:
	case <-time.After(idleTimeout / 2):
		t.Error("the old connection is still open, want its end")
	}
}

// TestReplacementIsConcurrent runs calls while files change, for the race
// detector, and shows that a call never sees half of a change.
func TestReplacementIsConcurrent(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	server := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.Pair("localhost", nil)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	})
	names := [2]string{"even", "odd"}
	var certs, keys [2]string
	for i, name := range names {
		certs[i], keys[i] = ca.Issue(name, nil)
	}
	cert, key := introspectiontest.NewFile(certs[0]), introspectiontest.NewFile(keys[0])
	client := mustClient(t, Config{CA: fixed(ca.PEM()), ClientCert: fileOf(cert), ClientCertKey: fileOf(key)})
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 20 {
				if _, err := getBody(client, server.URL); err != nil {
					t.Errorf("call: got error %v, want none", err)
				}
			}
		})
	}
	for i := range 40 {
		cert.Replace(certs[i%2])
		key.Replace(keys[i%2])
	}
	calls.Wait()
}

// TestSessionsAreNotResumed is CVE-2025-68121: a resumed session would be trusted
// for what an older CA file said.
func TestSessionsAreNotResumed(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	server := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", nil)}})
	client := mustClient(t, Config{CA: fixed(ca.PEM())})
	for range 3 {
		expectBody(t, client, server.URL, "nobody HTTP/2.0 resumed=false")
		client.CloseIdleConnections()
	}
}

func TestHTTP1OverTLS(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	server := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", nil)}, NextProtos: []string{"http/1.1"}})
	expectBody(t, mustClient(t, Config{CA: fixed(ca.PEM())}), server.URL, "nobody HTTP/1.1 resumed=false")
}

// TestTransportLimits pins the numbers; a test of each would wait for seconds.
func TestTransportLimits(t *testing.T) {
	const timeout = 1500 * time.Millisecond
	client := mustClient(t, Config{Timeout: timeout})
	conns := client.Transport.(*reloadingTransport).current()
	streams := conns.current()
	if client.Timeout != timeout || conns.dialer.timeout != timeout || streams.ResponseHeaderTimeout != timeout {
		t.Errorf("whole call %v, dial %v, header %v, want %v", client.Timeout, conns.dialer.timeout, streams.ResponseHeaderTimeout, timeout)
	}
	if streams.IdleConnTimeout <= 0 || streams.IdleConnTimeout >= 5*time.Second {
		t.Errorf("idle for %v, want less than 5s, after which servers close", streams.IdleConnTimeout)
	}
	if got := conns.dialer.tls.MinVersion; got != tls.VersionTLS12 {
		t.Errorf("TLS from %x, want from 1.2", got)
	}
	if h2 := streams.HTTP2; h2.SendPingTimeout != timeout || h2.PingTimeout != timeout || h2.WriteByteTimeout != timeout {
		t.Errorf("a dead HTTP/2 connection stays: %+v, want %v", h2, timeout)
	}
}

// TestSlowServer is G02: every stage is bounded, and nothing is left behind.
func TestSlowServer(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const patience = 100 * time.Millisecond
	listener := must(net.Listen("tcp", "127.0.0.1:0")) // accepts, then says nothing
	defer listener.Close()
	trickle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(patience / 10):
			}
		}
	}))
	defer trickle.Close()
	for name, url := range map[string]string{
		"no connection":          "http://" + deafAddress(t),
		"silence":                "http://" + listener.Addr().String(),
		"silence to TLS":         "https://" + listener.Addr().String(),
		"a response with no end": trickle.URL,
	} {
		t.Run(name, func(t *testing.T) {
			client := mustClient(t, Config{Timeout: patience})
			began := time.Now()
			_, err := getBody(client, url)
			if took := time.Since(began); took > 20*patience {
				t.Errorf("took %v, want at most %v", took, 20*patience)
			}
			if !errors.Is(Redact(err), context.DeadlineExceeded) || Redact(err).Error() != "no response in time: context deadline exceeded" {
				t.Errorf("got error %v, want no response in time", Redact(err))
			}
		})
	}
}

// TestDialLimit: a dial may go on for others after the call that began it ended.
func TestDialLimit(t *testing.T) {
	client := mustClient(t, Config{Timeout: 100 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := client.Transport.(*reloadingTransport).current().dialer.dial(ctx, deafAddress(t), false)
	if err == nil || ctx.Err() != nil {
		t.Errorf("dialing ended with %v (%v), want an error of its own", err, ctx.Err())
	}
}

// deafAddress is one where connections are neither made nor refused: the queue
// of a socket that nobody accepts from is full.
func deafAddress(t *testing.T) string {
	t.Helper()
	fd := must(syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0))
	t.Cleanup(func() { _ = syscall.Close(fd) })
	err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		t.Fatalf("syscall.Listen: got error %v, want none", err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", must(syscall.Getsockname(fd)).(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestHeaderLimit(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat(canary, maxHeaderBytes/len(canary)+1))
	}))
	defer server.Close()
	expectError(t, mustClient(t, Config{}), server.URL, "request failed")
}

// TestGzipIsDecoded: whoever bounds a body bounds what it becomes.
func TestGzipIsDecoded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = zip.Write(bytes.Repeat([]byte{'x'}, 1<<20))
		_ = zip.Close()
	}))
	defer server.Close()
	body, err := getBody(mustClient(t, Config{}), server.URL)
	if err != nil || len(body) != 1<<20 {
		t.Errorf("got %d bytes (%v), want %d", len(body), err, 1<<20)
	}
}

// TestPostIsNotRepeated: a server that dies after it read a POST may have acted
// on it; a connection that turned out closed before is another matter (G27).
func TestPostIsNotRepeated(t *testing.T) {
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if seen.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	client := mustClient(t, Config{})
	post := func() error {
		res, err := client.Post(server.URL, "application/x-www-form-urlencoded", strings.NewReader("token=t"))
		if err == nil {
			_ = res.Body.Close()
		}
		return Redact(err)
	}
	if err := post(); err != nil { // leaves a connection to use again
		t.Fatalf("post: got error %v, want none", err)
	}
	if err := post(); err == nil || err.Error() != "connection closed before the end of the response" {
		t.Errorf("got error %v, want that the connection closed", err)
	}
	if seen.Load() != 2 {
		t.Errorf("the server saw %d requests, want 2", seen.Load())
	}
}

func TestRedact(t *testing.T) {
	secretURL := "https://user:" + canary + "@as.test/?token=" + canary
	wrap := func(err error) error { return &url.Error{Op: "Post", URL: secretURL, Err: err} }
	_, unparsable := url.Parse(strings.Replace(secretURL, "?", "%zz", 1))
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"refused", wrap(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), "dial: connection refused"},
		{"reset", wrap(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), "read: connection reset by peer"},
		{"no such host", wrap(&net.OpError{Op: "dial", Err: &net.DNSError{Err: canary, Name: canary, IsNotFound: true}}), "host name not found"},
		{"no name server", wrap(&net.OpError{Op: "dial", Err: &net.DNSError{Err: canary, Name: canary, IsTimeout: true}}), "host name can't be resolved"},
		{"cut off", wrap(io.ErrUnexpectedEOF), "connection closed before the end of the response"},
		{"canceled", wrap(context.Canceled), "context canceled"},
		{"deadline", wrap(context.DeadlineExceeded), "no response in time: context deadline exceeded"},
		{"no URL", unparsable, "URL can't be parsed"},
		{"quotes the response", wrap(fmt.Errorf("malformed HTTP response %q", canary+"\n")), "request failed"},
		{"names of a certificate", wrap(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{canary}}, Host: canary}), "TLS: certificate is for another host"},
		{"not TLS", wrap(tls.RecordHeaderError{Msg: canary}), "TLS: the server doesn't speak it on this port"},
		{"own text", wrap(fmt.Errorf("%s: %w", canary, SafeText("no token yet"))), "no token yet"},
		{"own field", &FieldError{Field: "ClientKey", Err: ErrRequired}, "ClientKey: is required"},
		{"another's field", &FieldError{Field: "ClientKey", Err: errors.New("open /" + canary)}, "ClientKey: can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Redact(tt.err); got.Error() != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if got := Redact(Redact(tt.err)); got.Error() != tt.want {
				t.Errorf("%q when redacted twice, want %q", got, tt.want)
			}
		})
	}
	if Redact(nil) != nil {
		t.Error("got an error out of nothing, want none")
	}
	if !errors.Is(Redact(wrap(context.Canceled)), context.Canceled) {
		t.Error("got a cancellation that isn't one any more, want context.Canceled")
	}
}
