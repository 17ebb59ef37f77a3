package introspection

import (
	"encoding/json/jsontext"
	"slices"
)

// Claim names a member of the introspection response that this package keeps
// (RFC 7662 §2.2, SMART App Launch launch context).
type Claim uint8

// The claims, in the order in which a Response stores them.
const (
	// Scope is `scope`: space separated, also when it came as an array.
	Scope Claim = iota
	// ClientID is `client_id`, else `azp`.
	ClientID
	// Username is `username`.
	Username
	// TokenType is `token_type` as given.
	TokenType
	// Subject is `sub`.
	Subject
	// Audience is `aud`; use Response.Audiences for the single values.
	Audience
	// Issuer is `iss`.
	Issuer
	// TokenID is `jti`.
	TokenID
	// Expires is `exp` in decimal seconds since 1970.
	Expires
	// Patient is `patient` as a bare id (FHIR id grammar).
	Patient
	// Encounter is `encounter` as a bare id (FHIR id grammar).
	Encounter
	// User is `fhirUser`, else `user`, as given.
	User
	// FHIRContext is `fhirContext` as a one-line ASCII JSON array of objects.
	FHIRContext
	// Intent is `intent`.
	Intent
	// Tenant is `tenant`.
	Tenant
	// Resource is `resource` (Koppeltaal launch).
	Resource
	// Definition is `definition` (Koppeltaal launch).
	Definition

	claimCount
)

// claimRow is one claim: where it stands and how it is read.
type claimRow struct {
	// members are its names. The first that says something counts, and is what
	// settings call the claim.
	members []string
	// launch says that it is also looked for below `ext`, where Ory Hydra puts the
	// claims of the session.
	launch bool
	read   reader
}

// reader makes the text of a claim of what stands in the response. Not usable says
// that it can't be passed on, or not all of it.
type reader func(raw jsontext.Value) (text string, usable bool, err error)

// claims is every claim, by its number.
var claims = [claimCount]claimRow{
	Scope:       {[]string{"scope"}, false, readScope},
	ClientID:    {[]string{"client_id", "azp"}, false, readText},
	Username:    {[]string{"username"}, false, readText},
	TokenType:   {[]string{"token_type"}, false, readText},
	Subject:     {[]string{"sub"}, false, readText},
	Audience:    {[]string{"aud"}, false, readAudience},
	Issuer:      {[]string{"iss"}, false, readText},
	TokenID:     {[]string{"jti"}, false, readText},
	Expires:     {[]string{"exp"}, false, readDate},
	Patient:     {[]string{"patient"}, true, readPatient},
	Encounter:   {[]string{"encounter"}, true, readEncounter},
	User:        {[]string{"fhirUser", "user"}, true, readText},
	FHIRContext: {[]string{"fhirContext"}, true, contextJSON},
	Intent:      {[]string{"intent"}, true, readText},
	Tenant:      {[]string{"tenant"}, true, readText},
	Resource:    {[]string{"resource"}, true, readText},
	Definition:  {[]string{"definition"}, true, readText},
}

// ClaimNames returns what settings call the claims.
func ClaimNames() (names []string) {
	for _, row := range claims {
		names = append(names, row.members[0])
	}
	return names
}

// ClaimNamed returns the claim that has the member of this name.
func ClaimNamed(name string) (Claim, bool) {
	for c, row := range claims {
		if slices.Contains(row.members, name) {
			return Claim(c), true
		}
	}
	return 0, false
}

// ClaimSet is a set of claims.
type ClaimSet uint32

// NewClaimSet returns the set of the given claims.
func NewClaimSet(claims ...Claim) ClaimSet {
	var s ClaimSet
	for _, c := range claims {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in the set.
func (s ClaimSet) Has(c Claim) bool { return s&(1<<c) != 0 }
