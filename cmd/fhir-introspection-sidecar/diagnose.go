package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// wireExchange is what the doctor keeps of one request and its answer: nothing
// that is secret.
type wireExchange struct {
	status      int
	contentType string
	date        time.Time
	received    time.Time
	tls         *tls.ConnectionState
	err         error
	assertion   sentAssertion
}

// sentAssertion are the parts of a client assertion that a registration must match.
type sentAssertion struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Audience  string `json:"aud"`
	IssuedAt  int64  `json:"iat"`
	Expires   int64  `json:"exp"`
}

func (ex wireExchange) assertionDetail() string {
	a := ex.assertion
	if a.Algorithm == "" {
		return ""
	}
	return fmt.Sprintf("; assertion with alg %s, kid %s, aud %s, valid %d s", a.Algorithm, a.KeyID, a.Audience, a.Expires-a.IssuedAt)
}

// clockDifference is how far the server's clock is ahead of ours.
func (ex wireExchange) clockDifference() (time.Duration, bool) {
	if ex.date.IsZero() {
		return 0, false
	}
	return ex.date.Sub(ex.received).Round(time.Second), true
}

// wiretap watches the requests to the authorization server.
type wiretap struct {
	base http.RoundTripper

	mu        sync.Mutex
	exchanges map[string]wireExchange
}

// RoundTrip implements http.RoundTripper.
func (w *wiretap) RoundTrip(req *http.Request) (*http.Response, error) {
	ex := wireExchange{assertion: readAssertion(req)}
	res, err := w.base.RoundTrip(req)
	ex.err, ex.received = err, time.Now()
	if err == nil {
		ex.status, ex.contentType, ex.tls = res.StatusCode, res.Header.Get("Content-Type"), res.TLS
		ex.date, _ = http.ParseTime(res.Header.Get("Date"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanges[req.URL.String()] = ex
	return res, err
}

func (w *wiretap) last(location string) wireExchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exchanges[location]
}

// readAssertion takes the public parts of the assertion in a form.
func readAssertion(req *http.Request) (a sentAssertion) {
	if req.GetBody == nil {
		return a
	}
	body, err := req.GetBody()
	if err != nil {
		return a
	}
	copied := req.Clone(context.Background())
	copied.Body = body
	if copied.ParseForm() != nil {
		return a
	}
	parts := strings.Split(copied.PostForm.Get("client_assertion"), ".")
	for _, part := range parts[:min(2, len(parts))] {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil {
			_ = json.Unmarshal(decoded, &a) // what isn't there stays empty
		}
	}
	return a
}

// networkCause names the likely cause of a failed connection.
func networkCause(err error) (cause, setting string) {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		dns       *net.DNSError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is signed by an authority that is not trusted", "SIDECAR_CA_FILE"
	case errors.As(err, &host):
		return "its certificate is for another host name", "SIDECAR_INTROSPECTION_ENDPOINT"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired, or this machine's clock is wrong", ""
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls"):
		return "it refuses the TLS handshake; it may ask for a client certificate", "SIDECAR_CLIENT_CERT_FILE"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it speaks plain HTTP where https is configured", "SIDECAR_INTROSPECTION_ENDPOINT"
	case errors.As(err, &dns):
		return "its host name is not known", "SIDECAR_INTROSPECTION_ENDPOINT"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there", "SIDECAR_INTROSPECTION_ENDPOINT"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time: a firewall, a NetworkPolicy, or a server that is slow", "SIDECAR_INTROSPECTION_TIMEOUT"
	}
	return "the connection breaks", "SIDECAR_INTROSPECTION_ENDPOINT"
}

// diagnose names the likely cause of a failed introspection and what to change.
func (d *doctor) diagnose(ctx context.Context, ex wireExchange, err error) (cause, setting string) {
	const endpoint = "SIDECAR_INTROSPECTION_ENDPOINT"
	switch {
	case ex.err != nil:
		return networkCause(ex.err)
	case ex.status == 0 && d.settings.usesGrant():
		return "there is no own token to ask with; see own credential", ""
	case ex.status == http.StatusUnauthorized:
		return d.diagnoseRefused(ctx, ex)
	case ex.status >= 300 && ex.status < 400:
		return "the URL redirects, perhaps to a login page; redirects are never followed", endpoint
	case ex.status == http.StatusBadRequest:
		return "the server doesn't take the request; it may expect another way of authenticating", "SIDECAR_INTROSPECTION_AUTH"
	case ex.status == http.StatusForbidden:
		return "this client may not introspect: its registration or its scope", "SIDECAR_TOKEN_SCOPE"
	case ex.status == http.StatusNotFound, ex.status == http.StatusMethodNotAllowed, ex.status == http.StatusGone:
		return "there is no introspection endpoint at this URL", endpoint
	case ex.status == http.StatusTooManyRequests:
		return "the server asks to slow down", ""
	case ex.status >= 500:
		return "the authorization server itself fails", ""
	case strings.Contains(ex.contentType, "html"):
		return "a web page answers: the URL is wrong, or a gateway stands in between", endpoint
	case errors.Is(err, introspection.ErrMalformed):
		return "what answers is no introspection endpoint", endpoint
	}
	return "", endpoint
}

// diagnoseRefused explains a 401. A client assertion can be refused for many
// reasons that look alike, so that the likely alternatives are tried.
func (d *doctor) diagnoseRefused(ctx context.Context, ex wireExchange) (cause, setting string) {
	if difference, ok := ex.clockDifference(); ok && difference.Abs() > maxClockDifference {
		return fmt.Sprintf("the clocks differ by %v", difference), ""
	}
	s := d.settings
	switch introspection.Auth(s.IntrospectionAuth) {
	case introspection.AuthBearer:
		if s.usesGrant() {
			return "the token that the token endpoint gave may not introspect: scope or registration", "SIDECAR_TOKEN_SCOPE"
		}
		return "the own token is expired or not known there", "SIDECAR_BEARER_TOKEN_FILE"
	case introspection.AuthClientAssertion:
		return d.tryAssertions(ctx, ex)
	case introspection.AuthClientSecretBasic:
		if d.accepted(ctx, func(c *introspection.CredentialConfig) { c.Auth = introspection.AuthClientSecretPost }) {
			return "the server wants the secret in the form: client_secret_post was accepted", "SIDECAR_INTROSPECTION_AUTH"
		}
		return "client id or secret is not right", "SIDECAR_CLIENT_SECRET_FILE"
	case introspection.AuthClientSecretPost:
		if d.accepted(ctx, func(c *introspection.CredentialConfig) { c.Auth = introspection.AuthClientSecretBasic }) {
			return "the server wants the secret in the header: client_secret_basic was accepted", "SIDECAR_INTROSPECTION_AUTH"
		}
		return "client id or secret is not right", "SIDECAR_CLIENT_SECRET_FILE"
	}
	return "the server wants a credential", "SIDECAR_INTROSPECTION_AUTH"
}

// tryAssertions sends what differs in one point from what was refused.
func (d *doctor) tryAssertions(ctx context.Context, ex wireExchange) (cause, setting string) {
	for _, audience := range []string{"introspection", "token", "issuer"} {
		if audience == "token" && d.sidecar.endpoints().Token == "" || audience == "issuer" && d.settings.IssuerURL == "" {
			continue
		}
		if d.accepted(ctx, func(c *introspection.CredentialConfig) { c.Audience = audience }) {
			return "the server wants another audience: " + audience + " was accepted", "SIDECAR_CLIENT_ASSERTION_AUDIENCE"
		}
	}
	for _, algorithm := range sameKey(ex.assertion.Algorithm) {
		if d.accepted(ctx, func(c *introspection.CredentialConfig) { c.Algorithm = algorithm }) {
			return "the server wants another algorithm: " + algorithm + " was accepted", "SIDECAR_CLIENT_ASSERTION_ALG"
		}
	}
	return fmt.Sprintf("the key is not registered for this client, or not under kid %s; audience %s or algorithm %s may be wrong too",
		ex.assertion.KeyID, ex.assertion.Audience, ex.assertion.Algorithm), "SIDECAR_CLIENT_KEY_ID"
}

// sameKey lists the other algorithms that an RSA key can sign with.
func sameKey(algorithm string) []string {
	if !strings.HasPrefix(algorithm, "RS") && !strings.HasPrefix(algorithm, "PS") {
		return nil
	}
	var others []string
	for _, a := range []string{"RS384", "RS256", "RS512", "PS256", "PS384"} {
		if a != algorithm {
			others = append(others, a)
		}
	}
	return others
}

// accepted asks about a random token with a credential that was changed.
func (d *doctor) accepted(ctx context.Context, change func(*introspection.CredentialConfig)) bool {
	config := d.sidecar.credentialConfig()
	config.Registerer = nil // the one that was refused is registered
	change(&config)
	credential, err := introspection.NewCredential(config)
	if err != nil {
		return false
	}
	client, err := introspection.NewClient(introspection.ClientConfig{
		Endpoint:   func() string { return d.sidecar.endpoints().Introspection },
		Credential: credential, HTTPClient: d.sidecar.httpClient,
		Timeout: d.settings.IntrospectionTimeout, MaxConcurrent: 1,
	})
	if err != nil {
		return false
	}
	_, err = client.Introspect(ctx, introspection.NewRequestID())
	return errors.Is(err, introspection.ErrInactive)
}

// diagnoseGrant explains why the token endpoint gave no token.
func (d *doctor) diagnoseGrant(ex wireExchange) (cause, setting string) {
	const endpoint = "SIDECAR_TOKEN_ENDPOINT"
	switch {
	case ex.err != nil:
		cause, setting = networkCause(ex.err)
		return cause, strings.Replace(setting, "SIDECAR_INTROSPECTION_ENDPOINT", endpoint, 1)
	case ex.status == 0:
		return "the token endpoint was not reached", endpoint
	case ex.status == http.StatusUnauthorized && ex.assertion.Algorithm != "":
		if difference, ok := ex.clockDifference(); ok && difference.Abs() > maxClockDifference {
			return fmt.Sprintf("the clocks differ by %v", difference), ""
		}
		return "the assertion is refused: key not registered, kid, algorithm or audience", "SIDECAR_CLIENT_ASSERTION_AUDIENCE"
	case ex.status == http.StatusUnauthorized:
		return "client id or secret is not right", "SIDECAR_CLIENT_SECRET_FILE"
	case ex.status == http.StatusBadRequest:
		return "the grant or the scope is not allowed for this client", "SIDECAR_TOKEN_SCOPE"
	case ex.status >= 500:
		return "the authorization server itself fails", ""
	}
	return "there is no token endpoint at this URL", endpoint
}
