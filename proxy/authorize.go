package proxy

import (
	"slices"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Policy is what an active token must have. An empty list checks nothing; a
// claim that is absent fails a check that is configured.
type Policy struct {
	// Audiences: `aud` must have one of them, exactly.
	Audiences []string
	// Issuers: `iss` must be one of them, exactly.
	Issuers []string
	// Scopes: `scope` must have all of them, exactly.
	Scopes []string
	// TokenTypes: `token_type` must be one of them, in whatever case.
	TokenTypes []string
	// Interactions: the SMART scopes in `scope` must permit the FHIR interaction.
	Interactions bool
	// ClockSkew is the leeway for `nbf` and `iat`. `exp` gets none.
	ClockSkew time.Duration
}

// check applies the policy as of now. It runs on every request, because a
// verdict from the cache was made for another request, earlier.
func (p *Policy) check(r *introspection.Response, now time.Time) *refusal {
	if !p.kindAllowed(r) || !p.inTime(r, now) ||
		!p.audienceAllowed(r) || !p.issuerAllowed(r) {
		return &refuseToken
	}
	if !hasAllScopes(r.Text(introspection.Scope), p.Scopes) || lostPatient(r) {
		return &refuseScope
	}
	return nil
}

// kindAllowed refuses what is active but no bearer access token: authorization
// servers vouch for refresh and id tokens too.
func (p *Policy) kindAllowed(r *introspection.Response) bool {
	if r.Kind() != introspection.KindAccess {
		return false
	}
	return len(p.TokenTypes) == 0 || slices.ContainsFunc(p.TokenTypes, func(allowed string) bool {
		return strings.EqualFold(allowed, r.Text(introspection.TokenType))
	})
}

// inTime checks `exp`, `nbf` and `iat` (RFC 7519 §4.1).
func (p *Policy) inTime(r *introspection.Response, now time.Time) bool {
	if exp, ok := r.ExpiresAt(); ok && now.Unix() >= exp {
		return false
	}
	latest := now.Add(p.ClockSkew).Unix()
	return r.NotBefore() <= latest && r.IssuedAt() <= latest
}

func (p *Policy) audienceAllowed(r *introspection.Response) bool {
	return len(p.Audiences) == 0 || slices.ContainsFunc(slices.Collect(r.Audiences()), func(audience string) bool {
		return slices.Contains(p.Audiences, audience)
	})
}

func (p *Policy) issuerAllowed(r *introspection.Response) bool {
	return len(p.Issuers) == 0 || slices.Contains(p.Issuers, r.Text(introspection.Issuer))
}

func hasAllScopes(granted string, required []string) bool {
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

// lostPatient holds for a token that is limited to one patient whom the answer
// names in a way that can't be passed on. Without the header the FHIR server
// would see a token without that limit.
func lostPatient(r *introspection.Response) bool {
	if !r.Unusable(introspection.Patient) {
		return false
	}
	for scope := range strings.SplitSeq(r.Text(introspection.Scope), " ") {
		if strings.HasPrefix(scope, "patient/") {
			return true
		}
	}
	return false
}
