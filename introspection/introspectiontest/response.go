package introspectiontest

import (
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// checked are the claims that the checks of a sidecar may look at.
var checked = introspection.NewClaimSet(introspection.Scope, introspection.ClientID, introspection.TokenType,
	introspection.Subject, introspection.Audience, introspection.Issuer, introspection.Expires)

// Decode reads the body of a response that was obtained now, as a sidecar does, and
// keeps the claims in wanted beside those that checks may look at.
func Decode(body []byte, wanted introspection.ClaimSet, now time.Time) (*introspection.Response, error) {
	return introspection.Decoder{Claims: wanted | checked}.Decode(introspection.Answer{Body: body, ObtainedAt: now}, now)
}
