package credential

import (
	"context"
	"net/http"
	"net/url"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// bearer is the sidecar's own token (RFC 6750) in a file. Without a file the token
// comes from a grant.
type bearer struct{ secret }

func newBearer(p *parts) authenticator {
	if p.cfg.BearerToken != nil {
		return bearer{newSecret(p, "BearerToken", p.cfg.BearerToken, parseBearer)}
	}
	p.grant = newGrant(p)
	return p.grant
}

func (b bearer) attach(_ context.Context, _ string, h http.Header, _ url.Values) (transport.Generation, error) {
	text, gen := b.current()
	h.Set("Authorization", "Bearer "+text)
	return gen, nil
}
