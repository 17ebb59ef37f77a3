package proxy

import (
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// TestInteractions sends requests with the seed's scopes, patient/*.read for
// patient 123, with the check and without it.
func TestInteractions(t *testing.T) {
	rules, err := smart.New(smart.Config{})
	if err != nil {
		t.Fatal(err)
	}
	const none = "none"
	for _, tt := range []struct {
		name, raw string
		needed    string // "" when the scopes permit it, none when no scope would
	}{
		{"search", get("/fhir/Observation?code=x", bearerTOK), ""},
		{"read own patient", get("/fhir/Patient/123", bearerTOK), ""},
		{"read other patient", get("/fhir/Patient/124", bearerTOK), "user/Patient.r"},
		{"create", message("POST", "/fhir/Task", "{}", bearerTOK), "patient/Task.c"},
		{"bundle", message("POST", "/fhir", "{}", bearerTOK), "patient/*.cruds"},
		{"condition", message("PUT", "/fhir/Task?x=secret", "{}", bearerTOK), "patient/Task.us"},
		{"unknown operation", message("POST", "/fhir/$secret", "{}", bearerTOK), none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStack(t, func(c *Config) { c.Access = policy.Access{Rules: rules, Scopes: policy.Enforce} })
			a := s.do(tt.raw)
			if tt.needed == "" {
				if a.StatusCode != 200 {
					t.Errorf("got status %d, want 200", a.StatusCode)
				}
				return
			}
			want := `Bearer realm="fhir", error="insufficient_scope"`
			if tt.needed != none {
				want += `, scope="` + tt.needed + `"`
			}
			if got := a.Header.Get("WWW-Authenticate"); a.StatusCode != 403 || got != want {
				t.Errorf("got status %d, challenge %s, want 403, %s", a.StatusCode, got, want)
			}
			s.upstream.untouched()

			for name, access := range map[string]policy.Access{"off": {}, "report": {Rules: rules, Scopes: policy.Report}} {
				off := newStack(t, func(c *Config) { c.Access = access })
				if a := off.do(tt.raw); a.StatusCode != 200 {
					t.Errorf("got status %d with the check %s, want 200", a.StatusCode, name)
				}
			}
		})
	}
}
