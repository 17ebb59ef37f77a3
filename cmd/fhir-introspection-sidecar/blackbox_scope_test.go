package main

import (
	"strings"
	"testing"
)

// none is the scope of a challenge that names none: nothing would help.
const none = "none"

// needs finds a refusal for want of scopes.
func (a answer) needs(t *testing.T, scopes string) {
	t.Helper()
	issue, want := "forbidden", `, error="insufficient_scope", scope="`+scopes+`"`
	if scopes == none {
		issue, want = "not-supported", `Bearer realm="fhir", error="insufficient_scope"`
	}
	a.refused(t, 403, issue, "insufficient_scope")
	if got := a.header.Get("WWW-Authenticate"); !strings.HasSuffix(got, want) {
		t.Errorf("got challenge %s, want it to end in %s", got, want)
	}
}

// Scope enforcement through the whole program, with no context header on whose
// account the claims would be kept anyway.
func TestBlackboxScopeEnforcement(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SCOPE_ENFORCEMENT": "coarse", "HEADERS": "sub", "CACHE_MAX_AGE": "1h"})
	claims := w.as.Claims()
	claims["scope"] = "launch patient/Observation.rs patient/Patient.read"
	claims["patient"] = "Patient/123"
	w.as.AddToken("reader", claims)
	unscoped := w.as.Claims()
	delete(unscoped, "scope")
	w.as.AddToken("unscoped", unscoped)

	for _, c := range []struct {
		request, token string
		needed         string // "" when it is permitted, none when no scope would help
	}{
		{"GET /fhir/Observation?code=x", "reader", ""},
		{"POST /fhir/Observation/_search", "reader", ""},
		{"GET /fhir/Patient/123", "reader", ""},
		{"GET /fhir/Patient/124", "reader", "user/Patient.r"},
		{"PUT /fhir/Observation/1", "reader", "patient/Observation.u"},
		{"GET /fhir/Task", "reader", "patient/Task.s"},
		{"GET /fhir/Task", "unscoped", "user/Task.s"},
		{"GET /fhir/Patient/1/2/3/4/5", "reader", none},
		{"POST /fhir/$reindex", "reader", none},
		{"GET /fhir/metadata", "reader", ""},
	} {
		for range 2 { // the second time from the cache
			before := w.up.count()
			a := w.ask(t, c.request, bearer(c.token), "Content-Length: 0")
			if c.needed == "" {
				a.is(t, 200)
				continue
			}
			a.needs(t, c.needed)
			if w.up.count() != before {
				t.Errorf("%s reached the FHIR server, want it refused only", c.request)
			}
		}
	}
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="insufficient_scope"`, `code="4xx"`); n != 12 {
		t.Errorf("%v refusals counted, want 12", n)
	}
}
