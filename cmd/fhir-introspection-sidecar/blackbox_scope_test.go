package main

import (
	"strings"
	"testing"
)

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
		needed         string // "" when it is permitted
	}{
		{"GET /fhir/Observation?code=x", "reader", ""},
		{"POST /fhir/Observation/_search", "reader", ""},
		{"GET /fhir/Patient/123", "reader", ""},
		{"GET /fhir/Patient/124", "reader", "patient/Patient.r"},
		{"PUT /fhir/Observation/1", "reader", "patient/Observation.u"},
		{"GET /fhir/Task", "reader", "patient/Task.s"},
		{"GET /fhir/Task", "unscoped", "user/Task.s"},
		{"GET /fhir/Patient/1/2/3/4/5", "reader", "patient/*.cruds"},
		{"GET /fhir/metadata", "reader", ""},
	} {
		for range 2 { // the second time from the cache
			before := w.up.count()
			a := w.ask(t, c.request, bearer(c.token), "Content-Length: 0")
			if c.needed == "" {
				a.is(t, 200)
				continue
			}
			a.refused(t, 403, "forbidden", "insufficient_scope")
			if got := a.header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `, scope="`+c.needed+`"`) {
				t.Errorf("%s: %s, want scope %q", c.request, got, c.needed)
			}
			if w.up.count() != before {
				t.Errorf("%s reached the FHIR server, want it refused only", c.request)
			}
		}
	}
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="insufficient_scope"`, `code="4xx"`); n != 10 {
		t.Errorf("%v refusals counted, want 10", n)
	}
}
