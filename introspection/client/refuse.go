package client

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// noopToken is what Koppeltaal issues as the access token of an app launch. It
// identifies nobody and must never be granted anything.
const noopToken = "NOOP"

// launchAudience begins the `aud` of a Koppeltaal launch (HTI) token. Its
// introspection counts as a login of the patient, so that a client that sends
// one to the FHIR server by mistake must not cause it.
const launchAudience = "Device/"

// neverAccepted returns why the token is refused without a call, or nil. What it
// reads of a token isn't verified, which is why it only ever refuses. A JWT for one
// of our own endpoints at the authorization server proves there who somebody is
// (RFC 7523), and is no access token even where the server calls it active.
func neverAccepted(token string, endpoints ...string) error {
	if token == noopToken {
		return introspection.ErrInactive
	}
	var claims struct {
		Aud any `json:"aud"`
	}
	if payload, isJWT := introspection.JWTPayload(token); isJWT {
		_ = json.Unmarshal(payload, &claims) // what is no JSON has no aud
	}
	audiences, isArray := claims.Aud.([]any)
	if !isArray {
		audiences = []any{claims.Aud}
	}
	for _, value := range audiences {
		audience, _ := value.(string)
		switch {
		case strings.HasPrefix(audience, launchAudience):
			return introspection.ErrInactive
		case audience != "" && slices.Contains(endpoints, audience):
			return introspection.ErrAssertion
		}
	}
	return nil
}
