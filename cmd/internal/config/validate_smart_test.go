package config

import (
	"slices"
	"testing"
)

// accessTests go with settingTests: what decides about requests of accepted tokens,
// and what clients are told.
var accessTests = []settingTest{
	{"SIDECAR_SCOPE_ENFORCEMENT", "report", nil, ""},
	{"SIDECAR_SCOPE_ENFORCEMENT", "strict", nil, ""},
	{"SIDECAR_SCOPE_ENFORCEMENT", "Coarse", nil, "must be off, report, coarse or strict"},

	{"SIDECAR_OPERATIONS", "$docref=DocumentReference.rs,$process-message=MessageHeader.c", nil, ""},
	{"SIDECAR_OPERATIONS", "$reindex=*.cruds, $validate=rs", nil, ""},
	{"SIDECAR_OPERATIONS", "docref=DocumentReference.rs", nil, "must have the form $name=Type.letters, such as $docref=DocumentReference.rs"},
	{"SIDECAR_OPERATIONS", "$docref=DocumentReference.sr", nil, "must end in letters of cruds, in that order"},
	{"SIDECAR_OPERATIONS", "$docref=document.r", nil, "must name a resource type, or * for all"},

	{"SIDECAR_PATH_SCOPES", "GET documents/*=DocumentReference.r,GET */__page/*=s", nil, ""},
	{"SIDECAR_PATH_SCOPES", "GET Patient/*=Patient.r", nil, "must not name a path that FHIR knows: what that needs is known, and operations have a setting of their own"},
	{"SIDECAR_PATH_SCOPES", "documents=Patient.r", nil, "must have the form METHOD path=Type.letters, with the path below the base, such as GET documents/*=DocumentReference.r"},
	{"SIDECAR_PATH_SCOPES", "FETCH documents=Patient.r", nil, "must begin with a method, one of GET HEAD POST PUT PATCH DELETE"},

	{"SIDECAR_PATIENT_CONTEXT", "require", nil, ""},
	{"SIDECAR_PATIENT_CONTEXT", "ignore", nil, ""},
	{"SIDECAR_PATIENT_CONTEXT", "off", nil, "must be require or ignore"},

	{"SIDECAR_PATIENT_GUARD", "off", nil, ""},
	{"SIDECAR_PATIENT_GUARD", "report", nil, ""},
	{"SIDECAR_PATIENT_GUARD", "enforce", nil, ""},
	{"SIDECAR_PATIENT_GUARD", "strict", nil, ""},
	{"SIDECAR_PATIENT_GUARD", "coarse", nil, "must be off, report, enforce or strict"},
	{"SIDECAR_PATIENT_GUARD_TYPES", "Task:patient,Device:patient", []string{"SIDECAR_PATIENT_GUARD", "enforce"}, ""},
	{"SIDECAR_PATIENT_GUARD_TYPES", "Task", nil, "must have the form Type:parameter, such as Task:patient"},
	{"SIDECAR_PATIENT_GUARD_TYPES", "Patient:link", nil, "must not name Patient, who belongs to nobody else"},

	{"SIDECAR_TENANT_CLAIM", "tenant", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"}, ""},
	{"SIDECAR_TENANT_CLAIM", "client_id", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"}, ""},
	{"SIDECAR_TENANT_CLAIM", "organization", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"}, ""},
	{"SIDECAR_TENANT_CLAIM", "", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"}, wantItems},
	{"SIDECAR_TENANT_CLAIM", "a b", nil, "must be the name of a claim, such as tenant"},
	{"SIDECAR_TENANT_CLAIM", "tenant", nil, "needs {tenant} in SIDECAR_UPSTREAM_URL"},

	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/fhir/R4", nil, ""},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org", nil, ""},
	{"SIDECAR_PUBLIC_URL", "http://127.0.0.1:8000/fhir/", nil, ""},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/{tenant}", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"}, ""},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/{tenant}", nil, "must have {tenant} exactly when SIDECAR_UPSTREAM_URL has it"},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"}, "must have {tenant} exactly when SIDECAR_UPSTREAM_URL has it"},
	{"SIDECAR_PUBLIC_URL", "http://fhir.example.org/fhir", nil, "must be https, or http to a loopback address"},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/fhir?x=1", nil, "must not have a query"},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/a%2fb", nil, "must have a plain path, with no placeholder but {tenant}"},
	{"SIDECAR_PUBLIC_URL", "https://fhir.example.org/{realm}", nil, "must have a plain path, with no placeholder but {tenant}"},
	{"SIDECAR_PUBLIC_URL", "fhir.example.org", nil, "must begin with http:// or https://"},
	{"SIDECAR_PUBLIC_URL", "https://u:p@fhir.example.org", nil, "must not have user information: secrets come from files"},

	{"SIDECAR_CORS_ORIGINS", "https://app.example.org, http://localhost:3000", nil, ""},
	{"SIDECAR_CORS_ORIGINS", "*", nil, ""},
	{"SIDECAR_CORS_ORIGINS", "*,https://app.example.org", nil, "must be * alone, or origins"},
	{"SIDECAR_CORS_ORIGINS", "https://*.example.org", nil, "must be origins, such as https://app.example.org, or *"},
	{"SIDECAR_CORS_ORIGINS", "https://app.example.org/app", nil, "must be origins, such as https://app.example.org, or *"},
	{"SIDECAR_CORS_ORIGINS", "https://zorgbelang-köln.example", nil, "must have hosts as browsers send them, in ASCII: xn--…"},
	{"SIDECAR_CORS_ORIGINS", "null", nil, "must be origins, such as https://app.example.org, or *"},

	{"SIDECAR_SMART_CONFIGURATION", "forward", nil, ""},
	{"SIDECAR_SMART_CONFIGURATION", "serve", []string{"SIDECAR_ISSUER_URL", "https://as.example.org"}, ""},
	{"SIDECAR_SMART_CONFIGURATION", "fallback", []string{"SIDECAR_ISSUER_URL", "https://as.example.org"}, ""},
	{"SIDECAR_SMART_CONFIGURATION", "serve", nil, "SIDECAR_ISSUER_URL: is required with SIDECAR_SMART_CONFIGURATION=serve: the document is made of the issuer's metadata"},
	{"SIDECAR_SMART_CONFIGURATION", "serve", []string{"SIDECAR_SMART_CONFIGURATION_FILE", "/etc/smart.json"}, ""},
	{"SIDECAR_SMART_CONFIGURATION", "on", nil, "must be forward, fallback or serve"},
	{
		"SIDECAR_SMART_CONFIGURATION", "fallback",
		[]string{"SIDECAR_ISSUER_URL", "https://as.example.org", "SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/fhir/{tenant}"},
		"fallback can't look at what the FHIR server has while SIDECAR_UPSTREAM_URL has {tenant}; serve can do without",
	},
	{"SIDECAR_SMART_CONFIGURATION_FILE", "/etc/smart.json", nil, ""},
	{"SIDECAR_SMART_CAPABILITIES", "launch-ehr,permission-v2", nil, ""},
	{"SIDECAR_SMART_SCOPES", "openid fhirUser,patient/*.rs", nil, ""},

	{"SIDECAR_RESOURCE_METADATA", "off", nil, ""},
	{"SIDECAR_RESOURCE_METADATA", "on", []string{"SIDECAR_PUBLIC_URL", "https://fhir.example.org"}, ""},
	{"SIDECAR_RESOURCE_METADATA", "on", nil, "SIDECAR_PUBLIC_URL: is required with SIDECAR_RESOURCE_METADATA=on: what is protected can't be told from a request"},
	{"SIDECAR_RESOURCE_METADATA", "true", nil, "must be off or on"},
	{"SIDECAR_RESOURCE_NAME", "FHIR server of the hospital", nil, ""},
	{"SIDECAR_RESOURCE_DOCUMENTATION", "https://example.org/docs?x=1", nil, ""},
	{"SIDECAR_RESOURCE_DOCUMENTATION", "docs", nil, "must begin with http:// or https://"},

	{"SIDECAR_AUDIT_FORMAT", "json", nil, ""},
	{"SIDECAR_AUDIT_FORMAT", "fhir-balp", []string{"SIDECAR_AUDIT_LOG", "stdout"}, ""},
	{"SIDECAR_AUDIT_FORMAT", "fhir-kt2", []string{"SIDECAR_AUDIT_LOG", "stdout"}, ""},
	{"SIDECAR_AUDIT_FORMAT", "fhir", nil, "must be json, fhir-balp or fhir-kt2"},
	{"SIDECAR_AUDIT_QUERY", "true", []string{"SIDECAR_AUDIT_LOG", "stdout"}, ""},
	{"SIDECAR_AUDIT_QUERY", "yes", nil, "must be true or false"},
	{"SIDECAR_AUDIT_OBSERVER", "Device/1", []string{"SIDECAR_AUDIT_LOG", "stdout", "SIDECAR_AUDIT_FORMAT", "fhir-kt2"}, ""},
}

// TestSettingsIdle: what does nothing is told, and is no fault.
func TestSettingsIdle(t *testing.T) {
	for variable, value := range map[string]string{
		"SIDECAR_OPERATIONS": "$x=Basic.r", "SIDECAR_PATH_SCOPES": "GET x=r", "SIDECAR_PATIENT_GUARD_TYPES": "Task:patient",
		"SIDECAR_SMART_CONFIGURATION_FILE": "/etc/smart.json", "SIDECAR_SMART_CAPABILITIES": "launch-ehr", "SIDECAR_SMART_SCOPES": "openid",
		"SIDECAR_RESOURCE_NAME": "x", "SIDECAR_RESOURCE_DOCUMENTATION": "https://example.org", "SIDECAR_AUDIT_FORMAT": "fhir-balp",
		"SIDECAR_AUDIT_QUERY": "true", "SIDECAR_AUDIT_OBSERVER": "Device/1",
	} {
		c := configure(t, with(leastSettings(), variable, value))
		if w := c.Warnings(); len(w) != 1 || w[0].Variable != variable || len(c.Faults) != 0 {
			t.Errorf("%s: got warnings %v and faults %v, want one warning of it", variable, w, c.Faults)
		}
	}
	if w := configure(t, leastSettings()).Warnings(); len(w) != 0 {
		t.Errorf("the least settings: got warnings %v, want none", w)
	}
}

// TestOrigins: origins are compared as browsers write them.
func TestOrigins(t *testing.T) {
	c := configure(t, with(leastSettings(), "SIDECAR_CORS_ORIGINS", "HTTPS://App.Example.org:443/,http://a.example:80,https://b.example:8443,http://[0:0::1]:3000"))
	if want := []string{"https://app.example.org", "http://a.example", "https://b.example:8443", "http://[::1]:3000"}; !slices.Equal(c.CORSOrigins, want) {
		t.Errorf("got %q, want %q", c.CORSOrigins, want)
	}
}
