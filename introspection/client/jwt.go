package client

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// jwtAlgorithm reads `alg`, which an opaque token with two dots doesn't have.
func jwtAlgorithm(token string) (string, bool) {
	header, _, _ := strings.Cut(token, ".")
	decoded, ok := decodeSegment(header)
	var h struct {
		Algorithm string `json:"alg"`
	}
	isJWT := ok && json.Unmarshal(decoded, &h) == nil && h.Algorithm != ""
	return h.Algorithm, isJWT
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
