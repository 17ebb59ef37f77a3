package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
)

// refusals explains why the sidecar's own credential was refused.
type refusals visit

// diagnoseRefused explains a refused credential at the introspection endpoint. Different faults
// look alike there, so that the likely alternatives are tried.
func (d refusals) diagnoseRefused(ctx context.Context, ex wireExchange) diagnosis {
	s := d.cfg.Settings
	auth := credential.Auth(s.IntrospectionAuth)
	if difference, ok := ex.clockDifference(); ok && difference.Abs() > maxClockDifference && auth.Proof() == credential.ProofKey {
		return diagnosis{"the authorization server's clock is " + formatSkew(difference) + ": to it the assertion is expired or not valid yet", ""}
	}
	if why, found := d.tryOtherAuth(ctx); found {
		return why
	}
	switch auth.Proof() {
	case credential.ProofToken:
		return d.diagnoseBearer(ex)
	case credential.ProofKey:
		return d.tryAssertions(ex, func(change func(*credential.Config)) bool { return asker(d).accepted(ctx, change) })
	case credential.ProofCertificate:
		return diagnosis{"client " + shown(s.ClientID) + " is not registered with this certificate for " + s.IntrospectionAuth + ", or the certificate doesn't get there: a gateway in front may end TLS", "SIDECAR_CLIENT_CERT_FILE"}
	case credential.ProofSecret:
		return diagnosis{"the client id or the secret is not right; neither the header nor the form is accepted with them", "SIDECAR_CLIENT_SECRET_FILE"}
	}
	return diagnosis{"the server asks for a credential, and none is configured", "SIDECAR_INTROSPECTION_AUTH"}
}

// diagnoseBearer explains why the sidecar's own token is refused.
func (d refusals) diagnoseBearer(ex wireExchange) diagnosis {
	s := d.cfg.Settings
	if s.UsesGrant() {
		return diagnosis{"the token that the token endpoint gave is not accepted: its scope, the client's registration, or an endpoint of another server", "SIDECAR_TOKEN_SCOPE"}
	}
	if strings.EqualFold(ex.challenge, "Basic") {
		return diagnosis{"the server asks for client id and secret (Basic), not for a bearer token", "SIDECAR_INTROSPECTION_AUTH"}
	}
	content, err := config.Watch("SIDECAR_BEARER_TOKEN_FILE", s.BearerTokenFile).Read(true)
	claims, isJWT := readJWT(strings.TrimSpace(string(content)))
	if when, expired := claims.expired(); err == nil && isJWT && expired {
		return diagnosis{"the token in the file expired at " + when, "SIDECAR_BEARER_TOKEN_FILE"}
	}
	why := "the token in the file is not known there: of another server, revoked, or expired"
	if ex.challenge == "" { // what takes bearer tokens asks for one (RFC 6750, section 3)
		why += "; or the server takes no bearer token here, as Keycloak doesn't: then SIDECAR_INTROSPECTION_AUTH has to say how"
	}
	return diagnosis{why, "SIDECAR_BEARER_TOKEN_FILE"}
}

// tryOtherAuth authenticates in the other ways that the settings have what it takes for,
// and names the one that is accepted.
func (d refusals) tryOtherAuth(ctx context.Context) (diagnosis, bool) {
	for _, other := range d.otherAuths() {
		if asker(d).accepted(ctx, func(c *credential.Config) { c.Auth = other }) {
			return diagnosis{fmt.Sprintf("the server wants another way of authenticating: with %s it was accepted", other), "SIDECAR_INTROSPECTION_AUTH"}, true
		}
	}
	return diagnosis{}, false
}

// otherAuths are the ways of authenticating that could be chosen as well.
func (d refusals) otherAuths() (others []credential.Auth) {
	s := d.cfg.Settings
	for _, name := range credential.Auths() {
		other := credential.Auth(name)
		_, file := s.ProofFile(other.Proof())
		possible := s.ClientID != "" && file != ""
		if other == credential.AuthBearer {
			possible = s.BearerTokenFile != "" || s.ClientID != "" && d.cfg.Endpoints().Token != ""
		}
		if possible && name != s.IntrospectionAuth {
			others = append(others, other)
		}
	}
	return others
}

const (
	audienceSetting  = "SIDECAR_CLIENT_ASSERTION_AUDIENCE"
	algorithmSetting = "SIDECAR_CLIENT_ASSERTION_ALG"
)

// tryAssertions sends what differs from what was refused, first in one point and
// then in both, and tells what was accepted.
func (d refusals) tryAssertions(ex wireExchange, accepted func(func(*credential.Config)) bool) diagnosis {
	audiences, algorithms := d.otherAudiences(ex.assertion.Audience), sameKey(ex.assertion.Algorithm)
	try := func(audience, algorithm string) (diagnosis, bool) {
		var settings, values []string
		if audience != "" {
			settings, values = append(settings, audienceSetting), append(values, audienceSetting+"="+audience)
		}
		if algorithm != "" {
			settings, values = append(settings, algorithmSetting), append(values, algorithmSetting+"="+algorithm)
		}
		ok := accepted(func(c *credential.Config) {
			if audience != "" {
				c.Audience = audience
			}
			if algorithm != "" {
				c.Algorithm = algorithm
			}
		})
		return diagnosis{"the server wants another assertion: with " + strings.Join(values, " and ") + " it was accepted", strings.Join(settings, ", ")}, ok
	}
	for _, algorithm := range append([]string{""}, algorithms...) {
		for _, audience := range append([]string{""}, audiences...) {
			if audience == "" && algorithm == "" {
				continue
			}
			if why, ok := try(audience, algorithm); ok {
				return why
			}
		}
	}
	return diagnosis{fmt.Sprintf("client %s is not registered with this key, or not under kid %s; no other audience or algorithm was accepted either",
		shown(d.cfg.Settings.ClientID), shown(ex.assertion.KeyID)), "SIDECAR_CLIENT_KEY_ID"}
}

// otherAudiences are the settings that make another `aud` than the one refused.
func (d refusals) otherAudiences(refused string) (audiences []string) {
	known := d.cfg.Endpoints()
	for _, a := range []struct{ name, url string }{
		{"introspection", known.Introspection}, {"token", known.Token}, {"issuer", d.cfg.Settings.IssuerURL},
	} {
		if a.url != "" && a.url != refused && (a.name != "introspection" || !d.cfg.Settings.UsesGrant()) {
			audiences = append(audiences, a.name)
		}
	}
	// A server that goes by another name than the one it is asked at wants that name.
	for _, issuer := range d.cfg.Settings.RequiredIssuers {
		if issuer != refused && issuer != d.cfg.Settings.IssuerURL {
			audiences = append(audiences, issuer)
		}
	}
	return audiences
}

// sameKey lists the other algorithms that an RSA key can sign with.
func sameKey(algorithm string) []string {
	if !strings.HasPrefix(algorithm, "RS") && !strings.HasPrefix(algorithm, "PS") {
		return nil
	}
	return slices.DeleteFunc([]string{"RS384", "RS256", "RS512", "PS256", "PS384"}, func(a string) bool { return a == algorithm })
}

// diagnoseGrant explains why the token endpoint gave no token.
func (d refusals) diagnoseGrant(ctx context.Context, ex wireExchange, err error) diagnosis {
	const endpoint = "SIDECAR_TOKEN_ENDPOINT"
	said, _ := errors.AsType[*credential.TokenError](err)
	if said == nil {
		said = &credential.TokenError{}
	}
	switch {
	case ex.status == 0:
		return networkCause(ex, endpoint)
	case said.Code == "invalid_scope":
		return diagnosis{"the scope is not allowed for this client", "SIDECAR_TOKEN_SCOPE"}
	case said.Code == "unauthorized_client", said.Code == "unsupported_grant_type":
		return diagnosis{"this client may not use the client credentials grant: its registration at the authorization server", "SIDECAR_CLIENT_ID"}
	case ex.status == http.StatusUnauthorized, said.Code == "invalid_client":
		return d.diagnoseGrantRefused(ctx, ex)
	case said.Member != "":
		return diagnosis{"the server gives a token that can't be used: its " + said.Member + " is not what RFC 6749, section 5.1, asks for", endpoint}
	case ex.status == http.StatusBadRequest:
		return diagnosis{"the server doesn't take the request: perhaps its scope, or another way of authenticating is expected", "SIDECAR_TOKEN_SCOPE"}
	case ex.status == http.StatusForbidden:
		return diagnosis{"this client may not get a token: its registration at the authorization server", "SIDECAR_CLIENT_ID"}
	case ex.status == http.StatusTooManyRequests:
		return diagnosis{"the authorization server limits how often this client gets a token: try again later, and see who else uses its id", "SIDECAR_CLIENT_ID"}
	case ex.status >= 500:
		return diagnosis{serverFails, endpoint}
	}
	return diagnosis{"there is no token endpoint at this URL", endpoint}
}

func (d refusals) diagnoseGrantRefused(ctx context.Context, ex wireExchange) diagnosis {
	if ex.assertion.Algorithm == "" {
		return diagnosis{"the client id or the secret is not right, or the server wants the secret in the form", "SIDECAR_CLIENT_SECRET_FILE"}
	}
	if difference, ok := ex.clockDifference(); ok && difference.Abs() > maxClockDifference {
		return diagnosis{"the authorization server's clock is " + formatSkew(difference) + ": to it the assertion is expired or not valid yet", ""}
	}
	return d.tryAssertions(ex, func(change func(*credential.Config)) bool { return asker(d).obtains(ctx, change) })
}
