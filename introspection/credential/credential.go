package credential

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Credential is what the sidecar authenticates itself with. It follows its
// files, and keeps the last one that was good.
type Credential struct {
	authenticator authenticator
	identity      string
	// Parts that only some ways of authenticating have; see parts.
	run, obtain func(context.Context) error
	jwks        func() ([]byte, error)
}

// New reads the files once. It returns all faults joined: a *transport.FieldError
// for each. The caller runs Run beside the Credential.
func New(cfg Config) (*Credential, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &parts{cfg: cfg, metrics: newMetrics()}
	p.tokenClient = func() authenticator { return atTokenEndpoint(p) }
	c := &Credential{
		authenticator: atIntrospection(p),
		identity:      string(cfg.Auth) + " " + cfg.ClientID,
	}
	if err := errors.Join(p.faults...); err != nil {
		return nil, err
	}
	c.run, c.obtain, c.jwks = p.run, p.obtain, p.jwks
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(p.metrics.renewals, p.metrics.expiry)
	}
	return c, nil
}

// Identity names who asks, not with which secret: a verdict stays good when
// the token or key of the same client is renewed.
func (c *Credential) Identity() string { return c.identity }

// String keeps everything else out of logs.
func (c *Credential) String() string { return c.identity }

// GoString keeps everything else out of logs.
func (c *Credential) GoString() string { return c.identity }

// Run keeps the credential renewed until ctx ends. It returns nil.
func (c *Credential) Run(ctx context.Context) error {
	if c.run != nil {
		return c.run(ctx)
	}
	<-ctx.Done()
	return nil
}

// Ready returns nil when there is something to authenticate with, else a short
// reason.
func (c *Credential) Ready() error { return c.authenticator.ready() }

// Obtain waits until there is something to authenticate with: without a file it
// asks the token endpoint, unless there is a token already. The error is a
// *TokenError when the token endpoint said no.
func (c *Credential) Obtain(ctx context.Context) error {
	if c.obtain == nil {
		return c.Ready()
	}
	return redact(c.obtain(ctx))
}

// redact keeps what was typed in this package, and what may be shown of the rest.
func redact(err error) error {
	if said := (*TokenError)(nil); errors.As(err, &said) {
		return said
	}
	return transport.Redact(err)
}

// JWKS returns the public half of the signing key as a JSON Web Key Set
// (RFC 7517 §5), for the authorization server to fetch, with those of the keys
// that it replaced within the last hour. It returns nil when the sidecar
// authenticates without a key.
func (c *Credential) JWKS() ([]byte, error) {
	if c.jwks == nil {
		return nil, nil
	}
	return c.jwks()
}

// Attach adds the credential to an introspection request that goes to endpoint.
// The generation is for Renew.
func (c *Credential) Attach(ctx context.Context, endpoint string, h http.Header, form url.Values) (transport.Generation, error) {
	return c.authenticator.attach(ctx, endpoint, h, form)
}

// Renew is called after the credential gen was refused. It reports whether
// another one is at hand now.
func (c *Credential) Renew(ctx context.Context, gen transport.Generation) (bool, error) {
	return c.authenticator.renew(ctx, gen)
}
