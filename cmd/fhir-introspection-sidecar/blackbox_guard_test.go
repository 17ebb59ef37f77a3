package main

import (
	"testing"
)

// guardCases say what becomes of a request of a token for patient P: inside, outside,
// unknown or neutral.
var guardCases = map[string][]string{
	"inside": {
		"GET /fhir/Patient/P", "GET /fhir/Patient/%50", "GET /fhir/Patient/P/_history/2", "GET /fhir/Patient/P/Observation",
		"GET /fhir/Observation?patient=P", "GET /fhir/Observation?patient=Patient/P", "GET /fhir/Observation?subject=Patient/P", "GET /fhir/Observation?subject:Patient=P",
		"GET /fhir/Patient?_id=P", "GET /fhir/Observation?patient=https://fhir.example.org/fhir/Patient/P", "HEAD /fhir/Observation?patient=P&patient=P",
	},
	"outside": {
		"GET /fhir/Patient/Q", "GET /fhir/Patient/%51", "GET /fhir/Patient/Q/Observation", "POST /fhir/Patient/Q/Observation/_search", "DELETE /fhir/Patient/Q",
		"GET /fhir/Observation?patient=Q", "GET /fhir/Observation?patient=P,Q", "GET /fhir/Observation?patient=P&patient=Q", "GET /fhir/Observation?patient=%51",
		"GET /fhir/Observation?%70atient=Q", "GET /fhir/Patient?_id=P,Q", "GET /fhir/Task?patient=Q", "GET /fhir/Group/1/$export",
		"GET /fhir/Observation?patient=https://fhir.example.org/fhir/Patient/Q", "PUT /fhir/Observation?patient=Q",
	},
	"unknown": {
		"GET /fhir/Observation/5", "GET /fhir/Patient?name=x", "GET /fhir/Observation?patient=P&_include=Observation:focus", "GET /fhir/Observation?patient=P&_has:Provenance:target:agent=x",
		"GET /fhir/Observation?patient=P&subject.name=x", "GET /fhir/Observation?subject=P", "POST /fhir", "POST /fhir/Observation/_search", "POST /fhir/Observation",
		"GET /fhir/Observation?patient:not=Q", "GET /fhir/Observation?patient=", "GET /fhir/Encounter/1/Observation",
		"GET /fhir/Patient/P/$everything",
	},
	"neutral": {"GET /fhir/Practitioner/7", "GET /fhir/ValueSet?url=x", "GET /fhir?_getpages=0a1b", "GET /fhir/Device?patient=Q"},
}

func startGuard(t *testing.T, mode string, more env) *world {
	t.Helper()
	e := env{"PATIENT_GUARD": mode, "PATIENT_GUARD_TYPES": "Task:patient", "PUBLIC_URL": "https://fhir.example.org/fhir"}
	for name, value := range more {
		e[name] = value
	}
	w := start(t, e)
	w.token("p", claims{"scope": "launch/patient patient/*.cruds", "patient": "P"})
	w.token("u", claims{"scope": "patient/*.rs user/*.cruds", "patient": "P"})
	w.token("s", claims{"scope": "system/*.cruds", "patient": "P"})
	return w
}

// enforce refuses what leads outside, strict also what isn't known, report nothing.
func TestBlackboxPatientGuard(t *testing.T) {
	t.Parallel()
	refuses := map[string][]string{"report": nil, "enforce": {"outside"}, "strict": {"outside", "unknown"}}
	for mode, refused := range refuses {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := startGuard(t, mode, nil)
			for verdict, requests := range guardCases {
				isRefused := false
				for _, r := range refused {
					isRefused = isRefused || r == verdict
				}
				for _, request := range requests {
					before := w.up.count()
					for range 2 { // the second time from the cache
						a := w.ask(t, request, bearer("p"), "Content-Length: 0")
						if !isRefused {
							a.is(t, 200)
							continue
						}
						if a.status != 403 {
							t.Errorf("%s: got status %d, want 403: it is %s", request, a.status, verdict)
							continue
						}
						if request[:4] != "HEAD" {
							a.refused(t, 403, a.issue(t), "insufficient_scope")
						}
					}
					if got := w.up.count() != before; got == isRefused {
						t.Errorf("%s: reached the FHIR server %v, want %v", request, got, !isRefused)
					}
				}
				if n := w.metric(t, "introspection_sidecar_patient_guard_total", `verdict="`+verdict+`"`, `mode="`+mode+`"`); n != float64(2*len(requests)) {
					t.Errorf("got %v counted as %s, want %d", n, verdict, 2*len(requests))
				}
			}
			for _, token := range []string{"u", "s"} { // other scopes permit it as well
				w.ask(t, "GET /fhir/Patient/Q", bearer(token)).is(t, 200)
			}
			w.ask(t, "GET /fhir/metadata").is(t, 200)
			if mode != "report" {
				if n := w.metric(t, "introspection_sidecar_refusals_total", `reason="patient"`); n == 0 {
					t.Error("got no refusals for the patient, want some")
				}
				return
			}
			if n := w.metric(t, "introspection_sidecar_scope_reports_total", `reason="patient"`); n != float64(2*len(guardCases["outside"])) {
				t.Errorf("got %v reports, want one for each request that leads outside", n)
			}
			w.terminate(t)
			if lines := w.logsAt("INFO"); len(lines) != 2*len(guardCases["outside"]) || lines[0]["guard"] != "outside" {
				t.Errorf("got lines %v, want one at info for each request that leads outside", lines)
			}
		})
	}
}

// A request that no other scope would permit either says so.
func TestBlackboxPatientGuardChallenge(t *testing.T) {
	t.Parallel()
	w := startGuard(t, "enforce", env{"SCOPE_ENFORCEMENT": "coarse"})
	w.check(t, []access{
		{"GET /fhir/Observation?patient=Q", "p", "user/Observation.s"},
		{"GET /fhir/Observation?patient=P", "p", ok},
		{"GET /fhir/Patient/Q", "p", "user/Patient.r"},
		{"POST /fhir/$reindex", "p", none},
	})
}

// Scopes with search parameters, held against the query.
func TestBlackboxStrictScopes(t *testing.T) {
	t.Parallel()
	for mode, refuses := range map[string]bool{"strict": true, "coarse": false} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := start(t, env{"SCOPE_ENFORCEMENT": mode})
			w.token("lab", claims{"scope": "user/Observation.rs?category=S|lab"})
			w.token("kt", claims{"scope": "system/Task.crus?resource-origin=Device/1"})
			narrow := func(scope string) string {
				if refuses {
					return scope
				}
				return ok
			}
			w.check(t, []access{
				{"GET /fhir/Observation?category=S|lab", "lab", ok},
				{"GET /fhir/Observation?category=S%7Clab&date=gt2020", "lab", ok},
				{"GET /fhir/Observation?category=S|vital", "lab", narrow("user/Observation.s")},
				{"GET /fhir/Observation?category=S|lab,S|vital", "lab", narrow("user/Observation.s")},
				{"GET /fhir/Observation", "lab", narrow("user/Observation.s")},
				{"GET /fhir/Observation?category=lab", "lab", narrow("user/Observation.s")},
				{"GET /fhir/Observation/5", "lab", narrow("user/Observation.r")},
				{"GET /fhir/Task?resource-origin=Device/1", "kt", ok},
				{"GET /fhir/Task?resource-origin=Device/2", "kt", narrow("system/Task.s")},
				{"POST /fhir/Task", "kt", narrow("system/Task.c")},
				{"DELETE /fhir/Task/1", "kt", "system/Task.d"},
			})
		})
	}
}
