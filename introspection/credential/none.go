package credential

import (
	"context"
	"net/http"
	"net/url"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// none is for an endpoint on a loopback address.
type none struct{}

func newNone(*parts) authenticator { return none{} }

func (none) attach(context.Context, string, http.Header, url.Values) (transport.Generation, error) {
	return 0, nil
}
func (none) renew(context.Context, transport.Generation) (bool, error) { return false, nil }
func (none) ready() error                                              { return nil }
