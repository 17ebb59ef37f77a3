// Package policy decides whether an active token is good enough for this FHIR
// server: what kind of token it is, for whom and from whom, and for how long; and
// whether it permits a request, by its scopes, its tenant and its patient.
package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// Policy is what an active token must have. An empty list checks nothing; a
// claim that is absent fails a check that is configured.
type Policy struct {
	// Audiences: `aud` must contain one of these values (exact match).
	Audiences []string
	// Issuers: `iss` must be one of these values (exact match).
	Issuers []string
	// Scopes: `scope` must contain all of these values (exact match).
	Scopes []string
	// TokenTypes: `token_type` must be one of these values (case-insensitive).
	TokenTypes []string
	// IgnorePatientContext accepts a token that is limited to one patient and doesn't
	// say to whom.
	IgnorePatientContext bool
	// ClockSkew is the leeway for `nbf` and `iat`. `exp` gets none.
	ClockSkew time.Duration
}

// Reason says why a token is denied; its text is a label value.
type Reason string

// The reasons of this package's rules.
const (
	Kind           Reason = "kind"
	Bound          Reason = "bound"
	TokenType      Reason = "token_type"
	Expired        Reason = "expired"
	NotYet         Reason = "not_yet"
	Audience       Reason = "audience"
	Issuer         Reason = "issuer"
	RequiredScope  Reason = "required_scope"
	PatientContext Reason = "patient_context"
	Interaction    Reason = "interaction"
	Operation      Reason = "operation"
	OtherPatient   Reason = "patient"
	Tenant         Reason = "tenant"
)

// Check applies the rules as of now and returns the reason of the first one that
// fails, or "". It runs on every request, because a verdict from the cache was made
// for another request, earlier.
func (p *Policy) Check(r *introspection.Response, now time.Time) Reason {
	for i := range rules {
		if !rules[i].holds(p, r, now) {
			return rules[i].reason
		}
	}
	return ""
}

// Result says how a token fares in one rule.
type Result struct {
	// Reason is what a request would be denied for.
	Reason Reason
	// Passed reports whether the rule holds.
	Passed bool
	// Detail is what the rule looked at. It may hold claims.
	Detail string
}

// Results applies all rules as of now, for an operator.
func (p *Policy) Results(r *introspection.Response, now time.Time) []Result {
	results := make([]Result, 0, len(rules))
	for i := range rules {
		rule := &rules[i]
		results = append(results, Result{rule.reason, rule.holds(p, r, now), rule.detail(r, now)})
	}
	return results
}

// rule is one thing that a token must satisfy.
type rule struct {
	reason Reason
	holds  func(p *Policy, r *introspection.Response, now time.Time) bool
	detail func(r *introspection.Response, now time.Time) string
}

// rules are all of them, in the order in which they are applied.
var rules = [...]rule{
	// Authorization servers vouch for refresh and id tokens too.
	{Kind, func(_ *Policy, r *introspection.Response, _ time.Time) bool {
		return r.Kind() != introspection.KindOther
	}, text("an access token")},

	// A binding that isn't verified would be no binding (RFC 8705, RFC 9449).
	{Bound, func(_ *Policy, r *introspection.Response, _ time.Time) bool {
		return r.Kind() != introspection.KindBound
	}, text("a bearer token, not bound to its sender")},

	{TokenType, func(p *Policy, r *introspection.Response, _ time.Time) bool {
		return len(p.TokenTypes) == 0 || slices.ContainsFunc(p.TokenTypes, func(allowed string) bool {
			return strings.EqualFold(allowed, r.Text(introspection.TokenType))
		})
	}, claim("token_type", introspection.TokenType)},

	// RFC 7519 §4.1.4: on or after it, the token must not be accepted.
	{Expired, func(_ *Policy, r *introspection.Response, now time.Time) bool {
		exp, ok := r.ExpiresAt()
		return !ok || now.Unix() < exp
	}, expiry},

	// RFC 7519 §4.1.5, §4.1.6.
	{NotYet, func(p *Policy, r *introspection.Response, now time.Time) bool {
		latest := now.Add(p.ClockSkew).Unix()
		return r.NotBefore() <= latest && r.IssuedAt() <= latest
	}, text("nbf and iat have passed")},

	{Audience, func(p *Policy, r *introspection.Response, _ time.Time) bool {
		return len(p.Audiences) == 0 || slices.ContainsFunc(slices.Collect(r.Audiences()), func(audience string) bool {
			return slices.Contains(p.Audiences, audience)
		})
	}, func(r *introspection.Response, _ time.Time) string {
		if all := strings.Join(slices.Collect(r.Audiences()), " "); all != "" {
			return "aud " + all
		}
		return "no aud"
	}},

	{Issuer, func(p *Policy, r *introspection.Response, _ time.Time) bool {
		return len(p.Issuers) == 0 || slices.Contains(p.Issuers, r.Text(introspection.Issuer))
	}, claim("iss", introspection.Issuer)},

	{RequiredScope, func(p *Policy, r *introspection.Response, _ time.Time) bool {
		return containsAll(r.Text(introspection.Scope), p.Scopes)
	}, claim("scope", introspection.Scope)},

	// Without the header, the FHIR server would see a token without its limit.
	{PatientContext, func(p *Policy, r *introspection.Response, _ time.Time) bool {
		return p.IgnorePatientContext || !lacksPatient(r)
	}, text("the patient that patient/ scopes are limited to")},
}

// Cure returns the scopes that a token would need in order not to be denied for a
// reason of this policy, space separated, or "" when no scope helps.
func (p *Policy) Cure(reason Reason, r *introspection.Response) string {
	switch reason {
	case RequiredScope:
		return strings.Join(p.Scopes, " ")
	case PatientContext:
		// SMART App Launch 2.2, "Requesting context with scopes". A client that did ask
		// got no patient for another reason.
		scopes := r.Text(introspection.Scope)
		if !containsAll(scopes, []string{"launch/patient"}) && !containsAll(scopes, []string{"launch"}) {
			return "launch/patient"
		}
	}
	return ""
}

func containsAll(granted string, required []string) bool {
	for _, scope := range required {
		found := false
		for have := range strings.SplitSeq(granted, " ") {
			found = found || have == scope
		}
		if !found {
			return false
		}
	}
	return true
}

// lacksPatient reports a token that is limited to one patient who isn't known: all of
// its resource scopes are patient/ and there is no patient, or it has such a scope and
// its patient is no FHIR id.
func lacksPatient(r *introspection.Response) bool {
	if r.Text(introspection.Patient) != "" {
		return false
	}
	scopes := r.Text(introspection.Scope)
	return smart.PatientOnly(scopes) || r.Unusable(introspection.Patient) && smart.HasPatient(scopes)
}
