package credential

import (
	"errors"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// mode is a way of authenticating with its names. An empty one: not there.
type mode struct {
	auth  Auth      // at the introspection endpoint
	token TokenAuth // at the token endpoint
	build func(*parts) authenticator
}

// modes is every way of authenticating.
func modes() []mode {
	return []mode{
		{AuthBearer, "", newBearer},
		{AuthClientAssertion, TokenAuthPrivateKeyJWT, newAssertion},
		{AuthClientSecretBasic, TokenAuthSecretBasic, newSecretBasic},
		{AuthClientSecretPost, TokenAuthSecretPost, newSecretPost},
		{AuthTLSClient, TokenAuthTLSClient, newTLSClient},
		{AuthNone, "", newNone},
	}
}

// Auths returns every value of Auth.
func Auths() (names []string) {
	for _, m := range modes() {
		names = append(names, string(m.auth))
	}
	return names
}

// TokenAuths returns every value of TokenAuth.
func TokenAuths() (names []string) {
	for _, m := range modes() {
		if m.token != "" {
			names = append(names, string(m.token))
		}
	}
	return names
}

// atIntrospection builds what authenticates at the introspection endpoint.
func atIntrospection(p *parts) authenticator {
	all := modes()
	i := slices.IndexFunc(all, func(m mode) bool { return m.auth == p.cfg.Auth })
	if i < 0 {
		p.fault(&transport.FieldError{Field: "Auth", Err: errors.New("is not one of " + strings.Join(Auths(), ", "))})
		return nil
	}
	return all[i].build(p)
}

// atTokenEndpoint builds what authenticates the grant.
func atTokenEndpoint(p *parts) authenticator {
	auth := p.cfg.TokenAuth
	switch {
	case auth != "":
	case p.cfg.ClientKey != nil: // with both, the key counts
		auth = TokenAuthPrivateKeyJWT
	case p.cfg.ClientSecret != nil:
		auth = TokenAuthSecretBasic
	default:
		p.fault(&transport.FieldError{Field: "BearerToken", Err: errors.New("is required, or a ClientKey or ClientSecret")})
		return nil
	}
	all := modes()
	i := slices.IndexFunc(all, func(m mode) bool { return m.token == auth })
	if i < 0 {
		p.fault(&transport.FieldError{Field: "TokenAuth", Err: errors.New("is not one of " + strings.Join(TokenAuths(), ", "))})
		return nil
	}
	return all[i].build(p)
}
