package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// keyPEM writes a key as PKCS#8.
func keyPEM(t testing.TB, key any) string {
	t.Helper()
	return pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
}

// canary is part of every secret of these tests and must appear nowhere else.
const canary = "cAnArY-7f3b"

// replacedFile is a File that a test replaces.
type replacedFile struct {
	mu      sync.Mutex
	content []byte
	err     error
	rereads int
}

func newFile(content string) *replacedFile { return &replacedFile{content: []byte(content)} }

func (f *replacedFile) read(reread bool) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reread {
		f.rereads++
	}
	return f.content, f.err
}

// fixed is a File that stays as it is.
func fixed(content string) *transport.File { return newFile(content).file() }

func (f *replacedFile) file() *transport.File { return &transport.File{Read: f.read} }

// logBuffer collects log lines from any goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// noCanary fails the test when a secret shows, plain or as it travels.
func noCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{canary, url.QueryEscape(canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(text, form) {
			t.Errorf("got %s in %s, want no secret", text, where)
		}
	}
}

func mustCredential(t *testing.T, cfg credential.Config) *credential.Credential {
	t.Helper()
	c, err := credential.New(cfg)
	if err != nil {
		t.Fatalf("credential.New: got error %v, want none", err)
	}
	return c
}

// everyClaim wants all there is, so that every member is looked at.
var everyClaim = ^introspection.ClaimSet(0)

// expectVerdict checks the error, and that a response comes with no error only.
func expectVerdict(t *testing.T, resp *introspection.Response, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (resp != nil) != (want == nil) {
		t.Errorf("got %v, %v, want %v", resp, err, want)
	}
	var failure *introspection.Failure
	if errors.As(err, &failure) && failure.Reason == "" {
		t.Error("got a failure without a reason, want one")
	}
}

// The example in Koppeltaal's page on the introspection endpoint has these
// members; it dates from December 2014.
const exampleOf2014 = `{
	"active": true,
	"client_id": "l238j323ds-23ij4",
	"sub": "Z5O3upPC88QrAjx00dis",
	"aud": "https://module.example/eHealthModule/1",
	"iss": "https://server.example.com/",
	"exp": 1419356238,
	"iat": 1419350238,
	"user": "Practitioner/123",
	"patient": "123",
	"fhirContext": ["https://server.example.com/Task/123"],
	"intent": "view"
}`

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

func grantConfig(transport http.RoundTripper) credential.Config {
	return credential.Config{
		Auth:          credential.AuthBearer,
		ClientID:      "sidecar",
		ClientSecret:  fixed(canary),
		TokenEndpoint: func() string { return "https://as.test/token" },
		HTTPClient:    &http.Client{Transport: transport},
	}
}

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

func mustClient(t *testing.T, cfg transport.Config) *http.Client {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	client, err := transport.NewClient(cfg)
	if err != nil {
		t.Fatalf("transport.NewClient: got error %v, want none", err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// introspect asks the client about a token, on behalf of no other request.
func introspect(ctx context.Context, client *Client, token string) (*introspection.Response, error) {
	v, err := client.Introspect(ctx, introspection.Request{Token: token})
	return v.Response, err
}
