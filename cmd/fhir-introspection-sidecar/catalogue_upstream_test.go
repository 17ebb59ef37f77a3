package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// E20, I17: a FHIR server over TLS has to prove who it is, and is held to the same
// framing.
func TestBlackboxUpstreamTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	roots := "SSL_CERT_FILE=" + writeFile(t, "roots", ca.pem)
	begin := func(t *testing.T, issuer *authority, change func(*x509.Certificate)) (*world, *upstream) {
		t.Helper()
		cert, key := issuer.issue(t, 40, change)
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
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
				t.Error("was sent a request")
			}
		})
	}
	t.Run("unknown authority", func(t *testing.T) {
		w, up := begin(t, newAuthority(t), nil)
		w.ask(t, "POST /fhir/Patient", good).refused(t, 502, "transient", "")
		if up.count() > 0 {
			t.Error("was sent a request")
		}
	})
}
