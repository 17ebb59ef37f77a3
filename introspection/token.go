package introspection

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"strings"
)

// noopToken is what Koppeltaal issues as the access token of an app launch. It
// identifies nobody and must never be granted anything.
const noopToken = "NOOP"

// launchAudience begins the `aud` of a Koppeltaal launch (HTI) token. Its
// introspection counts as a login of the patient, so that a client that sends
// one to the FHIR server by mistake must not cause it.
const launchAudience = "Device/"

// neverAccepted reports whether the token can be refused without a call. What
// it reads of a token isn't verified, which is why it only ever refuses.
func neverAccepted(token string) bool {
	if token == noopToken {
		return true
	}
	var claims struct {
		Aud any `json:"aud"`
	}
	payload, ok := jwtPayload(token)
	if !ok || json.Unmarshal(payload, &claims) != nil {
		return false
	}
	audiences, isArray := claims.Aud.([]any)
	if !isArray {
		audiences = []any{claims.Aud}
	}
	for _, value := range audiences {
		if audience, _ := value.(string); strings.HasPrefix(audience, launchAudience) {
			return true
		}
	}
	return false
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

// NewRequestID returns a random UUID (RFC 9562 §5.4), the form Koppeltaal asks
// of X-Request-Id.
func NewRequestID() string {
	// It is no secret, so that it need not come from the kernel each time.
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // see above
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // see above
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	var text [36]byte
	hex.Encode(text[:8], b[:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
