package credential

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// assertionType is the client_assertion_type of RFC 7523 §2.2.
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

	// assertionAge backdates iat, because servers without leeway refuse one that
	// lies a second ahead of their clock. More would be too old for Keycloak,
	// which by default takes a minute at most.
	assertionAge = 30 * time.Second

	// assertionLife is symmetric around the clocks' agreement: a server may run
	// two and a half minutes ahead before the assertion is expired, and as much
	// behind before exp lies beyond the five minutes of SMART Backend Services.
	assertionLife = 150 * time.Second

	minRSABits = 2048 // RFC 7518 §3.3
)

// assertions makes the JWTs by which a client proves to hold its key.
type assertions struct {
	cfg       Config
	clientID  string
	key       *transport.Watched[*signingKey]
	published keySet
}

func newAssertion(p *parts) authenticator {
	a := &assertions{cfg: p.cfg, clientID: p.clientID()}
	a.key = &transport.Watched[*signingKey]{
		Field: "ClientKey", File: p.cfg.ClientKey, Parse: a.parse, Logger: p.cfg.Logger, Replaced: p.metrics.count,
	}
	p.jwks = a.jwks
	a.check(p)
	return a
}

func (a *assertions) parse(content []byte) (*signingKey, error) {
	key, err := parseSigningKey(content, a.cfg.KeyID, jose.SignatureAlgorithm(a.cfg.Algorithm))
	if err == nil {
		// Before anything is signed with it.
		a.published.use(key.public, a.cfg.Now())
	}
	return key, err
}

// check reads the key and notes the faults of the configuration.
func (a *assertions) check(p *parts) {
	if a.cfg.Algorithm != "" && !slices.Contains(algorithms(), jose.SignatureAlgorithm(a.cfg.Algorithm)) {
		p.fault(&transport.FieldError{Field: "Algorithm", Err: transport.SafeText("is not one of RS256, RS384, RS512, PS256, PS384, ES256, ES384, EdDSA")})
	} else {
		_, _, err := a.key.Load(true)
		p.fault(err)
	}
	switch {
	case a.cfg.Audience == "issuer" && a.cfg.Issuer == "":
		p.fault(&transport.FieldError{Field: "Audience", Err: transport.SafeText("issuer needs an Issuer")})
	case a.cfg.Audience == "token" && a.cfg.TokenEndpoint == nil:
		p.fault(&transport.FieldError{Field: "Audience", Err: transport.SafeText("token needs a TokenEndpoint")})
	case a.cfg.Audience == "introspection" && a.cfg.Auth == AuthBearer:
		p.fault(&transport.FieldError{Field: "Audience", Err: transport.SafeText("introspection is not where the grant's assertion goes")})
	}
}

// audience resolves the setting: Koppeltaal's text and its reference server
// disagree on which URL belongs in aud (RFC 7523 §3 lets the server choose).
func (a *assertions) audience(postedTo string) (string, error) {
	switch a.cfg.Audience {
	case "", "introspection":
		return postedTo, nil
	case "issuer":
		return a.cfg.Issuer, nil
	case "token":
		if endpoint := a.cfg.TokenEndpoint(); endpoint != "" {
			return endpoint, nil
		}
		return "", ErrNoTokenEndpoint
	}
	return a.cfg.Audience, nil
}

func (a *assertions) ready() error {
	_, err := a.audience("")
	return err
}

func (a *assertions) renew(context.Context, transport.Generation) (bool, error) {
	_, _, err := a.key.Load(true)
	return true, transport.Redact(err) // the next assertion has a new jti and time, whatever the file holds
}

// assertionClaims are those of RFC 7523 §3. There is no nbf: it would only add
// another date for clocks to disagree on.
type assertionClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"` // one string: some servers compare it as such
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	ID       string `json:"jti"`
}

// attach puts a new assertion into the form. Nothing else authenticates such a
// request: no header, no client_id (RFC 7521 §4.2).
func (a *assertions) attach(_ context.Context, postedTo string, _ http.Header, form url.Values) (transport.Generation, error) {
	key, gen, _ := a.key.Load(false) // logged there; the last good one stays
	audience, err := a.audience(postedTo)
	if err != nil {
		return gen, err
	}
	now := a.cfg.Now()
	assertion, err := jwt.Signed(key.signer).Claims(assertionClaims{
		Issuer:   a.clientID,
		Subject:  a.clientID,
		Audience: audience,
		IssuedAt: now.Add(-assertionAge).Unix(),
		Expires:  now.Add(assertionLife).Unix(),
		ID:       rand.Text(), // at least 128 bits; servers refuse one seen before
	}).Serialize()
	if err != nil {
		return gen, transport.SafeText("signing the client assertion failed")
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return gen, nil
}

func (a *assertions) jwks() ([]byte, error) {
	_, _, _ = a.key.Load(false) // logged there; the last good one stays
	return a.published.document(a.cfg.Now())
}
