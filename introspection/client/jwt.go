package client

import (
	"encoding/json"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// jwtHeader is what is read of a JWT's header (RFC 7515 §4.1).
type jwtHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Critical  any    `json:"crit"`
}

// parseHeader reads the header of a token that is a JWT. An opaque one with two dots
// has no `alg`.
func parseHeader(token string) (h jwtHeader, isJWT bool) {
	segment, _, _ := strings.Cut(token, ".")
	decoded, ok := introspection.DecodeJWTSegment(segment)
	isJWT = ok && json.Unmarshal(decoded, &h) == nil && h.Algorithm != ""
	return h, isJWT
}
