package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// The data listener over TLS: HTTP/2, its refusals, its framing, and a
// certificate that is renewed under it.
func TestBlackboxTLSListener(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	numbered := func(serial int64) (cert, key string) {
		return ca.Issue("fhir.test", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) })
	}
	cert, key := numbered(10)
	certFile, keyFile := writeFile(t, "cert", cert), writeFile(t, "key", key)
	w := start(t, env{"TLS_CERT_FILE": certFile, "TLS_KEY_FILE": keyFile})
	client := func(http2 bool) *http.Client {
		var p http.Protocols
		p.SetHTTP1(!http2)
		p.SetHTTP2(http2)
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, Protocols: &p, DisableCompression: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: patience}
	}
	for _, http2 := range []bool{true, false} {
		c := client(http2)
		do := func(method, target string, body io.Reader, change func(*http.Request)) *http.Response {
			t.Helper()
			req, err := http.NewRequest(method, "https://"+w.data+target, body)
			if err != nil {
				t.Fatalf("http.NewRequest: got error %v, want none", err)
			}
			req.Header.Set("Authorization", "Bearer good")
			if change != nil {
				change(req)
			}
			res, err := c.Do(req)
			if err != nil {
				t.Fatalf("c.Do: got error %v, want none", err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			return res
		}
		res := do("POST", "/fhir/Patient?a=1;b&c=%zz", struct{ io.Reader }{strings.NewReader("body")}, func(r *http.Request) {
			r.Header["X_Launch_Patient"] = []string{"evil-value"}
			r.Header["Cookie"] = []string{"a=b", "c=d"}
			r.Trailer = http.Header{"X-Launch-User": {"evil-value"}}
		})
		if want := map[bool]int{true: 2, false: 1}[http2]; res.StatusCode != 200 || res.ProtoMajor != want {
			t.Fatalf("got %d over %s, want 200 over HTTP/%d", res.StatusCode, res.Proto, want)
		}
		r := w.up.last(t)
		r.lacks(t, "evil-value")
		r.has(t, "X-Launch-Patient", "123")
		r.has(t, "X-Forwarded-Proto", "https")
		if r.body != "body" || r.target() != "/fhir/Patient?a=1;b&c=%zz" {
			t.Errorf("FHIR server got %q %q, want the target and the body as sent", r.target(), r.body)
		}
		before := w.up.count()
		for _, c := range []struct {
			method, target string
			status         int
		}{{"GET", "/other", 404}, {"GET", "/fhir/a/../b", 400}, {"TRACE", "/fhir/x", 405}, {"GET", "/fhir//x", 400}, {"get", "/fhir/x", 405}} {
			if res := do(c.method, "", nil, func(r *http.Request) { r.URL.Opaque = "//" + w.data + c.target }); res.StatusCode != c.status {
				t.Errorf("%s %s over %s: got %d, want %d", c.method, c.target, res.Proto, res.StatusCode, c.status)
			}
		}
		if res := do("GET", "/fhir/Patient", nil, func(r *http.Request) { r.Header.Del("Authorization") }); res.StatusCode != 401 || res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("got %d %v, want 401 and a challenge", res.StatusCode, res.Header)
		}
		if res := do("GET", "/fhir/Patient", nil, func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer good", "Bearer good"} }); res.StatusCode != 400 {
			t.Errorf("two headers: got %d, want 400", res.StatusCode)
		}
		if w.up.count() != before {
			t.Errorf("FHIR server got %q, want nothing", w.up.last(t).line)
		}
	}
	// TLS 1.1 and plain HTTP are turned away.
	if c, err := tls.Dial("tcp", w.data, &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = c.Close()
		t.Error("got a connection with TLS 1.1, want none")
	}
	if a := w.ask(t, "GET /fhir/Patient", good); a.status != 400 {
		t.Errorf("plain HTTP on the TLS port: got %d, want 400", a.status)
	}
	serial := func() int64 {
		c, err := tls.Dial("tcp", w.data, &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatalf("tls.Dial: got error %v, want none", err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	newCert, newKey := numbered(11)
	if err := os.WriteFile(certFile, []byte(newCert), 0o600); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	if serial() != 10 { // while only one of the two is new
		t.Error("got half a new pair, want the old one")
	}
	if err := os.WriteFile(keyFile, []byte(newKey), 0o600); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	eventually(t, "the new certificate", func() bool { return serial() == 11 })
}

// Towards the authorization server: what its certificate must be, and ours.
func TestBlackboxTLSAuthorizationServer(t *testing.T) {
	t.Parallel()
	ca, stranger := introspectiontest.NewAuthority(t, "test authority"), introspectiontest.NewAuthority(t, "test authority")
	as := introspectiontest.New(introspectiontest.Config{})
	as.AddToken("good", nil)
	t.Cleanup(as.Close)
	serve := func(t *testing.T, issuer *introspectiontest.Authority, change func(*x509.Certificate), config *tls.Config) string {
		t.Helper()
		cert, key := issuer.Issue("fhir.test", change)
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatalf("tls.X509KeyPair: got error %v, want none", err)
		}
		config.Certificates = []tls.Certificate{pair}
		s := httptest.NewUnstartedServer(as)
		s.TLS = config
		s.EnableHTTP2 = true
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL + introspectiontest.IntrospectionPath
	}
	cert, key := ca.Issue("fhir.test", nil)
	other, otherKey := stranger.Issue("fhir.test", nil)
	mutual := func() *tls.Config {
		return &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	}
	plain := func() *tls.Config { return &tls.Config{} }
	for _, c := range []struct {
		name   string
		issuer *introspectiontest.Authority
		change func(*x509.Certificate)
		config *tls.Config
		e      env
		status int
	}{
		{"trusted", ca, nil, plain(), nil, 200},
		{"unknown authority", stranger, nil, plain(), nil, 503},
		{"unknown authority, plain HTTP allowed", stranger, nil, plain(), env{"ALLOW_INSECURE_HTTP": "true"}, 503},
		{"not valid yet", ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, plain(), nil, 503},
		{"TLS 1.0", ca, nil, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, nil, 503},
		{"expired", ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, plain(), nil, 503},
		{"other host", ca, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, plain(), nil, 503},
		{"not for servers", ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, plain(), nil, 503},
		{"TLS 1.1", ca, nil, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil, 503},
		{"mutual", ca, nil, mutual(), env{"CLIENT_CERT_FILE": writeFile(t, "c", cert), "CLIENT_CERT_KEY_FILE": writeFile(t, "k", key)}, 200},
		{"mutual without certificate", ca, nil, mutual(), nil, 503},
		{"mutual with a stranger's", ca, nil, mutual(), env{"CLIENT_CERT_FILE": writeFile(t, "c", other), "CLIENT_CERT_KEY_FILE": writeFile(t, "k", otherKey)}, 503},
	} {
		t.Run("G24 "+c.name, func(t *testing.T) {
			t.Parallel()
			e := env{"INTROSPECTION_ENDPOINT": serve(t, c.issuer, c.change, c.config), "CA_FILE": writeFile(t, "ca", ca.PEM())}
			for name, value := range c.e {
				e[name] = value
			}
			w := start(t, e)
			a := w.ask(t, "GET /fhir/Patient", good)
			if c.status == 200 {
				a.is(t, 200)
			} else {
				a.refused(t, 503, "transient", "")
			}
		})
	}
}

// What TLS 1.2 clients may use: forward secrecy and AEAD, and no older protocol.
func TestBlackboxTLSVersionsAndSuites(t *testing.T) {
	t.Parallel()
	cert, key := introspectiontest.NewAuthority(t, "test authority").Issue("fhir.test", nil)
	w := start(t, env{"TLS_CERT_FILE": writeFile(t, "cert", cert), "TLS_KEY_FILE": writeFile(t, "key", key)})
	handshake := func(version uint16, suites ...uint16) error {
		conn, err := tls.Dial("tcp", w.data, &tls.Config{
			MinVersion: version, MaxVersion: version, CipherSuites: suites, InsecureSkipVerify: true,
		})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if handshake(version) == nil {
			t.Errorf("got a connection with %s, want none", tls.VersionName(version))
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if err := handshake(version); err != nil {
			t.Errorf("%s: got error %v, want a connection", tls.VersionName(version), err)
		}
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		// An ECDSA certificate, so that RSA suites can't be used in any case.
		if !strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_") {
			continue
		}
		aead := strings.Contains(suite.Name, "_GCM_") || strings.Contains(suite.Name, "_POLY1305_")
		if err := handshake(tls.VersionTLS12, suite.ID); (err == nil) != aead {
			t.Errorf("%s: got error %v, want a connection: %t", suite.Name, err, aead)
		}
	}
}

// E20, I17: a FHIR server over TLS has to prove who it is, and is held to the same
// framing.
func TestBlackboxUpstreamTLS(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	roots := "SSL_CERT_FILE=" + writeFile(t, "roots", ca.PEM())
	begin := func(t *testing.T, issuer *introspectiontest.Authority, change func(*x509.Certificate)) (*world, *upstream) {
		t.Helper()
		cert, key := issuer.Issue("fhir.test", change)
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatalf("tls.X509KeyPair: got error %v, want none", err)
		}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatalf("tls.Listen: got error %v, want none", err)
		}
		up := newUpstreamOn(t, ln)
		return startWith(t, introspectiontest.NewServer(t), env{"UPSTREAM_URL": "https://" + up.address + "/fhir"}, roots), up
	}
	w, up := begin(t, ca, nil)
	for _, method := range []string{"GET", "POST", "GET", "POST"} {
		w.ask(t, method+" /fhir/Patient", good, "X-Launch-Patient: evil-value").is(t, 200)
		up.last(t).has(t, "X-Launch-Patient", "123")
		up.bytesOn("/fhir/odd", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", true)
		w.ask(t, method+" /fhir/odd", good).refused(t, 502, "transient", "")
	}
	for name, change := range map[string]func(*x509.Certificate){
		"another host": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} },
		"expired":      func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"not yet":      func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
		"no server":    func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
	} {
		t.Run(name, func(t *testing.T) {
			w, up := begin(t, ca, change)
			w.ask(t, "GET /fhir/Patient", good).refused(t, 502, "transient", "")
			if up.count() > 0 {
				t.Errorf("got %d requests, want none", up.count())
			}
		})
	}
	t.Run("unknown authority", func(t *testing.T) {
		w, up := begin(t, introspectiontest.NewAuthority(t, "test authority"), nil)
		w.ask(t, "POST /fhir/Patient", good).refused(t, 502, "transient", "")
		if up.count() > 0 {
			t.Errorf("got %d requests, want none", up.count())
		}
	})
}
