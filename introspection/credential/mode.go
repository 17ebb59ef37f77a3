package credential

import (
	"errors"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// The values of SIDECAR_INTROSPECTION_AUTH.
const (
	AuthBearer            Auth = "bearer"              // RFC 6750: a token of its own
	AuthClientAssertion   Auth = "client_assertion"    // RFC 7523 §2.2: a signed JWT in the form
	AuthClientSecretBasic Auth = "client_secret_basic" // RFC 6749 §2.3.1
	AuthClientSecretPost  Auth = "client_secret_post"  // RFC 6749 §2.3.1: in the form
	AuthTLSClient         Auth = "tls_client_auth"     // RFC 8705 §2: the client certificate
	AuthNone              Auth = "none"                // for an endpoint on loopback
)

// The values of SIDECAR_TOKEN_AUTH.
const (
	TokenAuthSecretBasic   TokenAuth = "client_secret_basic" // RFC 6749 §2.3.1
	TokenAuthSecretPost    TokenAuth = "client_secret_post"  // RFC 6749 §2.3.1: in the form
	TokenAuthPrivateKeyJWT TokenAuth = "private_key_jwt"     // RFC 7523 §2.2
	TokenAuthTLSClient     TokenAuth = "tls_client_auth"     // RFC 8705 §2
)

// Proof is what a client proves with who it is.
type Proof uint8

// The proofs. All but the first two prove it of a ClientID.
const (
	NoProof Proof = iota
	ProofToken
	ProofSecret
	ProofKey
	ProofCertificate
)

// mode is a way of authenticating with its names. An empty one: not there.
type mode struct {
	auth  Auth      // at the introspection endpoint
	token TokenAuth // at the token endpoint
	proof Proof
	build func(*parts) authenticator
}

// modes is every way of authenticating.
func modes() []mode {
	return []mode{
		{AuthBearer, "", ProofToken, newBearer},
		{AuthClientAssertion, TokenAuthPrivateKeyJWT, ProofKey, newAssertion},
		{AuthClientSecretBasic, TokenAuthSecretBasic, ProofSecret, newSecretBasic},
		{AuthClientSecretPost, TokenAuthSecretPost, ProofSecret, newSecretPost},
		{AuthTLSClient, TokenAuthTLSClient, ProofCertificate, newTLSClient},
		{AuthNone, "", NoProof, newNone},
	}
}

// Proof returns what this way of authenticating takes. What is none takes nothing.
func (a Auth) Proof() Proof { return proofOf(func(m mode) bool { return m.auth == a }) }

// Proof returns what this way of authenticating takes. What is none takes nothing.
func (a TokenAuth) Proof() Proof {
	return proofOf(func(m mode) bool { return m.token == a && a != "" })
}

func proofOf(is func(mode) bool) Proof {
	all := modes()
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i].proof
	}
	return NoProof
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
