package proxy

import (
	"net/http"
	"slices"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Explanation says how an active token fares in one check.
type Explanation struct {
	Check  string
	Passed bool
	// Setting is what the check is configured with, if anything.
	Setting string
	Detail  string
}

// Explain makes the checks of a request one by one, for an operator.
func (p *Proxy) Explain(r *introspection.Response) []Explanation {
	policy, now := &p.config.Policy, p.config.Now()
	all := []Explanation{
		{"kind", policy.kindAllowed(r), "SIDECAR_REQUIRED_TOKEN_TYPES", "a bearer access token"},
		{"time", policy.inTime(r, now), "SIDECAR_CLOCK_SKEW", expiryDetail(r, now)},
		{"audience", policy.audienceAllowed(r), "SIDECAR_REQUIRED_AUDIENCES", "aud " + jsonArray(r)},
		{"issuer", policy.issuerAllowed(r), "SIDECAR_REQUIRED_ISSUERS", "iss " + r.Text(introspection.Issuer)},
		{"scope", hasAllScopes(r.Text(introspection.Scope), policy.Scopes), "SIDECAR_REQUIRED_SCOPES", "scope " + r.Text(introspection.Scope)},
	}
	if lostPatient(r) {
		all = append(all, Explanation{"patient", false, "", "limited to a patient that is no FHIR id"})
	}
	return slices.Clip(all)
}

func expiryDetail(r *introspection.Response, now time.Time) string {
	exp, ok := r.ExpiresAt()
	if !ok {
		return "no exp"
	}
	return "expires in " + time.Duration(max(0, min(exp-now.Unix(), 1<<31))*int64(time.Second)).String()
}

// ContextFor returns the headers that the FHIR server would get.
func (p *Proxy) ContextFor(r *introspection.Response) http.Header {
	h := make(http.Header)
	p.setContext(h, &exchange{response: r})
	return h
}
