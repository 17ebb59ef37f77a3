package introspection

import (
	"encoding/base64"
	"strings"
)

// JWTPayload returns the payload of a token in JWS compact serialization
// (RFC 7515 §7.1), decoded and not verified: it may be used to refuse a token, or to
// tell an operator about it, and never to accept one.
func JWTPayload(token string) (payload []byte, ok bool) {
	_, rest, ok := strings.Cut(token, ".")
	if !ok {
		return nil, false
	}
	segment, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return nil, false
	}
	return DecodeJWTSegment(segment)
}

// DecodeJWTSegment decodes one part of a JWT. It takes padding, which RFC 7515 §2
// forbids, because what it decodes is only ever refused.
func DecodeJWTSegment(segment string) (decoded []byte, ok bool) {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(segment, "="))
	return decoded, err == nil
}
