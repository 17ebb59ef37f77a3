package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/strictjson"
)

const (
	// keyInterval is the time in which the issuer's keys are read keyReads times at
	// most: a flood of tokens with unknown key ids must not become a flood of requests.
	keyInterval = 10 * time.Second

	// keyReads is more than one, so that a new key is found at once although the keys
	// were read a moment ago.
	keyReads = 3

	// maxKeySet bounds the issuer's keys.
	maxKeySet = 1 << 20
)

// PrecheckConfig configures a Precheck.
type PrecheckConfig struct {
	// Issuer is what `iss` must be, exactly.
	Issuer string
	// JWKS returns the URL of the issuer's keys, or "" while it isn't known.
	JWKS func() string
	// HTTPClient reads the keys.
	HTTPClient *http.Client
	// ClockSkew is the leeway for `nbf`. `exp` gets none.
	ClockSkew time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Precheck verifies tokens that are JWTs (RFC 7519) before the endpoint is
// asked, so that a forged or expired one costs no call. It only ever refuses:
// whether a token was revoked is for the endpoint to say.
type Precheck struct {
	config PrecheckConfig

	mu       sync.Mutex
	url      string
	verifier *oidc.IDTokenVerifier
	keys     *keyTransport
}

// NewPrecheck returns a Precheck.
func NewPrecheck(config PrecheckConfig) (*Precheck, error) {
	if config.Issuer == "" || config.JWKS == nil || config.HTTPClient == nil {
		return nil, errors.New("introspection: Issuer, JWKS and HTTPClient are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Precheck{config: config}, nil
}

// Refuses reports whether token is a JWT that the issuer can't have made, or
// that is past its time. While the keys can't be had it refuses nothing that
// they are needed for: the endpoint decides then.
func (p *Precheck) Refuses(ctx context.Context, token string) bool {
	algorithm, isJWT := jwtAlgorithm(token)
	payload, ok := jwtPayload(token)
	var claims struct {
		Issuer    string          `json:"iss"`
		Expires   json.RawMessage `json:"exp"`
		NotBefore json.RawMessage `json:"nbf"`
	}
	if !ok || !isJWT {
		return false // opaque
	}
	if !slices.Contains(issuerAlgorithms(), algorithm) || json.Unmarshal(payload, &claims) != nil || claims.Issuer != p.config.Issuer || !p.inTime(claims.Expires, claims.NotBefore) {
		return true
	}
	verifier, keys := p.current()
	if verifier == nil {
		return false
	}
	_, err := verifier.Verify(ctx, token)
	return err != nil && ctx.Err() == nil && keys.available()
}

// issuerAlgorithms are asymmetric: with HS256 the public key would be the
// secret, and "none" signs nothing.
func issuerAlgorithms() []string {
	return []string{
		oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512,
		oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
	}
}

func (p *Precheck) inTime(expires, notBefore json.RawMessage) bool {
	now := p.config.Now()
	if !strictjson.IsNull(expires) {
		if exp, err := introspection.ParseDate(expires); err != nil || now.Unix() >= exp {
			return false
		}
	}
	if !strictjson.IsNull(notBefore) {
		if nbf, err := introspection.ParseDate(notBefore); err != nil || nbf > now.Add(p.config.ClockSkew).Unix() {
			return false
		}
	}
	return true
}

// current returns the verifier for the keys' URL as it is known now.
func (p *Precheck) current() (*oidc.IDTokenVerifier, *keyTransport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	location := p.config.JWKS()
	if location == "" {
		return nil, nil
	}
	if location != p.url {
		p.keys = &keyTransport{base: p.config.HTTPClient.Transport, now: p.config.Now}
		client := *p.config.HTTPClient
		client.Transport = p.keys
		keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), &client), location)
		p.url = location
		p.verifier = oidc.NewVerifier(p.config.Issuer, keys, &oidc.Config{
			SkipClientIDCheck:    true, // `aud` is checked on the endpoint's answer
			SkipExpiryCheck:      true, // done before, with our own leeway
			SupportedSigningAlgs: issuerAlgorithms(),
		})
	}
	return p.verifier, p.keys
}
