package policy

import (
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// TestAccess: the tenant first, then scopes, then the patient, each as far as its mode
// goes.
func TestAccess(t *testing.T) {
	rules, err := smart.New(smart.Config{})
	if err != nil {
		t.Fatalf("smart.New: got error %v, want none", err)
	}
	patients, err := NewPatientGuard(nil)
	if err != nil {
		t.Fatalf("NewPatientGuard: got error %v, want none", err)
	}
	const (
		wide  = `"scope":"patient/*.rs user/Practitioner.rs","patient":"p1","tenant":"t1"`
		named = `"scope":"user/Practitioner.rs","patient":"p1","tenant":"t1"`
	)
	scopes := func(mode Mode) Access { return Access{Rules: rules, Scopes: mode} }
	patient := func(mode Mode) Access { return Access{Rules: rules, Guard: patients, Patient: mode} }
	tenant := Access{Tenant: func(r *introspection.Response) string { return r.Text(introspection.Tenant) }}
	for _, tt := range []struct {
		name             string
		access           Access
		request          Request
		claims           string
		denied, reported Reason
		guarded          Reach
	}{
		{"nothing asked", Access{}, Request{Method: "DELETE", Path: "Patient/p2"}, named, "", "", ""},

		{"tenant", tenant, Request{Method: "GET", Path: "Patient", Tenant: "t1"}, named, "", "", ""},
		{"another tenant", tenant, Request{Method: "GET", Path: "Patient", Tenant: "t2"}, named, Tenant, "", ""},
		{"another case", tenant, Request{Method: "GET", Path: "Patient", Tenant: "T1"}, named, Tenant, "", ""},
		{"no tenant claimed", tenant, Request{Method: "GET", Path: "Patient", Tenant: "t1"}, `"scope":"x"`, Tenant, "", ""},
		{"no tenant at all", tenant, Request{Method: "GET", Path: "Patient"}, `"scope":"x"`, Tenant, "", ""},

		{"scope", scopes(Enforce), Request{Method: "GET", Path: "Practitioner/1"}, named, "", "", ""},
		{"no scope", scopes(Enforce), Request{Method: "GET", Path: "Task/1"}, named, Reason(smart.Interaction), "", ""},
		{"no scope, reported", scopes(Report), Request{Method: "GET", Path: "Task/1"}, named, "", Reason(smart.Interaction), ""},

		{"own patient", patient(Enforce), Request{Method: "GET", Path: "Patient/p1"}, wide, "", "", ReachInside},
		{"other patient", patient(Enforce), Request{Method: "GET", Path: "Patient/p2"}, wide, OtherPatient, "", ReachOutside},
		{"other patient, encoded", patient(Enforce), Request{Method: "GET", Path: "Patient/p%32"}, wide, OtherPatient, "", ReachOutside},
		{"other patient, reported", patient(Report), Request{Method: "GET", Path: "Patient/p2"}, wide, "", OtherPatient, ReachOutside},
		{"who knows", patient(Enforce), Request{Method: "GET", Path: "Observation/1"}, wide, "", "", ReachUnknown},
		{"who knows, strict", patient(Strict), Request{Method: "GET", Path: "Observation/1"}, wide, OtherPatient, "", ReachUnknown},
		{"permitted otherwise", patient(Strict), Request{Method: "GET", Path: "Practitioner/1"}, wide, "", "", ""},
		{"not limited", patient(Strict), Request{Method: "GET", Path: "Patient/p2"}, named, "", "", ""},
	} {
		claims := introspection.NewClaimSet(introspection.Patient, introspection.Scope, introspection.Tenant)
		response, err := introspectiontest.Decode([]byte(`{"active":true,`+tt.claims+`}`), claims, time.Unix(0, 0))
		if err != nil {
			t.Fatalf("%s: got error %v, want none", tt.name, err)
		}
		got := tt.access.Check(&tt.request, response)
		if got.Denied != tt.denied || got.Reported != tt.reported || got.Guarded != tt.guarded {
			t.Errorf("%s: got denied %q, reported %q, guarded %q, want %q, %q, %q",
				tt.name, got.Denied, got.Reported, got.Guarded, tt.denied, tt.reported, tt.guarded)
		}
	}
}
