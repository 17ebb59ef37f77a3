package introspectiontest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority is a certificate authority that only its test trusts.
type Authority struct {
	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority returns an Authority of that name. Its own certificate is for 127.0.0.1
// too, for a server that shows it.
func NewAuthority(tb testing.TB, name string) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, key: newKey(tb)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		tb.Fatalf("making an authority: got error %v, want none", err)
	}
	return a
}

// AuthorityOf returns an Authority that signs with the key of a pair that Pair returned,
// although its certificate doesn't allow that.
func AuthorityOf(tb testing.TB, pair tls.Certificate) *Authority {
	tb.Helper()
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil || !ok {
		tb.Fatalf("x509.ParseCertificate: got error %v and key %T, want none and an EC key", err, pair.PrivateKey)
	}
	return &Authority{tb: tb, cert: cert, key: key}
}

// PEM returns its certificate.
func (a *Authority) PEM() string { return textPEM("CERTIFICATE", a.cert.Raw) }

// Own returns its own certificate and key, for a server that shows them.
func (a *Authority) Own() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}

// Pool returns a pool that holds its certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue returns a certificate of a server or a client, for the name and 127.0.0.1, and
// its key (PKCS#8), as PEM. change may be nil.
func (a *Authority) Issue(name string, change func(*x509.Certificate)) (cert, key string) {
	a.tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	private := newKey(a.tb)
	certDER, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		a.tb.Fatalf("x509.CreateCertificate: got error %v, want none", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.tb.Fatalf("x509.MarshalPKCS8PrivateKey: got error %v, want none", err)
	}
	return textPEM("CERTIFICATE", certDER), textPEM("PRIVATE KEY", keyDER)
}

// Pair returns the same as Issue, for a tls.Config.
func (a *Authority) Pair(name string, change func(*x509.Certificate)) tls.Certificate {
	a.tb.Helper()
	cert, key := a.Issue(name, change)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		a.tb.Fatalf("tls.X509KeyPair: got error %v, want none", err)
	}
	return pair
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("ecdsa.GenerateKey: got error %v, want none", err)
	}
	return key
}

func textPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
