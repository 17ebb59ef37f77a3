package client

import (
	"encoding/base64"
	"encoding/json"
	"strings"
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
	decoded, ok := decodeSegment(segment)
	isJWT = ok && json.Unmarshal(decoded, &h) == nil && h.Algorithm != ""
	return h, isJWT
}

// jwtPayload returns the payload of a token in JWS compact serialization
// (RFC 7515 §7.1), decoded but not verified.
func jwtPayload(token string) ([]byte, bool) {
	_, rest, ok := strings.Cut(token, ".")
	if !ok {
		return nil, false
	}
	segment, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return nil, false
	}
	return decodeSegment(segment)
}

// decodeSegment tolerates padding, because what it decodes is only ever refused.
func decodeSegment(segment string) ([]byte, bool) {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(segment, "="))
	return decoded, err == nil
}
