package doctor

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// jwtClaims are what of a token may help to tell what is wrong with it.
type jwtClaims struct {
	Issuer   string   `json:"iss"`
	Expires  float64  `json:"exp"`
	Audience audience `json:"aud"`
}

// audience is a string or an array of them (RFC 7519 §4.1.3).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// lacksAudience reports whether the token is for somebody, and not for the client.
func (c jwtClaims) lacksAudience(client string) bool {
	return client != "" && !slices.Contains(c.Audience, client)
}

// expired tells when a token expired, if it did.
func (c jwtClaims) expired() (when string, ok bool) {
	at := time.Unix(int64(c.Expires), 0)
	return at.UTC().Format(time.DateTime) + " UTC", c.Expires > 0 && time.Now().After(at)
}

// readJWT reads claims of a token without verifying them.
func readJWT(token string) (claims jwtClaims, ok bool) {
	payload, ok := introspection.JWTPayload(token)
	return claims, ok && json.Unmarshal(payload, &claims) == nil
}
