package credential

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// bearer is the sidecar's own token (RFC 6750) in a file. Without a file the token
// comes from a grant.
type bearer struct{ secret }

func newBearer(p *parts) authenticator {
	if p.cfg.BearerToken != nil {
		return bearer{newSecret(p, "BearerToken", p.cfg.BearerToken, func(content []byte) (string, error) {
			token, err := parseBearer(content)
			if err == nil {
				p.metrics.expiresAt(expiryOf(token))
			}
			return token, err
		})}
	}
	return newGrant(p)
}

// expiryOf reads when a token ends that is a JWT. Nobody believes it but a gauge: of
// others, and of those that don't say, it is zero.
func expiryOf(token string) (at time.Time) {
	payload, ok := introspection.JWTPayload(token)
	var claims struct {
		Expires float64 `json:"exp"`
	}
	if !ok || json.Unmarshal(payload, &claims) != nil || claims.Expires < 1 || claims.Expires > maxExpiry {
		return at
	}
	return time.Unix(int64(claims.Expires), 0)
}

// maxExpiry is the end of the year 9999.
const maxExpiry = 253402300799

func (b bearer) attach(_ context.Context, _ string, h http.Header, _ url.Values) (transport.Generation, error) {
	text, gen := b.current()
	h.Set("Authorization", "Bearer "+text)
	return gen, nil
}
