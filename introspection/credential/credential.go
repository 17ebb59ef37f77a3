package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Auth is how the sidecar authenticates itself at the introspection endpoint.
type Auth string

// The values of SIDECAR_INTROSPECTION_AUTH.
const (
	AuthBearer            Auth = "bearer"              // RFC 6750: a token of its own
	AuthClientAssertion   Auth = "client_assertion"    // RFC 7523 §2.2: a signed JWT in the form
	AuthClientSecretBasic Auth = "client_secret_basic" // RFC 6749 §2.3.1
	AuthClientSecretPost  Auth = "client_secret_post"  // RFC 6749 §2.3.1: in the form
	AuthNone              Auth = "none"                // for an endpoint on loopback
)

// Config configures a Credential.
type Config struct {
	// Auth decides which of the other fields are looked at.
	Auth Auth
	// BearerToken is the sidecar's own token. Nil: the token comes from the
	// client credentials grant (RFC 6749 §4.4) at TokenEndpoint.
	BearerToken transport.File
	// TokenEndpoint returns a URL, or "" while it is not known yet.
	TokenEndpoint func() string
	// ClientID is the sidecar's registration.
	ClientID string
	// ClientSecret goes with ClientID, unless there is a ClientKey.
	ClientSecret transport.File
	// ClientKey is a private key, PEM (PKCS#8, PKCS#1 or SEC 1) or JWK. In the
	// grant it means private_key_jwt.
	ClientKey transport.File
	// KeyID is the assertions' kid. Empty: the JWK's, else the key's RFC 7638
	// thumbprint.
	KeyID string
	// Algorithm is a JWS algorithm. Empty: the JWK's, else the key's usual one.
	Algorithm string
	// Audience of assertions: "introspection", "token" or "issuer" for those
	// URLs, anything else literally. Empty: the URL the assertion is posted to.
	Audience string
	// Issuer is the authorization server's, for Audience "issuer".
	Issuer string
	// Scope is asked for in the grant, separated by spaces.
	Scope string
	// HTTPClient sends the grant's requests; it is made by transport.NewClient.
	HTTPClient *http.Client
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets what happens outside any request. Nil discards.
	Logger *slog.Logger
	// Registerer gets the credential's metrics. Nil: they are not exported.
	Registerer prometheus.Registerer
}

// Credential is what the sidecar authenticates itself with. It follows its
// files, and keeps the last one that was good.
type Credential struct {
	cfg        Config
	secret     *transport.Watched[string] // own token or client secret
	assertions *assertions
	grant      *grant
}

// New reads the files once. Every fault is a *FieldError; all are
// joined. The caller runs Run beside it.
func New(cfg Config) (*Credential, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Credential{cfg: cfg}
	m := newMetrics()
	faults := c.readFiles(m)
	if cfg.Auth == AuthBearer && cfg.BearerToken == nil {
		c.grant = newGrant(cfg, m)
		c.grant.secret, c.grant.assertions = c.secret, c.assertions
		if cfg.TokenEndpoint == nil {
			faults = append(faults, &transport.FieldError{Field: "TokenEndpoint", Err: transport.ErrRequired})
		}
		if cfg.HTTPClient == nil || cfg.HTTPClient.Transport == nil {
			faults = append(faults, &transport.FieldError{Field: "HTTPClient", Err: transport.ErrRequired})
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(m.renewals, m.expiry)
	}
	return c, nil
}

// readFiles reads what the way of authenticating needs.
func (c *Credential) readFiles(m *metrics) []error {
	cfg := c.cfg
	switch cfg.Auth {
	case AuthNone:
		return nil
	case AuthBearer:
		if cfg.BearerToken != nil {
			return []error{c.readSecret("BearerToken", cfg.BearerToken, parseToken, m)}
		}
		if cfg.ClientKey == nil && cfg.ClientSecret == nil {
			return []error{&transport.FieldError{Field: "BearerToken", Err: transport.SafeText("is required, or a ClientKey or ClientSecret")}}
		}
	case AuthClientAssertion, AuthClientSecretBasic, AuthClientSecretPost:
	default:
		return []error{&transport.FieldError{Field: "Auth", Err: transport.SafeText("is not one of bearer, client_assertion, client_secret_basic, client_secret_post, none")}}
	}
	var faults []error
	if cfg.ClientID == "" {
		faults = append(faults, &transport.FieldError{Field: "ClientID", Err: transport.ErrRequired})
	} else if !vschar(cfg.ClientID) {
		faults = append(faults, &transport.FieldError{Field: "ClientID", Err: errNotVSCHAR})
	}
	if cfg.Auth == AuthClientAssertion || cfg.Auth == AuthBearer && cfg.ClientKey != nil {
		c.assertions = newAssertions(cfg, m)
		return append(faults, c.assertions.check()...)
	}
	return append(faults, c.readSecret("ClientSecret", cfg.ClientSecret, parseClientSecret, m))
}

func (c *Credential) readSecret(field string, file transport.File, parse func([]byte) (string, error), m *metrics) error {
	c.secret = &transport.Watched[string]{Field: field, Read: file, Parse: parse, Logger: c.cfg.Logger, Replaced: m.count}
	_, _, err := c.secret.Load(true)
	return err
}

// Identity names who asks, not with which secret: a verdict stays good when
// the token or key of the same client is renewed.
func (c *Credential) Identity() string { return string(c.cfg.Auth) + " " + c.cfg.ClientID }

// String keeps everything else out of logs.
func (c *Credential) String() string { return c.Identity() }

// Run keeps the credential renewed until ctx ends. It returns nil.
func (c *Credential) Run(ctx context.Context) error {
	if c.grant != nil {
		return c.grant.run(ctx)
	}
	<-ctx.Done()
	return nil
}

// Ready returns nil when there is something to authenticate with, else a short
// reason.
func (c *Credential) Ready() error {
	switch {
	case c.grant != nil:
		return c.grant.ready()
	case c.assertions != nil:
		_, err := c.assertions.audience("")
		return err
	}
	return nil
}

// Obtain waits until there is something to authenticate with: without a file it
// asks the token endpoint, unless there is a token already.
func (c *Credential) Obtain(ctx context.Context) error {
	if c.grant == nil {
		return c.Ready()
	}
	_, _, err := c.grant.token(ctx)
	return transport.Redact(err)
}

// JWKS returns the public half of the signing key as a JSON Web Key Set
// (RFC 7517 §5), for the authorization server to fetch, with those of the keys
// that it replaced within the last hour. It returns nil when the sidecar
// authenticates without a key.
func (c *Credential) JWKS() ([]byte, error) {
	if c.assertions == nil {
		return nil, nil
	}
	return c.assertions.jwks()
}

// Attach adds the credential to an introspection request that goes to endpoint.
// The generation is for Renew.
func (c *Credential) Attach(ctx context.Context, endpoint string, h http.Header, form url.Values) (transport.Generation, error) {
	switch {
	case c.assertions != nil && c.grant == nil:
		return c.assertions.add(form, endpoint)
	case c.cfg.Auth == AuthNone:
		return 0, nil
	}
	var secret string
	var gen transport.Generation
	if c.grant != nil {
		var err error
		if secret, gen, err = c.grant.token(ctx); err != nil {
			return gen, err
		}
	} else {
		secret, gen, _ = c.secret.Load(false) // logged there; the last good one stays
	}
	switch c.cfg.Auth {
	case AuthBearer:
		h.Set("Authorization", "Bearer "+secret)
	case AuthClientSecretBasic: // RFC 6749 §2.3.1: each is form-urlencoded before they are joined
		pair := url.QueryEscape(c.cfg.ClientID) + ":" + url.QueryEscape(secret)
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case AuthClientSecretPost:
		form.Set("client_id", c.cfg.ClientID)
		form.Set("client_secret", secret)
	}
	return gen, nil
}

// Renew is called after the credential gen was refused. It reports whether
// another one is at hand now.
func (c *Credential) Renew(ctx context.Context, gen transport.Generation) (bool, error) {
	switch {
	case c.grant != nil:
		return c.grant.renew(ctx, gen)
	case c.assertions != nil:
		_, _, err := c.assertions.key.Load(true)
		return true, transport.Redact(err) // the next assertion has a new jti and time, whatever the file holds
	case c.secret != nil:
		_, now, err := c.secret.Load(true)
		return now != gen, transport.Redact(err)
	}
	return false, nil
}
