package credential

import (
	"context"
	"net/http"
	"net/url"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// tlsClient names the client; its certificate is the proof (RFC 8705 §2), which
// the HTTP client shows and follows in its files.
type tlsClient struct{ clientID string }

func newTLSClient(p *parts) authenticator { return tlsClient{p.clientID()} }

func (c tlsClient) attach(_ context.Context, _ string, _ http.Header, form url.Values) (transport.Generation, error) {
	form.Set("client_id", c.clientID)
	return 0, nil
}

func (tlsClient) renew(context.Context, transport.Generation) (bool, error) { return false, nil }
func (tlsClient) ready() error                                              { return nil }
