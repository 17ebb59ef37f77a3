package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

var errNoKeys = errors.New("the issuer's keys can't be read")

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
// asked, so that a forged or expired one costs no call. It only ever refuses, and
// only what it can prove: keys it can't read or doesn't know, and algorithms that are
// newer than itself, are for the endpoint to judge, and so is whether a token was
// revoked.
type Precheck struct {
	config PrecheckConfig
	keys   *issuerKeys
}

// NewPrecheck returns a Precheck. The error says what is missing: Issuer, JWKS and
// HTTPClient are required.
func NewPrecheck(config PrecheckConfig) (*Precheck, error) {
	if config.Issuer == "" || config.JWKS == nil || config.HTTPClient == nil {
		return nil, errors.New("client: Issuer, JWKS and HTTPClient are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Precheck{
		config: config,
		keys:   &issuerKeys{location: config.JWKS, client: config.HTTPClient, now: config.Now},
	}, nil
}

// Refuses reports whether token is a JWT that the issuer can't have made, or that is
// past its time.
func (p *Precheck) Refuses(ctx context.Context, token string) bool {
	header, isJWT := parseHeader(token)
	payload, ok := introspection.JWTPayload(token)
	if !ok || !isJWT {
		return false // opaque
	}
	if strings.EqualFold(header.Algorithm, "none") {
		return true // nobody signed it
	}
	var claims struct {
		Issuer    *string         `json:"iss"`
		Expires   json.RawMessage `json:"exp"`
		NotBefore json.RawMessage `json:"nbf"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return false
	}
	if claims.Issuer != nil && *claims.Issuer != p.config.Issuer || !p.inTime(claims.Expires, claims.NotBefore) {
		return true
	}
	return header.Critical == nil && p.forged(ctx, header, token) // `crit` may change what was signed
}

// inTime reports whether a token isn't past its time, or before it, as far as that
// can be read.
func (p *Precheck) inTime(expires, notBefore json.RawMessage) bool {
	now := p.config.Now()
	if !introspection.IsJSONNull(expires) {
		if exp, err := introspection.ParseDate(expires); err == nil && now.Unix() >= exp {
			return false
		}
	}
	if !introspection.IsJSONNull(notBefore) {
		if nbf, err := introspection.ParseDate(notBefore); err == nil && nbf > now.Add(p.config.ClockSkew).Unix() {
			return false
		}
	}
	return true
}

// forged reports whether a key that the token names didn't make it. Before it says so
// it looks for newer keys, because an issuer may give a new one an old id. When it
// can't, because strangers have used up the reads, keys of a moment ago are good
// enough: an id isn't given anew every few seconds.
func (p *Precheck) forged(ctx context.Context, h jwtHeader, token string) bool {
	asked := p.config.Now()
	set := p.keys.current(ctx)
	if set == nil {
		return false
	}
	found := set.judge(h, token)
	switch {
	case found == genuine, found == unknown && set.names(h.KeyID):
		return false
	case !set.read.Before(asked):
		return found == forged
	}
	if newer := p.keys.newer(ctx, set); newer != nil {
		return newer.judge(h, token) == forged
	}
	return found == forged && p.config.Now().Sub(set.read) < keyInterval
}
