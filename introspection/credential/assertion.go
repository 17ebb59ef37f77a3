package credential

import (
	"crypto/rand"
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
	key       *transport.Watched[*signingKey]
	published keySet
}

func newAssertions(cfg Config, m *metrics) *assertions {
	a := &assertions{cfg: cfg}
	parse := func(content []byte) (*signingKey, error) {
		key, err := parseSigningKey(content, cfg.KeyID, jose.SignatureAlgorithm(cfg.Algorithm))
		if err == nil {
			// Before anything is signed with it.
			a.published.use(key.public, cfg.Now())
		}
		return key, err
	}
	a.key = &transport.Watched[*signingKey]{
		Field: "ClientKey", Read: cfg.ClientKey, Parse: parse, Logger: cfg.Logger, Replaced: m.count,
	}
	return a
}

// check reads the key and returns the faults of the configuration.
func (a *assertions) check() (faults []error) {
	if a.cfg.Algorithm != "" && !slices.Contains(algorithms(), jose.SignatureAlgorithm(a.cfg.Algorithm)) {
		faults = append(faults, &transport.FieldError{Field: "Algorithm", Err: transport.SafeText("is not one of RS256, RS384, RS512, PS256, PS384, ES256, ES384, EdDSA")})
	} else if _, _, err := a.key.Load(true); err != nil {
		faults = append(faults, err)
	}
	switch {
	case a.cfg.Audience == "issuer" && a.cfg.Issuer == "":
		faults = append(faults, &transport.FieldError{Field: "Audience", Err: transport.SafeText("issuer needs an Issuer")})
	case a.cfg.Audience == "token" && a.cfg.TokenEndpoint == nil:
		faults = append(faults, &transport.FieldError{Field: "Audience", Err: transport.SafeText("token needs a TokenEndpoint")})
	case a.cfg.Audience == "introspection" && a.cfg.Auth == AuthBearer:
		faults = append(faults, &transport.FieldError{Field: "Audience", Err: transport.SafeText("introspection is not where the grant's assertion goes")})
	}
	return faults
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
		return "", errNoTokenEndpoint
	}
	return a.cfg.Audience, nil
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

// add puts a new assertion into a form that is posted to the given URL. Nothing
// else authenticates such a request: no header, no client_id (RFC 7521 §4.2).
func (a *assertions) add(form url.Values, postedTo string) (transport.Generation, error) {
	key, gen, _ := a.key.Load(false) // logged there; the last good one stays
	audience, err := a.audience(postedTo)
	if err != nil {
		return gen, err
	}
	now := a.cfg.Now()
	assertion, err := jwt.Signed(key.signer).Claims(assertionClaims{
		Issuer:   a.cfg.ClientID,
		Subject:  a.cfg.ClientID,
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
