package smart_test

import (
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

func rules(t testing.TB, config smart.Config) *smart.Rules {
	t.Helper()
	r, err := smart.New(config)
	if err != nil {
		t.Fatalf("smart.New: got error %v, want none", err)
	}
	return r
}

// request reads "METHOD path?query +If-None-Exist=condition".
func request(text string) *smart.Request {
	method, target, _ := strings.Cut(text, " ")
	target, condition, conditional := strings.Cut(target, " +If-None-Exist")
	q := &smart.Request{Method: method}
	q.Path, q.Query, _ = strings.Cut(target, "?")
	if conditional {
		q.Condition = []string{strings.TrimPrefix(condition, "=")}
	}
	return q
}

const (
	notListed = "- operation"
	notKnown  = "- interaction"
)

// verdict writes a decision: the scopes that are needed, "" when nothing is, or
// "- reason" when no scope could help.
func verdict(d smart.Decision) string {
	if d.Reason != "" && d.Scopes == "" {
		return "- " + string(d.Reason)
	}
	return d.Scopes
}

// TestNeeds writes down what each interaction of FHIR R4 needs.
func TestNeeds(t *testing.T) {
	r := rules(t, smart.Config{
		Operations: []string{"$docref=DocumentReference.rs", "$two=Patient.r", "$two=Task.c", "$wipe=*.cruds", "$here=u", "$stats=Basic.r"},
		Paths:      []string{"GET documents/*=DocumentReference.r", "GET */__page/*=s", "POST documents=DocumentReference.c", "DELETE bulkstatus/*=*.rs", "GET exports/%41=s", "GET */*/x=s", "POST */*=c"},
	})
	for _, tt := range []struct{ request, want string }{
		{"GET Patient/1", "user/Patient.r"},
		{"HEAD Patient/1", "user/Patient.r"},
		{"GET Patient/1/_history/2", "user/Patient.r"},
		{"GET Patient/1/_history", "user/Patient.r"},
		{"GET Patient/_history", "user/Patient.s"},
		{"GET _history", "user/*.s"},
		{"PUT Patient/1", "user/Patient.u"},
		{"PUT Patient?identifier=x", "user/Patient.us"},
		{"PUT Patient/?identifier=x", "user/Patient.us"},
		{"PATCH Patient/1", "user/Patient.u"},
		{"PATCH Patient?identifier=x", "user/Patient.us"},
		{"DELETE Patient/1", "user/Patient.d"},
		{"DELETE Patient?identifier=x", "user/Patient.ds"},
		{"DELETE Patient/1/_history/2", "user/Patient.d"},
		{"DELETE Patient/1?_cascade=delete", "user/Patient.d user/*.d"},
		{"DELETE Patient?identifier=x&%5Fcascade=delete", "user/Patient.ds user/*.d"},
		{"POST Patient", "user/Patient.c"},
		{"POST Patient +If-None-Exist", "user/Patient.cs"},
		{"POST Bundle", "user/Bundle.c"},
		{"GET Patient", "user/Patient.s"},
		{"GET Patient/?name=x", "user/Patient.s"},
		{"GET Observation?_type=Patient", "user/Observation.s"},
		{"POST Patient/_search", "user/Patient.s"},
		{"GET Patient/1/Observation", "user/Observation.s"},
		{"POST Patient/1/Observation/_search", "user/Observation.s"},
		{"GET Patient/1/*", "user/*.s"},
		{"GET Binary/1", "user/Binary.r"},

		{"GET ?name=x", "user/*.s"},
		{"GET ?_type=Patient,Task", "user/Patient.s user/Task.s"},
		{"GET ?_type=Patient&_type=Task", "user/Patient.s user/Task.s"},
		{"GET ?%5Ftype=Patient", "user/Patient.s"},
		{"GET ?_type=Patient%2CTask", "user/Patient.s user/Task.s"},
		{"GET ?_type=Patient;x=1", "user/*.s"},
		{"GET ?_type=Patient&a;_type=Task", "user/*.s"},
		{"GET ?_type=", "user/*.s"},
		{"GET ?_type=Patient,", "user/*.s"},
		{"GET ?_type=*", "user/*.s"},
		{"GET ?_type=patient", "user/*.s"},
		{"GET ?_type=Patient/1", "user/*.s"},
		{"GET ?_type=Patient/", "user/*.s"},
		{"GET ?_type=metadata", "user/*.s"},
		{"GET ?_type:not=Patient", "user/*.s"},
		{"GET ?_TYPE=Patient", "user/*.s"},
		{"GET ?%zz=1&_type=Patient", "user/*.s"},
		{"GET ?_type=%zz", "user/*.s"},
		{"GET ?_getpages=abc&_getpagesoffset=10", "user/*.s"}, // any type will do, see below
		{"POST _search?_type=Patient", "user/*.s"},

		{"POST ", "user/*.cruds"},
		{"GET metadata", ""},

		{"GET Patient/1/$everything", "user/*.rs"},
		{"GET Patient/1/%24everything", "user/*.rs"},
		{"GET Patient/$everything/", "user/*.rs"},
		{"GET $export", "user/*.rs"},
		{"GET Group/1/$export", "user/*.rs"},
		{"POST $graphql", "user/*.rs"},
		{"GET Composition/1/$document", "user/*.rs"},
		{"POST PlanDefinition/1/$apply", "user/*.rs"},
		{"POST Patient/$validate", "user/Patient.r"},
		{"POST Patient/$match", "user/Patient.s"},
		{"GET Observation/$lastn", "user/Observation.s"},
		{"GET ValueSet/$expand", "user/ValueSet.r"},
		{"POST Patient/1/$meta-add", "user/Patient.u"},
		{"POST $meta", "user/*.r"},

		{"POST Patient/1/$expunge", notListed},
		{"POST $reindex", notListed},
		{"POST $process-message", notListed},
		{"GET Patient/1/$Everything", notListed},
		{"GET patient/1", notKnown},
		{"GET Patient/1/2", notKnown},
		{"GET Group/1/Observation", notKnown},
		{"GET Patient/%31", notKnown},
		{"OPTIONS Patient", notKnown},
		{"POST metadata", notKnown},

		// types in _include and _revinclude
		{"GET Observation?_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET Observation?_revinclude:iterate=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET Observation?_revinclude=Provenance:target:Observation", "user/Observation.s user/Provenance.s"},
		{"GET Observation?_revinclude=*", "user/Observation.s user/*.s"},
		{"GET Observation?_include=*", "user/Observation.s user/*.s"},
		{"GET Observation?_include=Observation:patient", "user/Observation.s user/Patient.s"},
		{"GET Observation?_include=Observation:subject:Patient", "user/Observation.s user/Patient.s"},
		{"GET Observation?_include=Observation:specimen&_include:iterate=Specimen:collector", "user/Observation.s user/Specimen.s user/Practitioner.s user/PractitionerRole.s"},
		{"GET Observation?_include:recurse=Observation:device:Device", "user/Observation.s user/Device.s"},
		{"GET Observation?_include=Observation:*", "user/Observation.s user/*.s"},
		{"GET Observation?_include=Observation:focus", "user/Observation.s user/*.s"},
		{"GET Observation?_include=Observation:made-up", "user/Observation.s user/*.s"},
		{"GET Observation?_include=Observation", "user/Observation.s user/*.s"},
		{"GET Observation?_include=observation:patient", "user/Observation.s user/*.s"},
		{"GET Observation?_include=Observation:patient%zz", "user/Observation.s user/*.s"},
		{"GET Observation?%5Frevinclude=Provenance%3Atarget", "user/Observation.s user/Provenance.s"},
		{"GET Observation?_RevInclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET Observation?a=b;_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET Observation?+_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET Patient/1/Observation?_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"HEAD Observation?_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"POST Observation/_search?_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET ?_type=Observation&_revinclude=Provenance:target", "user/Observation.s user/Provenance.s"},
		{"GET Observation?_inc%zzlude=x", "user/Observation.s user/*.s"},

		// types in _has and chains
		{"GET Patient?_has:Observation:patient:code=x", "user/Patient.s user/Observation.s"},
		{"GET Patient?_has:Observation:patient:_has:AuditEvent:entity:agent=x", "user/Patient.s user/Observation.s user/AuditEvent.s"},
		{"GET Patient?_has%3AObservation%3Apatient%3Acode=x", "user/Patient.s user/Observation.s"},
		{"GET Patient?_has:Observation:patient:encounter.type=x", "user/Patient.s user/Observation.s user/Encounter.s user/EpisodeOfCare.s"},
		{"GET Patient?_has:Observation=x", "user/Patient.s user/Observation.s user/*.s"},
		{"GET Patient?_has:obs:patient:code=x", "user/Patient.s user/*.s"},
		{"GET Observation?subject:Patient.name=x", "user/Observation.s user/Patient.s"},
		{"GET Observation?patient.name=x", "user/Observation.s user/Patient.s"},
		{"GET Observation?patient.organization.name=x", "user/Observation.s user/Patient.s user/Organization.s"},
		{"GET Observation?subject:Patient.general-practitioner:Practitioner.name=x", "user/Observation.s user/Patient.s user/Practitioner.s"},
		{"GET Observation?patient._has:Group:member:_id=x", "user/Observation.s user/Patient.s user/Group.s"},
		{"GET Observation?made-up.name=x", "user/Observation.s user/*.s"},
		{"GET Observation?_sort=patient.name", "user/Observation.s user/Patient.s"},
		{"GET Observation?_sort=-date&code=http://loinc.org|1.2", "user/Observation.s"},
		{"GET Observation?subject:Patient=1", "user/Observation.s"},
		{"GET Observation?_filter=code+eq+1", "user/Observation.s user/*.s"},
		{"GET Observation?code=100%&x=a;b", "user/Observation.s"},
		{"DELETE Observation?subject:Patient.name=x", "user/Observation.ds user/Patient.s"},
		{"POST Observation +If-None-Exist=subject:Patient.name=x", "user/Observation.cs user/Patient.s"},
		{"POST Observation +If-None-Exist=Observation?_has:Provenance:target:agent=x", "user/Observation.cs user/Provenance.s"},

		// pages
		{"GET ?_getpages=x&_type=Patient,Observation", "user/*.s"},
		{"GET ?_getpages=x&_getpages=y", "user/*.s"},
		{"GET ?_getpages=", "user/*.s"},
		{"GET ?_getpages=a%20b", "user/*.s"},
		{"GET ?_getpages=x&name=y", "user/*.s"},
		{"GET ?_getpages=x&_include=Observation:patient", "user/*.s user/Observation.s user/Patient.s"},

		// exports
		{"GET $export?_type=Patient,Task", "user/Patient.rs user/Task.rs"},
		{"GET Group/1/$export?_type=Patient", "user/Patient.rs"},
		{"GET Patient/$export?_type=Patient&_since=2020", "user/Patient.rs"},
		{"GET $export?_type=Patient&_typeFilter=Task%3Fcode%3Da,b", "user/Patient.rs user/Task.rs"},
		{"GET $export?_type=Task&_typeFilter=Task%3Fcode%3Da,b%26subject:Patient.name%3Dx", "user/Task.rs user/Patient.s"},
		{"GET $export?_type=Patient,", "user/*.rs"},
		{"GET $export?_type=*", "user/*.rs"},
		{"POST $export?_type=Patient", "user/*.rs"},
		{"GET $export-poll-status?_jobId=1", "user/*.rs"},
		{"DELETE $export-poll-status?_jobId=1", "user/*.rs"},

		// configured
		{"GET Patient/1/$docref", "user/DocumentReference.rs"},
		{"POST DocumentReference/$docref", "user/DocumentReference.rs"},
		{"POST DocumentReference/%24docref", "user/DocumentReference.rs"},
		{"POST $two", "user/Patient.r user/Task.c"},
		{"POST $wipe", "user/*.cruds"},
		{"POST Basic/1/$here", "user/Basic.u"},
		{"POST $here", "user/*.u"},
		{"GET Observation/$stats", "user/Basic.r"},
		{"GET documents/1", "user/DocumentReference.r"},
		{"HEAD documents/1", "user/DocumentReference.r"},
		{"GET documents/1/2", "user/DocumentReference.r"},
		{"POST documents", "user/DocumentReference.c"},
		{"GET documents", notKnown},
		{"PUT documents/1", notKnown},
		{"GET documents/$expunge", notKnown},
		{"GET documents/1/$expunge", notKnown},
		{"GET documents/1/%24expunge", notKnown},
		{"GET docs/1", notKnown},
		{"GET x/__page/y", "user/*.s"},
		{"GET __page/y", notKnown},
		{"GET a/x/__page/y", notKnown},
		{"DELETE bulkstatus/1", "user/*.rs"},
		{"GET documents/a%20b", "user/DocumentReference.r"},
		{"GET documents/%252e%252e/Patient/1", notKnown},
		{"GET documents/%252e%252e%252fPatient/1", notKnown},
		{"GET documents/%2524expunge", notKnown},
		{"GET documents/..%3b/Patient/1", notKnown},
		{"GET ..%3b/__page/y", notKnown},
		{"GET %50atient/__page/y", "user/*.s"},
		{"GET exports/%41", "user/*.s"},
		{"GET exports/A", notKnown},
		{"POST a/b", "user/*.c"},
		{"POST Patient/%5Fsearch", notKnown}, // _search, to a server
		{"POST Patient/_sear%63h", notKnown},
		{"POST %50atient/_search", notKnown},
	} {
		if got := verdict(r.Judge(request(tt.request), &smart.Token{})); got != tt.want {
			t.Errorf("%s needs %q, want %q", tt.request, got, tt.want)
		}
	}
}

// TestJudge holds tokens against requests. What is wanted is a reason and the
// scopes of the challenge.
func TestJudge(t *testing.T) {
	r := rules(t, smart.Config{})
	for _, tt := range []struct {
		request string
		token   smart.Token
		want    smart.Decision
	}{
		{"GET Patient/1", smart.Token{Scopes: "user/Patient.r"}, smart.Decision{}},
		{"GET Patient/1", smart.Token{Scopes: "user/Patient.s"}, smart.Decision{"interaction", "user/Patient.r"}},
		{"GET Patient/1", smart.Token{Scopes: "openid user/Patient.r"}, smart.Decision{}},
		{"GET Patient/1", smart.Token{}, smart.Decision{"interaction", "user/Patient.r"}},
		{"PUT Patient?a=b", smart.Token{Scopes: "user/Patient.u system/*.s"}, smart.Decision{}},
		{"PUT Patient?a=b", smart.Token{Scopes: "user/Patient.u system/Task.s"}, smart.Decision{"interaction", "user/Patient.us"}},
		{"POST ", smart.Token{Scopes: "system/*.cruds"}, smart.Decision{}},
		{"POST ", smart.Token{Scopes: "system/*.crud system/Task.s"}, smart.Decision{"interaction", "system/*.cruds"}},
		{"GET ?_type=Patient,Task", smart.Token{Scopes: "user/Patient.s"}, smart.Decision{"interaction", "user/Task.s"}},
		{"GET ?_type=Patient,Task", smart.Token{Scopes: "user/Patient.s user/Task.s"}, smart.Decision{}},
		{"GET ?_Type=Patient&_type=Task", smart.Token{Scopes: "user/Task.s"}, smart.Decision{"interaction", "user/*.s"}},
		{"GET ?_type=Task&+_type=Patient", smart.Token{Scopes: "user/Task.s"}, smart.Decision{"interaction", "user/*.s"}},
		{"GET ?_type=Task&_type:x=Patient", smart.Token{Scopes: "user/Task.s"}, smart.Decision{"interaction", "user/*.s"}},
		{"GET ?_x=1#&_type=Task", smart.Token{Scopes: "user/Task.s"}, smart.Decision{"interaction", "user/*.s"}},
		{"GET $export?_type=Task&includeAssociatedData=LatestProvenanceResources", smart.Token{Scopes: "user/Task.rs"}, smart.Decision{"interaction", "user/*.rs"}},
		{"GET $export?_Type=Patient&_type=Task", smart.Token{Scopes: "user/Task.rs"}, smart.Decision{"interaction", "user/*.rs"}},
		{"GET Task?_revinclude=Task:part-of", smart.Token{}, smart.Decision{"interaction", "user/Task.s"}},
		{"GET ?_getpages=x", smart.Token{Scopes: "user/Task.s"}, smart.Decision{}},
		{"GET ?_getpages=x", smart.Token{Scopes: "user/Task.cr"}, smart.Decision{"interaction", "user/*.s"}},
		{"GET ?_getpages=x&_getpagesoffset=10&_count=10&_pretty=true&_bundletype=searchset&_format=application%2Ffhir%2Bjson&_pageId=a&_elements=id", smart.Token{Scopes: "user/Task.s"}, smart.Decision{}},
		{"GET ?_getpages=x&_type=Patient,Observation", smart.Token{Scopes: "user/Task.s"}, smart.Decision{"interaction", "user/*.s"}},
		{"GET Patient/1/$everything", smart.Token{Scopes: "user/Patient.rs"}, smart.Decision{"interaction", "user/*.rs"}},
		{"GET metadata", smart.Token{}, smart.Decision{}},
		{"GET Patient/1", smart.Token{Scopes: "user/*.cruds", Patient: "2"}, smart.Decision{}},
		{"POST $expunge", smart.Token{Scopes: "user/*.cruds"}, smart.Decision{"operation", ""}},
		{"GET Observation?_revinclude=Provenance:target", smart.Token{Scopes: "user/Observation.rs"}, smart.Decision{"interaction", "user/Provenance.s"}},
		{"GET Observation?_revinclude=Provenance:target", smart.Token{Scopes: "user/Observation.rs user/Provenance.rs"}, smart.Decision{}},
		{"GET $export-poll-status?_jobId=1", smart.Token{Scopes: "system/Patient.rs"}, smart.Decision{}},

		// the patient context
		{"GET Observation", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},
		{"GET Observation", smart.Token{Scopes: "patient/*.rs"}, smart.Decision{"patient_context", "user/Observation.s"}},
		{"GET Observation", smart.Token{Scopes: "patient/*.rs user/Observation.s"}, smart.Decision{}},
		{"GET Patient/1", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},
		{"GET Patient/2", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{"patient", "user/Patient.r"}},
		{"GET Patient/2", smart.Token{Scopes: "patient/*.rs system/Task.r", Patient: "1"}, smart.Decision{"patient", "system/Patient.r"}},
		{"GET Patient/2", smart.Token{Scopes: "patient/Task.rs", Patient: "1"}, smart.Decision{"interaction", "user/Patient.r"}},
		{"GET Task/2", smart.Token{Scopes: "patient/Basic.rs", Patient: "1"}, smart.Decision{"interaction", "patient/Task.r"}},
		{"GET Patient/2", smart.Token{Scopes: "patient/*.rs user/Patient.r", Patient: "1"}, smart.Decision{}},
		{"GET Patient/2/_history/1", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{"patient", "user/Patient.r"}},
		{"GET Patient/1/Observation", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},
		{"GET Patient/2/Observation", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{"patient", "user/Observation.s"}},
		{"GET Patient/2/*", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{"patient", "user/*.s"}},
		{"GET Patient/2/$everything", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{"patient", "user/*.rs"}},
		{"GET Patient/_history", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},
		{"POST Patient/_search", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},
		{"POST Patient/$match", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},
		{"POST Patient/%24match", smart.Token{Scopes: "patient/*.rs", Patient: "1"}, smart.Decision{}},

		// the user's own resource
		{"GET Practitioner/5", smart.Token{Scopes: "openid fhirUser", User: "Practitioner/5"}, smart.Decision{}},
		{"HEAD Practitioner/5/", smart.Token{Scopes: "openid fhirUser", User: "Practitioner/5"}, smart.Decision{}},
		{"GET Practitioner/6", smart.Token{Scopes: "openid fhirUser", User: "Practitioner/5"}, smart.Decision{"interaction", "user/Practitioner.r"}},
		{"PUT Practitioner/5", smart.Token{Scopes: "openid fhirUser", User: "Practitioner/5"}, smart.Decision{"interaction", "user/Practitioner.u"}},
		{"GET Practitioner/5/_history", smart.Token{Scopes: "openid fhirUser", User: "Practitioner/5"}, smart.Decision{"interaction", "user/Practitioner.r"}},
		{"GET Practitioner/5", smart.Token{Scopes: "fhirUser", User: "Practitioner/5"}, smart.Decision{"interaction", "user/Practitioner.r"}},
		{"GET Practitioner/5", smart.Token{Scopes: "openid profile", User: "Practitioner/5"}, smart.Decision{"interaction", "user/Practitioner.r"}},
		{"GET Practitioner/5?_revinclude=Provenance:target", smart.Token{Scopes: "openid fhirUser", User: "Practitioner/5"}, smart.Decision{"interaction", "user/Provenance.s"}},
	} {
		if got := r.Judge(request(tt.request), &tt.token); got != tt.want {
			t.Errorf("%s with %+v: got %+v, want %+v", tt.request, tt.token, got, tt.want)
		}
	}
}

func TestStrict(t *testing.T) {
	strict, coarse := rules(t, smart.Config{Strict: true}), rules(t, smart.Config{})
	const (
		category = "user/Observation.rs?category=S|lab"
		both     = category + " user/Observation.s?category=S|vital"
		two      = "user/Observation.rs?category=S|lab&status=final"
	)
	for _, tt := range []struct {
		request, scopes string
		want            bool
	}{
		{"GET Observation?category=S|lab", category, true},
		{"GET Observation?category=S%7Clab&date=gt2020", category, true},
		{"HEAD Observation?category=S|lab", category, true},
		{"GET Patient/1/Observation?category=S|lab", category, true},
		{"GET ?_type=Observation&category=S|lab", category, true},
		{"GET Observation?category=S|vital", category, false},
		{"GET Observation?category=S|lab,S|vital", category, false},
		{"GET Observation", category, false},
		{"GET Observation?category=lab", category, false},
		{"GET Observation?category=", category, false},
		{"GET Observation?category=S|lab&category=S|vital", category, false},
		{"GET Observation?category:not=S|lab", category, false},
		{"GET Observation?Category=S|lab", category, false},
		{"GET Observation?x=1;category=S|lab", category, false},
		{"GET Observation?category=S|lab;category=x", category, false},
		{"GET Observation?category=S|lab&%zz=1", category, false},
		{"GET Observation?category=S|lab%zz", category, false},
		{"GET Observation?category=S%257Clab", category, false},
		{"POST Observation/_search?category=S|lab", category, false},
		{"GET Observation/5", category, false},
		{"GET Observation/_history?category=S|lab", category, false},
		{"DELETE Observation?category=S|lab", "user/Observation.ds?category=S|lab", false},
		{"POST Observation +If-None-Exist=category=S|lab", "user/Observation.cs?category=S|lab", false},
		{"GET Observation?category=S|lab&_include=Observation:device:Device", category + " user/Device.s?x=y", false},
		{"GET Observation?category=S|lab&_include=Observation:device:Device", category + " user/Device.s", true},
		{"GET Observation?category=S|lab&_revinclude=Observation:has-member", category, false},
		{"GET Observation?category=S|lab&_include=Observation:derived-from:Observation", category, false},
		{"GET Observation?category=S|lab&_has:Observation:has-member:code=x", category, false},
		{"GET Observation?category=S|lab&has-member:Observation.code=x", category, false},
		{"GET Observation?category=S|lab&_revinclude=Observation:has-member", category + " user/Observation.s", true},
		{"GET ?_type=Observation,Observation&category=S|lab", category, true},
		{"GET Observation?code=x#&category=S|lab", category, false},
		{"GET Observation?category=S|lab#", category, false},
		{"GET ?_format=json#&_getpages=x", "user/Observation.s", false},

		{"GET Observation?category=S|lab,S|vital", both, true},
		{"GET Observation?category=S|vital", both, true},
		{"GET Observation?category=S|lab,S|other", both, false},
		{"GET Observation?category=S|lab", two, false},
		{"GET Observation?category=S|lab&status=final", two, true},
		{"GET Observation?category=S|lab&status=final,amended", two, false},
		{"GET Observation?category=S|lab,S|vital&status=final", two + " user/Observation.s?category=S|vital", false},

		{"GET Observation?code=a", "user/Observation.s?code=a,b", true},
		{"GET Observation?code=a,b", "user/Observation.s?code=a,b", true},
		{"GET Observation?code=b", `user/Observation.s?code=a\,b`, false},
		{`GET Observation?code=a\,b`, `user/Observation.s?code=a\,b`, false},
		{"GET Observation?status:not=final", "user/Observation.s?status:not=final", true},
		{"GET Observation?status:not=final", "user/Observation.s?status:not=final,amended", false},
		{"GET Observation?category=S|lab", "user/Observation.s?category=S%7Clab", true},
		{"GET Observation", category + " user/Observation.s", true},
		{"GET ?_getpages=x", category, true},
		{"GET Observation/5", category + " user/Observation.r", true},

		{"GET Task?resource-origin=Device/1", "system/Task.crus?resource-origin=Device/1", true},
		{"GET Task?resource-origin=Device/2", "system/Task.crus?resource-origin=Device/1", false},
		{"GET Task/1", "system/Task.crus?resource-origin=Device/1", false},
		{"POST Task", "system/Task.crus?resource-origin=Device/1", false},
	} {
		token := &smart.Token{Scopes: tt.scopes, Patient: "1"}
		if got := strict.Judge(request(tt.request), token).Reason == ""; got != tt.want {
			t.Errorf("%s with %s: got %v, want %v", tt.request, tt.scopes, got, tt.want)
		}
		if tt.want && coarse.Judge(request(tt.request), token).Reason != "" {
			t.Errorf("%s with %s: got a denial by coarse, want what strict permits", tt.request, tt.scopes)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	for _, entry := range []string{
		"", "docref=DocumentReference.rs", "$docref", "$docref=", "$docref=DocumentReference", "$docref=DocumentReference.sr",
		"$docref=documentReference.r", "$doc ref=Basic.r", "$=Basic.r", "$docref=Basic.x", "$a/b=Basic.r", "$docref=.r",
	} {
		if err := smart.CheckOperations([]string{entry}); err == nil {
			t.Errorf("operation %q is taken, want a fault", entry)
		}
	}
	for _, entry := range []string{
		"", "documents/*=Basic.r", "GET /documents=Basic.r", "GET documents/=Basic.r", "GET documents", "GET documents=",
		"get documents=Basic.r", "TRACE documents=Basic.r", "GET a//b=Basic.r", "GET Patient/1=Basic.r", "GET Patient/*=Basic.r",
		"GET a/../b=Basic.r", "GET a/%2e%2E/b=Basic.r", "GET a/.=Basic.r", "GET a;b=Basic.r", "GET a?b=Basic.r", "GET a#b=Basic.r", "GET a b=Basic.r",
		"GET a/b*=Basic.r", "GET a/**=Basic.r", "GET a%2fb=Basic.r", "GET a%5Cb=Basic.r", "GET a%00=Basic.r", "GET a%zz=Basic.r",
		"POST $reindex=*.cruds", "GET =Basic.r", "GET metadata=Basic.r", "GET documents=Basic",
	} {
		if err := smart.CheckPaths([]string{entry}); err == nil {
			t.Errorf("path %q is taken, want a fault", entry)
		}
		if _, err := smart.New(smart.Config{Paths: []string{entry}}); err == nil {
			t.Errorf("rules with path %q are compiled, want an error", entry)
		}
	}
}

func TestOwnUser(t *testing.T) {
	const base = "https://fhir.example.org/fhir"
	for user, want := range map[string]string{
		"Practitioner/5":                                  "Practitioner/5",
		base + "/Practitioner/5":                          "Practitioner/5",
		"http://10.0.0.1/fhir/Person/a":                   "Person/a",
		"https://other.example.org/fhir/Practitioner/5":   "",
		"https://fhir.example.org/fhirs/Practitioner/5":   "",
		"https://fhir.example.org/fhir//Practitioner/5":   "",
		"https://fhir.example.org/fhir/../Practitioner/5": "",
		"Practitioner/5/":                                 "",
		"Practitioner/5/_history/1":                       "",
		"Practitioner":                                    "",
		"practitioner-5":                                  "",
		"":                                                "",
		"https://fhir.example.org/5":                      "",
	} {
		if got := smart.OwnUser(user, "", base, "http://10.0.0.1/fhir"); got != want {
			t.Errorf("OwnUser(%q) = %q, want %q", user, got, want)
		}
	}
}

func TestPatientOnly(t *testing.T) {
	for scopes, want := range map[string]bool{
		"":                                false,
		"openid launch/patient":           false,
		"patient/*.rs":                    true,
		"openid patient/*.rs launch":      true,
		"patient/*.rs user/Patient.r":     false,
		"patient/*.rs user/Patient.sr":    true, // it permits nothing
		"system/*.rs":                     false,
		"patient/nonsense":                true,
		"patient/Observation.rs?code=a|b": true,
	} {
		if got := smart.PatientOnly(scopes); got != want {
			t.Errorf("PatientOnly(%q) = %v, want %v", scopes, got, want)
		}
	}
}

// manyScopes are more than most tokens have.
const manyScopes = "launch openid fhirUser offline_access patient/Patient.rs patient/AllergyIntolerance.rs " +
	"patient/CarePlan.rs patient/CareTeam.rs patient/Condition.rs patient/Device.rs patient/DiagnosticReport.rs " +
	"patient/DocumentReference.rs patient/Encounter.rs patient/Goal.rs patient/Immunization.rs patient/Medication.rs " +
	"patient/MedicationRequest.rs patient/Location.rs patient/Procedure.rs patient/Observation.rs"

func TestJudgeAllocates(t *testing.T) {
	r := rules(t, smart.Config{})
	token := &smart.Token{Scopes: manyScopes, Patient: "1"}
	for _, text := range []string{"GET Observation/1", "GET Observation?code=x&patient=1", "PUT Observation/1"} {
		q := request(text)
		if text[0] == 'P' {
			token.Scopes = "user/Observation.u"
		}
		if n := testing.AllocsPerRun(100, func() { r.Judge(q, token) }); n != 0 {
			t.Errorf("%s: %v allocations, want none: it runs on every request", text, n)
		}
	}
}

// BenchmarkJudge reads with twenty scopes, of which the last one permits it.
func BenchmarkJudge(b *testing.B) {
	r := rules(b, smart.Config{})
	q, token := request("GET Observation/1"), &smart.Token{Scopes: manyScopes, Patient: "1"}
	b.ReportAllocs()
	for b.Loop() {
		if r.Judge(q, token).Reason != "" {
			b.Fatal("got a denial, want none")
		}
	}
}

// FuzzJudge finds that nothing is permitted to a token without scopes but metadata,
// that every scope permits what FHIR knows and what is listed, that what writes
// needs the right to write, that a query or a condition never makes a request need
// less, and that the challenge can be written as a header: its types come from the
// client.
func FuzzJudge(f *testing.F) {
	f.Add("GET", "Patient/1", "", "")
	f.Add("GET", "", "_type=Patient,Task", "")
	f.Add("GET", "Observation", "_has:A:b:c.d=1&_include=X:y;_revinclude=Z", "")
	f.Add("POST", "Patient/1/%24everything", "a=b;c", "subject:Patient.name=x")
	f.Add("DELETE", "Patient/", "_getpages", "")
	f.Add("GET", "$export", "_type=Task&_typeFilter=A?b.c=d", "")
	coarse, strict := rules(f, smart.Config{}), rules(f, smart.Config{Strict: true})
	f.Fuzz(func(t *testing.T, method, path, query, condition string) {
		q := &smart.Request{Method: method, Path: path, Query: query}
		if condition != "" {
			q.Condition = []string{condition}
		}
		interaction, resourceType := fhir.ParseInteraction(method, path)
		d := coarse.Judge(q, &smart.Token{})
		if (d.Reason == "") != (interaction == fhir.Capabilities) {
			t.Errorf("%s %q?%q without scopes: got %+v, want a denial, unless it is about capabilities", method, path, query, d)
		}
		all := &smart.Token{Scopes: "user/*.cruds"}
		if d := coarse.Judge(q, all); d.Scopes != "" || (d.Reason == "") != (strict.Judge(q, all).Reason == "") {
			t.Errorf("%s %q?%q with every scope: got %+v, want the same as strict", method, path, query, d)
		}
		if strings.ContainsFunc(d.Scopes, func(c rune) bool { return c > '~' || c < ' ' || strings.ContainsRune(`"\`, c) }) {
			t.Errorf("%s %q?%q: got challenge %q, want printable ASCII", method, path, query, d.Scopes)
		}
		if resourceType == "" || interaction == fhir.Operation {
			return
		}
		one := &smart.Token{Scopes: "user/" + resourceType + ".cruds"}
		plain := coarse.Judge(&smart.Request{Method: method, Path: path}, one)
		if with := coarse.Judge(q, one); plain.Reason != "" && with.Reason == "" {
			t.Errorf("%s %q: got less needed with %q and %q, want no less", method, path, query, condition)
		}
		if interaction == fhir.SearchType || method == "GET" || method == "HEAD" {
			return
		}
		if d := coarse.Judge(q, &smart.Token{Scopes: "user/*.rs"}); d.Reason == "" {
			t.Errorf("%s %q?%q: got permission to write with read scopes, want a denial", method, path, query)
		}
	})
}
