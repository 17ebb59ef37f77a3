package credential

import (
	"context"
	"net/http"
	"net/url"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// authenticator is one way of authenticating: a file of this package, and a row of
// modes.
type authenticator interface {
	// attach adds the credential to a request that posts form to endpoint. The
	// generation is for renew.
	attach(ctx context.Context, endpoint string, h http.Header, form url.Values) (transport.Generation, error)
	// renew is called after the credential gen was refused. It reports whether
	// another one is at hand now.
	renew(ctx context.Context, gen transport.Generation) (bool, error)
	// ready returns nil when there is something to authenticate with.
	ready() error
}

// parts is what the modes are built from, and those of their parts that the
// Credential knows.
type parts struct {
	cfg     Config
	metrics *metrics
	faults  []error
	// tokenClient builds what authenticates the grant.
	tokenClient func() authenticator

	// run renews the credential until its context ends, and obtain waits until there
	// is one. Nil: there is one from the start.
	run, obtain func(context.Context) error
	// jwks returns the public keys. Nil: nothing is signed.
	jwks func() ([]byte, error)
}

// fault notes what is wrong. Nil is nothing.
func (p *parts) fault(err error) {
	if err != nil {
		p.faults = append(p.faults, err)
	}
}

// clientID returns the id of the sidecar's registration.
func (p *parts) clientID() string {
	if err := CheckClientID(p.cfg.ClientID); err != nil {
		p.fault(&transport.FieldError{Field: "ClientID", Err: err})
	}
	return p.cfg.ClientID
}

// CheckClientID says why an id is none (RFC 6749 §A.1).
func CheckClientID(id string) error {
	switch {
	case id == "":
		return transport.ErrRequired
	case !vschar(id):
		return errNotVSCHAR
	}
	return nil
}
