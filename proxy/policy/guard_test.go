package policy_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

const base = "https://fhir.example.org/fhir"

func newGuard(t testing.TB, types ...string) *policy.PatientGuard {
	t.Helper()
	g, err := policy.NewPatientGuard(types)
	if err != nil {
		t.Fatalf("policy.NewPatientGuard: got error %v, want none", err)
	}
	return g
}

func request(text string) *policy.GuardedRequest {
	method, target, _ := strings.Cut(text, " ")
	q := &policy.GuardedRequest{Method: method, Base: base, Patient: "P"}
	q.Path, q.Query, _ = strings.Cut(target, "?")
	return q
}

func ExamplePatientGuard() {
	g, _ := policy.NewPatientGuard(nil)
	for _, query := range []string{"patient=P", "patient=Q", "code=x"} {
		fmt.Println(g.Judge(&policy.GuardedRequest{Method: "GET", Path: "Observation", Query: query, Patient: "P"}))
	}
	// Output:
	// inside
	// outside
	// unknown
}

func TestJudge(t *testing.T) {
	g := newGuard(t)
	for want, requests := range map[policy.Reach][]string{
		policy.ReachInside: {
			"GET Patient/P", "HEAD Patient/P", "GET Patient/P/", "GET Patient/%50", "GET Patient/P/_history", "GET Patient/P/_history/2",
			"GET Patient/P/Observation",
			"GET Patient/P/Observation?code=x", "GET Patient/P/*", "PUT Patient/P", "PATCH Patient/P", "DELETE Patient/P",
			"GET Patient?_id=P", "GET Patient?_id=P&_id=P", "GET Patient?_id=P&name=x", "GET Patient?_id=P&_format=json",
			"GET Observation?patient=P", "GET Observation?patient=Patient/P", "GET Observation?subject=Patient/P",
			"GET Observation?subject:Patient=P", "GET Observation?patient:Patient=P", "HEAD Observation?patient=P",
			"GET Observation?patient=P&code=x&_sort=-date&_count=10", "GET Observation?patient=P&patient=P", "GET Observation?patient=P,P",
			"GET Observation?patient=%50", "GET Observation?%70atient=P", "GET Observation?patient=Patient%2FP",
			"GET Observation?patient=" + base + "/Patient/P", "GET Observation?subject=" + base + "/Patient/P",
			"GET Observation/?patient=P", "GET Observation?patient=P&subject=Patient/P", "GET Observation?patient=P&focus=Patient/Q",
			"GET Coverage?beneficiary=Patient/P", "GET Appointment?actor=Patient/P", "GET Appointment?patient=P",
			"DELETE Observation?patient=P", "GET Observation?patient=P&performer=Patient/P", "GET Observation?patient=P&subject=P",
		},
		policy.ReachOutside: {
			"GET Patient/Q", "HEAD Patient/Q", "GET Patient/Q/", "GET Patient/%51", "GET Patient/p", "GET Patient/Q/_history", "GET Patient/Q/_history/1",
			"GET Patient/Q/$everything", "POST Patient/Q/$anything", "GET Patient/Q/Observation", "POST Patient/Q/Observation/_search", "GET Patient/Q/*",
			"PUT Patient/Q", "PATCH Patient/Q", "DELETE Patient/Q", "GET Patient/Q/a/b/c/d", "GET Patient/Q?_include=x", "GET Patient/P.",
			"GET Patient?_id=Q", "GET Patient?_id=P,Q", "GET Patient?_id=Q,P", "GET Patient?_id=P&_id=Q",
			"GET Observation?patient=Q", "GET Observation?patient=P,Q", "GET Observation?patient=P&patient=Q", "GET Observation?patient=%51",
			"GET Observation?patient=Patient/Q", "GET Observation?subject=Patient/Q", "GET Observation?subject:Patient=Q", "GET Observation?performer=Patient/Q",
			"GET Observation?%70atient=Q", "GET Observation?patient=" + base + "/Patient/Q", "GET Observation?patient=Q&_include=Observation:subject",
			"GET Patient/P/Observation?patient=Q", "GET Encounter/5/Observation?patient=Q", "GET ?_type=Observation&patient=Q", "GET Observation?patient=Q;x",
			"GET Observation?patient=P;patient=Q", "GET Observation?a=1;patient=Q", "GET Observation?patient=Q#", "GET Observation?patient=Q#&patient=P",
			"POST Observation/_search?patient=Q", "PUT Observation?patient=Q", "DELETE Observation?patient=Q", "GET Observation/$lastn?patient=Q",
			"GET Group/1/$export", "GET Group/1/%24export", "POST Group/1/$export",
		},
		policy.ReachUnknown: {
			"GET Observation/5", "PUT Observation/5", "DELETE Observation/5", "GET Observation/5/_history/1", "GET Observation/_history", "GET Observation/_history?patient=P",
			"GET Observation", "GET Observation?code=x", "GET Observation?subject=P", "GET Observation?subject=Q", "GET Observation?subject=Group/P", "GET Observation?subject:Group=P",
			"GET Observation?performer=Patient/P", "GET Observation?focus=Patient/P", "GET Observation?patient=P&_include=Observation:focus", "GET Observation?patient=P&_include:iterate=Observation:focus",
			"GET Observation?patient=P&_revinclude=Provenance:target", "GET Observation?patient=P&_has:Provenance:target:agent=x", "GET Observation?patient=P&subject.name=x",
			"GET Observation?patient=P&_filter=x", "GET Observation?patient=P&_list=1", "GET Observation?patient=P&_query=x", "GET Observation?patient=P&_contained=true",
			"GET Observation?patient=P&_x=1", "GET Observation?patient:not=P", "GET Observation?patient:not=Q", "GET Observation?patient:missing=false", "GET Observation?patient:identifier=s|v",
			"GET Observation?patient:above=P", "GET Observation?patient:mdm=P", "GET Observation?patient=P&patient:missing=true", "GET Observation?patient=", "GET Observation?patient", "GET Observation?patient=P,",
			"GET Observation?patient=%zz", "GET Observation?%zz=1&patient=P", `GET Observation?patient=P\,Q`,
			"GET Observation?patient=http://other.example.org/fhir/Patient/P", "GET Observation?patient=" + base + "s/Patient/P", "GET Observation?patient=" + base + "/Patient/P/_history/1",
			"GET Observation?patient=P&PATIENT=Q", "GET Observation?Patient=P", "GET Observation?patient=P&+patient=Q", "GET Observation?patient=P&_Include=x", "GET Observation?patient=patient/Q", "GET Observation?_sort=subject.name&patient=P",
			"GET Observation?code=x#&patient=P", "GET Observation?#&patient=P", "GET Observation?patient=P#", "GET Patient?name=x#&_id=P", "GET Practitioner?name=x#",
			"GET ?_format=json#&_getpages=x", "GET Patient/P/Observation?code=x#", "GET Patient?_id:Patient=P", "GET Patient?_id:Patient=Q",
			"GET Observation?patient=s|v", "GET Observation?patient.identifier=x", "GET Observation?patient=a b",
			"GET Patient", "GET Patient?name=x", "GET Patient?_id:not=P", "GET Patient?link=Patient/P", "GET Patient?_id=Patient/P&_x=1", "GET Patient?_id=P&_include=Patient:link", "GET Patient?_id=P&_revinclude=Observation:subject",
			"GET Patient/P/Observation?_include=Observation:focus", "POST Patient/P/Observation/_search", "GET Patient/P/Practitioner", "GET Patient/P/$other", "GET Patient/P/a/b", "GET Patient/P/$everything?_include=x",
			"GET Patient/P/$everything", "GET Patient/P/%24everything", "POST Patient/P/$everything",
			"GET Encounter/5/Observation", "GET Encounter/5/Observation?patient=P", "GET Practitioner/7/Observation", "GET Practitioner/7/Patient",
			"POST ", "POST Observation", "POST Patient", "POST Observation/_search", "POST Observation/_search?patient=P", "POST Patient/_search", "POST _search", "PUT Observation?patient=P", "PATCH Observation?patient=P",
			"GET $export", "GET Patient/$export", "POST $graphql", "POST $anything", "GET Patient/$match", "POST Observation/$x?patient=P", "GET Observation/$lastn?patient=P",
			"GET ", "GET ?_type=Observation&patient=P", "GET ?_getpages=x&_type=Patient", "GET _history", "GET ?_type=Practitioner",
			"GET documents/1", "GET Foo/1", "GET Foo?patient=P", "GET Observation/5/6/7", "GET patient/Q", "GET Observation/%zz",
			"GET Practitioner?_revinclude=Observation:performer", "GET Practitioner?_has:Observation:performer:patient=Q", "GET Practitioner/7?_revinclude=Observation:performer", "GET Task?_include=Task:patient", "GET Practitioner?a=b;c",
			"GET Group/1", "GET List/1", "POST Practitioner/$x", "GET Practitioner/$x",
		},
		policy.ReachNeutral: {
			"GET metadata", "GET Practitioner/7", "GET Practitioner?name=x", "GET ValueSet?url=x", "GET Practitioner/7/_history/1", "GET Practitioner/7/_history", "GET Practitioner/_history",
			"GET Task?patient=Q", "GET Task/1", "PUT Practitioner/7", "POST Organization", "POST Practitioner/_search", "DELETE Location/1",
			"GET ?_getpages=1b4e28ba-2fa1-11d2-883f-0016d3cca427&_getpagesoffset=10&_count=10&_bundletype=searchset",
			"GET ValueSet/$expand?url=x", "GET CodeSystem/$lookup", "POST ValueSet/1/$expand", "GET Binary/1", "GET Medication/1",
		},
	} {
		for _, text := range requests {
			if got := g.Judge(request(text)); got != want {
				t.Errorf("%s: got %s, want %s", text, got, want)
			}
		}
	}
}

func TestExtraTypes(t *testing.T) {
	g := newGuard(t, "Task:patient", "Device:patient", "Task:focus")
	for text, want := range map[string]policy.Reach{
		"GET Task?patient=Q": policy.ReachOutside, "GET Task?patient=P": policy.ReachInside, "GET Task/1": policy.ReachUnknown, "GET Task": policy.ReachUnknown,
		"GET Device?patient=Patient/Q": policy.ReachOutside, "GET Task?focus=Patient/Q": policy.ReachOutside, "GET Practitioner/1": policy.ReachNeutral,
	} {
		if got := g.Judge(request(text)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, entry := range []string{"", "Task", "Task:", ":patient", "task:patient", "Task:patient:x", "Task:subject.name", "Patient:link", "Task:_id"} {
		if _, err := policy.NewPatientGuard([]string{entry}); err == nil {
			t.Errorf("%q is taken, want a fault", entry)
		}
	}
}

// TestWithoutPatient: nothing is inside or outside of nobody.
func TestWithoutPatient(t *testing.T) {
	g := newGuard(t)
	for text, want := range map[string]policy.Reach{
		"GET Patient/P": policy.ReachUnknown, "GET Observation?patient=P": policy.ReachUnknown, "GET Patient?_id=": policy.ReachUnknown, "GET Practitioner/1": policy.ReachNeutral,
	} {
		q := request(text)
		q.Patient = ""
		if got := g.Judge(q); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestJudgeAllocates(t *testing.T) {
	g := newGuard(t)
	for _, text := range []string{"GET Observation?patient=P&code=x", "GET Patient/P", "GET Observation/1"} {
		q := request(text)
		if n := testing.AllocsPerRun(100, func() { g.Judge(q) }); n != 0 {
			t.Errorf("%s: %v allocations, want none: it runs on every request", text, n)
		}
	}
}

// FuzzJudge reads each URL the way the standard library does and finds that nothing
// is inside which names another patient, or none.
func FuzzJudge(f *testing.F) {
	f.Add("GET", "Observation", "patient=P&patient=Q")
	f.Add("GET", "Patient/P/Observation", "_include=x")
	f.Add("GET", "Patient", "_id=P,Q")
	f.Add("DELETE", "Observation", "subject:Patient=%50;x")
	f.Add("GET", "Patient/%50", "")
	g := newGuard(f)
	f.Fuzz(func(t *testing.T, method, path, query string) {
		q := &policy.GuardedRequest{Method: method, Path: path, Query: query, Base: base, Patient: "P"}
		if g.Judge(q) != policy.ReachInside {
			return
		}
		decoded, err := url.PathUnescape(path)
		if err != nil {
			t.Fatalf("%q is inside, want it outside: it can't be decoded", path)
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q is inside, want it outside: it can't be parsed", query)
		}
		proved := strings.HasPrefix(decoded, "Patient/P/") || decoded == "Patient/P"
		for name, all := range values {
			lower := strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(lower, "_include") || strings.HasPrefix(lower, "_revinclude") || strings.HasPrefix(lower, "_has") || strings.Contains(lower, ".") {
				t.Errorf("%s?%s is inside, want it outside because of %s", path, query, name)
			}
			own := map[string]bool{"patient": true, "subject": true, "beneficiary": true, "individual": true, "member": true, "actor": true}
			name, _, _ = strings.Cut(name, ":")
			if decoded == "Patient" {
				own = map[string]bool{"_id": true}
			}
			if !own[name] {
				continue
			}
			for _, value := range all {
				for item := range strings.SplitSeq(value, ",") {
					item = strings.TrimPrefix(strings.TrimPrefix(item, base+"/"), "Patient/")
					proved = proved || item == "P"
					if item != "P" && name != "subject" && name != "member" && name != "actor" {
						if name == "patient" || name == "_id" {
							t.Errorf("%s?%s is inside, want it outside because of %s=%s", path, query, name, item)
						}
					}
				}
			}
		}
		if !proved {
			t.Errorf("%s %s?%s is inside, want it outside: it names no patient", method, path, query)
		}
	})
}
