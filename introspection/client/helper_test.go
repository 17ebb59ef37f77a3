package client

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
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
const canary = introspectiontest.Canary

// fixed is a File that stays as it is.
func fixed(content string) *transport.File { return fileOf(introspectiontest.NewFile(content)) }

func fileOf(f *introspectiontest.File) *transport.File { return &transport.File{Read: f.Read} }

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
