package client

import (
	"encoding/json"
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
