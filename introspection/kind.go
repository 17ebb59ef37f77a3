package introspection

import (
	"slices"
	"strings"
)

// Kind says what the authorization server called the token.
type Kind uint8

const (
	// KindAccess is an access token, or a token whose kind the server doesn't tell.
	KindAccess Kind = iota
	// KindOther is a token that is called something else than an access token: a
	// refresh, id or logout token is active at its own endpoint, and never a
	// credential at a FHIR server.
	KindOther
	// KindBound is a sender-constrained token (`cnf`, DPoP; RFC 8705,
	// RFC 9449). Its binding can't be verified here, and accepting it without
	// would turn it into a bearer token.
	KindBound
)

// kindOf reads one of the members that say of what kind a token is. There is a list
// of what access tokens are called, and not of all others, because new ones come up.
func kindOf(name string) Kind {
	name = strings.TrimPrefix(strings.ToLower(name), "application/") // RFC 9068 §4: in full or not
	switch {
	case name == "" || slices.Contains([]string{
		"bearer", "bearertoken", "access", "access_token", "at+jwt", "jwt",
		"urn:ietf:params:oauth:token-type:access_token", // RFC 8693 §3
	}, name):
		return KindAccess
	case name == "dpop" || name == "pop":
		return KindBound
	}
	return KindOther
}
