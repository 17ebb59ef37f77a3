package discovery

import (
	"encoding/json"
	"errors"
)

func (e Endpoints) introspection() string { return e.Introspection }

func (e Endpoints) token() string { return e.Token }

func (e Endpoints) jwks() string { return e.JWKS }

// What can be wrong with a document, or with what it names.
var (
	// ErrNoEndpoint says that a document was read and names no endpoint.
	ErrNoEndpoint = errors.New("names no endpoint")
	// ErrOtherIssuer says that metadata is not that of the configured issuer.
	ErrOtherIssuer = errors.New("is of another issuer")
	// ErrForbiddenHost says that an endpoint's host is not on the list.
	ErrForbiddenHost = errors.New("its host is not allowed")
	// ErrInsecureEndpoint says that tokens would cross the network readable.
	ErrInsecureEndpoint = errors.New("is neither https nor http to a loopback address")
)

// Endpoints are what discovery can find out about an authorization server.
type Endpoints struct {
	Introspection string // RFC 7662
	Token         string // RFC 6749 §3.2
	JWKS          string // RFC 7517; only the issuer's own metadata tells it
}

// Finding is what one document said, or why it said nothing.
type Finding struct {
	// Document is the URL the document was read from.
	Document string
	Endpoints
	Err error

	content json.RawMessage // of the issuer's own metadata
}

// Fault is why an endpoint that is needed isn't known, or one that a document names
// isn't used.
type Fault struct {
	// Endpoint is what is missing: IntrospectionEndpoint, TokenEndpoint or Keys.
	Endpoint string
	// Document is the URL of the first document that names it. Empty: none does.
	Document string
	// Named is the URL that it names, made fit for a log. Empty: there is none.
	Named string
	// Err is why that isn't used. Nil: no document names the endpoint.
	Err error
}

// What can be missing.
const (
	IntrospectionEndpoint = "introspection endpoint"
	TokenEndpoint         = "token endpoint"
	Keys                  = "JWKS"
)

// Error returns a short line for logs and operators.
func (f *Fault) Error() string {
	if f.Err == nil {
		return "no document names the " + f.Endpoint
	}
	return f.Document + " names the " + f.Endpoint + " " + f.Named + ": " + f.Err.Error()
}

// Unwrap gives the reason.
func (f *Fault) Unwrap() error { return f.Err }
