package credential

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Auth is how the sidecar authenticates itself at the introspection endpoint.
type Auth string

// TokenAuth is how the client credentials grant authenticates at the token endpoint.
type TokenAuth string

// Config configures a Credential.
type Config struct {
	// Auth decides which of the other fields are looked at. The zero value is a fault.
	Auth Auth
	// BearerToken is the sidecar's own token. Nil: the token comes from the
	// client credentials grant (RFC 6749 §4.4) at TokenEndpoint.
	BearerToken *transport.File
	// TokenAuth authenticates the grant. Empty: private_key_jwt with a ClientKey,
	// else client_secret_basic.
	TokenAuth TokenAuth
	// TokenEndpoint returns a URL, or "" while it is not known yet.
	TokenEndpoint func() string
	// ClientID is the sidecar's registration.
	ClientID string
	// ClientSecret goes with ClientID where a secret is asked for.
	ClientSecret *transport.File
	// ClientKey is a private key that signs assertions, PEM (PKCS#8, PKCS#1 or
	// SEC 1) or JWK.
	ClientKey *transport.File
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
