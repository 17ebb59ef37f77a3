package transport

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
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
)

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(name string) *authority {
	a := &authority{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, // for a server that shows it as its own
	}
	a.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))))
	return a
}

func (a *authority) pem() string { return pemOf("CERTIFICATE", a.cert.Raw) }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue returns a certificate for a name and 127.0.0.1, and its key, as PEM.
func (a *authority) issue(name string, change func(*x509.Certificate)) (cert, key string) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key))
	return pemOf("CERTIFICATE", der), pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(private)))
}

func (a *authority) pair(name string, change func(*x509.Certificate)) tls.Certificate {
	cert, key := a.issue(name, change)
	return must(tls.X509KeyPair([]byte(cert), []byte(key)))
}

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
	ca := newAuthority("ca")
	cert, key := ca.issue("client", nil)
	_, otherKey := ca.issue("other", nil)
	second := newAuthority("second").pem()
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
		{"CA of a key", Config{CA: fixed(ca.pem() + key)}, onlyPEM},
		{"CA that isn't DER", Config{CA: fixed(ca.pem() + pemOf("CERTIFICATE", []byte(canary)))}, onlyPEM},
		{"CA cut off", Config{CA: fixed(ca.pem() + second[:len(second)/2])}, onlyPEM},
		{"CA unreadable", Config{CA: (&replacedFile{err: errors.New("denied")}).file()}, "CA: denied"},
		{"no key", Config{ClientCert: fixed(cert)}, "ClientCert: certificate and key are needed, or neither"},
		{"no certificate", Config{ClientCertKey: fixed(key)}, "ClientCert: certificate and key are needed, or neither"},
		{"another's key", Config{ClientCert: fixed(cert), ClientCertKey: fixed(otherKey)}, noPair},
		{"key of text", Config{ClientCert: fixed(cert), ClientCertKey: fixed(canary)}, noPair},
		{"certificate unreadable", Config{ClientCert: (&replacedFile{err: errors.New("denied")}).file(), ClientCertKey: fixed(key)}, "ClientCert: denied"},
		{"key unreadable", Config{ClientCert: fixed(cert), ClientCertKey: (&replacedFile{err: errors.New("denied")}).file()}, "ClientCert: denied"},
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
			noCanary(t, "error", err.Error())
		})
	}
	mustClient(t, Config{CA: fixed("# two of them\n" + ca.pem() + "\n" + second + "\n")})
}

// TestTrust is G24: what a server shows must hold up, and the reason is told.
func TestTrust(t *testing.T) {
	ca, own := newAuthority("ca"), newAuthority("localhost")
	good := ca.pair("localhost", nil)
	long := newAuthority("other").pair("localhost", nil)
	for range 400 { // 200 KB, just below what crypto/tls reads
		long.Certificate = append(long.Certificate, long.Certificate[0])
	}
	leaf := ca.pair("localhost", nil)
	impostor := &authority{cert: must(x509.ParseCertificate(leaf.Certificate[0])), key: leaf.PrivateKey.(*ecdsa.PrivateKey)}
	issued := impostor.pair("localhost", nil)
	issued.Certificate = append(issued.Certificate, leaf.Certificate[0])
	for _, tt := range []struct {
		name string
		conf *tls.Config
		ca   *File
		want string
	}{
		{"good", &tls.Config{Certificates: []tls.Certificate{good}}, fixed(ca.pem()), ""},
		{"system roots", &tls.Config{Certificates: []tls.Certificate{good}}, nil, "TLS: certificate is signed by an unknown authority"},
		{"another authority", &tls.Config{Certificates: []tls.Certificate{good}}, fixed(newAuthority("other").pem()), "TLS: certificate is signed by an unknown authority"},
		{"self-signed", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{own.cert.Raw}, PrivateKey: own.key}}}, fixed(ca.pem()), "TLS: certificate is signed by an unknown authority"},
		{"a chain of hundreds", &tls.Config{Certificates: []tls.Certificate{long}}, fixed(ca.pem()), "TLS: certificate is signed by an unknown authority"},
		{"issued by no authority", &tls.Config{Certificates: []tls.Certificate{issued}}, fixed(ca.pem()), "TLS: certificate is signed by an unknown authority"},
		{"not valid yet", &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Minute)
		})}}, fixed(ca.pem()), "TLS: certificate has expired or is not valid yet"},
		{"name in the subject only", &tls.Config{Certificates: []tls.Certificate{ca.pair("127.0.0.1", func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, nil
		})}}, fixed(ca.pem()), "TLS: certificate is for another host"},
		{"TLS 1.0", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, fixed(ca.pem()), "TLS: refused by the server: protocol version not supported"},
		{"expired", &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-time.Minute)
		})}}, fixed(ca.pem()), "TLS: certificate has expired or is not valid yet"},
		{"another host", &tls.Config{Certificates: []tls.Certificate{ca.pair(canary+".test", func(c *x509.Certificate) {
			c.IPAddresses = nil
		})}}, fixed(ca.pem()), "TLS: certificate is for another host"},
		{"not for servers", &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}}, fixed(ca.pem()), "TLS: certificate is not valid"},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, fixed(ca.pem()), "TLS: refused by the server: protocol version not supported"},
		{"client certificate wanted", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, fixed(ca.pem()), "TLS: refused by the server: handshake failure"},
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
	var logged logBuffer
	one, two := newAuthority("one"), newAuthority("two")
	server := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{one.pair("localhost", nil)}})
	file := newFile(one.pem())
	client := mustClient(t, Config{CA: file.file(), Logger: logged.logger()})
	const ok = "nobody HTTP/2.0 resumed=false"
	expectBody(t, client, server.URL, ok)
	file.replace(two.pem())
	expectError(t, client, server.URL, "TLS: certificate is signed by an unknown authority")
	file.replace(two.pem() + one.pem())
	expectBody(t, client, server.URL, ok)
	for _, bad := range []string{canary, "", one.pem()[:100]} {
		file.replace(bad)
		expectBody(t, client, server.URL, ok)
	}
	file.fail(errors.New("gone"))
	expectBody(t, client, server.URL, ok)
	expectBody(t, client, server.URL, ok)
	noCanary(t, "log", logged.String())
	if lines := strings.Count(logged.String(), "\n"); lines != 2 { // three times the same fault, then another
		t.Errorf("got log of two faults, want two lines:\n%s", logged.String())
	}
}

// TestClientCertificateIsReplaced is the other half of H10. Certificate and key
// are replaced one after the other, as they are on disk.
func TestClientCertificateIsReplaced(t *testing.T) {
	ca := newAuthority("ca")
	server := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.pair("localhost", nil)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	})
	firstCert, firstKey := ca.issue("first", nil)
	secondCert, secondKey := ca.issue("second", nil)
	cert, key := newFile(firstCert), newFile(firstKey)
	client := mustClient(t, Config{CA: fixed(ca.pem()), ClientCert: cert.file(), ClientCertKey: key.file()})
	expectBody(t, client, server.URL, "first HTTP/2.0 resumed=false")
	cert.replace(strings.TrimSpace(secondCert)) // some tools write no last line end
	expectBody(t, client, server.URL, "first HTTP/2.0 resumed=false")
	key.replace(secondKey)
	expectBody(t, client, server.URL, "second HTTP/2.0 resumed=false")
	stranger, strangersKey := newAuthority("stranger").issue("stranger", nil)
	cert.replace(stranger)
	key.replace(strangersKey)
	if body, err := getBody(client, server.URL); err == nil {
		t.Errorf("a stranger's certificate was taken, want an error: %s", body)
	}
}

// TestOldConnectionsEnd: after a file was replaced the idle connections go at
// once, not only when they have been idle for long.
func TestOldConnectionsEnd(t *testing.T) {
	ca := newAuthority("ca")
	closed := make(chan struct{}, 10)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}}
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.StartTLS()
	defer server.Close()
	file := newFile(ca.pem())
	client := mustClient(t, Config{CA: file.file()})
	if _, err := getBody(client, server.URL); err != nil {
		t.Fatalf("getBody: got error %v, want none", err)
	}
	file.replace(ca.pem() + newAuthority("new").pem())
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
	ca := newAuthority("ca")
	server := tlsServer(t, &tls.Config{
		Certificates: []tls.Certificate{ca.pair("localhost", nil)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	})
	names := [2]string{"even", "odd"}
	var certs, keys [2]string
	for i, name := range names {
		certs[i], keys[i] = ca.issue(name, nil)
	}
	cert, key := newFile(certs[0]), newFile(keys[0])
	client := mustClient(t, Config{CA: fixed(ca.pem()), ClientCert: cert.file(), ClientCertKey: key.file()})
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
		cert.replace(certs[i%2])
		key.replace(keys[i%2])
	}
	calls.Wait()
}

// TestSessionsAreNotResumed is CVE-2025-68121: a resumed session would be trusted
// for what an older CA file said.
func TestSessionsAreNotResumed(t *testing.T) {
	ca := newAuthority("ca")
	server := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}})
	client := mustClient(t, Config{CA: fixed(ca.pem())})
	for range 3 {
		expectBody(t, client, server.URL, "nobody HTTP/2.0 resumed=false")
		client.CloseIdleConnections()
	}
}

func TestHTTP1OverTLS(t *testing.T) {
	ca := newAuthority("ca")
	server := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("localhost", nil)}, NextProtos: []string{"http/1.1"}})
	expectBody(t, mustClient(t, Config{CA: fixed(ca.pem())}), server.URL, "nobody HTTP/1.1 resumed=false")
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
		"no connection":         "http://" + deafAddress(t),
		"silence":               "http://" + listener.Addr().String(),
		"silence to TLS":        "https://" + listener.Addr().String(),
		"an answer with no end": trickle.URL,
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
		{"quotes the answer", wrap(fmt.Errorf("malformed HTTP response %q", canary+"\n")), "request failed"},
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
