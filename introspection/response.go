package introspection

import (
	"iter"
	"strings"
	"time"
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

// Kind says what the authorization server called the token.
type Kind uint8

const (
	// KindAccess is an access token, or a token whose kind wasn't told.
	KindAccess Kind = iota
	// KindOther is a refresh, id or logout token: active at its own endpoint,
	// never a credential at a FHIR server.
	KindOther
	// KindBound is a sender-constrained token (`cnf`, DPoP; RFC 8705,
	// RFC 9449). Its binding can't be verified here, and accepting it without
	// would turn it into a bearer token.
	KindBound
)

// audienceSeparator can't be part of an audience: control characters in a
// claim make the whole answer malformed.
const audienceSeparator = "\n"

// Response is an active introspection response (RFC 7662 §2.2). It is
// immutable, so that one value can be shared by all requests with its token.
// Claims are packed into one string because a cache keeps tens of thousands of them.
type Response struct {
	text       string
	ends       [claimCount]uint32
	obtainedAt time.Time
	expires    int64
	notBefore  int64
	issuedAt   int64
	unusable   ClaimSet
	kind       Kind
	hasExp     bool
}

// Text returns the claim's value, or "" when the answer didn't have it.
func (r *Response) Text(c Claim) string {
	var start uint32
	if c > 0 {
		start = r.ends[c-1]
	}
	return r.text[start:r.ends[c]]
}

// Audiences yields the single values of `aud`.
func (r *Response) Audiences() iter.Seq[string] {
	if r.Text(Audience) == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(r.Text(Audience), audienceSeparator)
}

// ObtainedAt returns when the authorization server said so. How long a response
// may be believed counts from there, however many caches it went through.
func (r *Response) ObtainedAt() time.Time { return r.obtainedAt }

// ExpiresAt returns `exp` in seconds since 1970 and whether the answer had it.
func (r *Response) ExpiresAt() (unix int64, ok bool) { return r.expires, r.hasExp }

// NotBefore returns `nbf` in seconds since 1970, zero when absent.
func (r *Response) NotBefore() int64 { return r.notBefore }

// IssuedAt returns `iat` in seconds since 1970, zero when absent.
func (r *Response) IssuedAt() int64 { return r.issuedAt }

// Kind returns what the authorization server called the token.
func (r *Response) Kind() Kind { return r.kind }

// Unusable reports whether the answer had the claim in a form that can't be
// passed on: a patient that isn't a FHIR id, an item of fhirContext that is
// neither reference nor object.
func (r *Response) Unusable(c Claim) bool { return r.unusable.Has(c) }
