package main

import (
	"maps"
	"strings"
	"testing"
)

// token adds an active token with some claims in place of the usual ones; nil takes a
// claim out.
func (w *world) token(name string, claims map[string]any) {
	all := w.as.Claims()
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	w.as.AddToken(name, all)
}

type claims = map[string]any

// access is a request of a token, and what is to become of it: ok, or the scope of a
// challenge.
type access struct{ request, token, want string }

const ok = "ok"

func (w *world) check(t *testing.T, all []access) {
	t.Helper()
	for _, c := range all {
		for range 2 { // the second time from the cache
			before := w.up.count()
			a := w.ask(t, c.request, bearer(c.token), "Content-Length: 0")
			if c.want == ok {
				a.is(t, 200)
			} else {
				a.needs(t, c.want)
			}
			if got := w.up.count() - before; got != 0 != (c.want == ok) {
				t.Errorf("%s with %s: the FHIR server got %d requests, want %s", c.request, c.token, got, c.want)
			}
		}
	}
}

// Every type that the URL names needs a scope, operations and paths need what is
// configured, and a challenge names what would help.
func TestBlackboxScopesOfTheWholeURL(t *testing.T) {
	t.Parallel()
	w := start(t, env{
		"SCOPE_ENFORCEMENT": "coarse", "PUBLIC_URL": "https://fhir.example.org/fhir",
		"OPERATIONS":  "$docref=DocumentReference.rs,$process-message=MessageHeader.c",
		"PATH_SCOPES": "GET documents/*=DocumentReference.r,GET */__page/*=s",
	})
	w.token("obs", claims{"scope": "user/Observation.rs", "patient": nil})
	w.token("both", claims{"scope": "user/Observation.rs user/Provenance.rs user/Patient.rs"})
	w.token("task", claims{"scope": "user/Task.s user/Basic.r"})
	w.token("all", claims{"scope": "user/*.cruds"})
	w.token("cut", claims{"scope": "user/Task.d"})
	w.token("doc", claims{"scope": "user/DocumentReference.rs user/MessageHeader.c"})
	w.token("bulk", claims{"scope": "system/Patient.rs system/Task.rs"})
	w.token("me", claims{"scope": "openid fhirUser", "fhirUser": "https://fhir.example.org/fhir/Practitioner/5", "user": nil})
	w.token("stranger", claims{"scope": "openid fhirUser", "fhirUser": "https://other.example.org/fhir/Practitioner/5", "user": nil})
	w.check(t, []access{
		{"GET /fhir/Observation?_revinclude=Provenance:target", "obs", "user/Provenance.s"},
		{"GET /fhir/Observation?_revinclude:iterate=Provenance:target", "obs", "user/Provenance.s"},
		{"GET /fhir/Observation?%5Frevinclude=Provenance%3Atarget", "obs", "user/Provenance.s"},
		{"HEAD /fhir/Observation?_revinclude=Provenance:target", "both", ok},
		{"GET /fhir/Observation?_revinclude=Provenance:target", "both", ok},
		{"GET /fhir/Observation?_include=Observation:subject:Patient", "obs", "user/Patient.s"},
		{"GET /fhir/Observation?_include=Observation:subject:Patient", "both", ok},
		{"GET /fhir/Observation?_include=*", "both", "user/*.s"},
		{"GET /fhir/Observation?_include=*", "all", ok},
		{"GET /fhir/Patient?_has:Task:patient:status=x", "both", "user/Task.s"},
		{"GET /fhir/Observation?subject:Patient.name=x", "obs", "user/Patient.s"},
		{"GET /fhir/Observation?subject:Patient=1", "obs", ok},
		{"POST /fhir/Observation/_search?_revinclude=Provenance:target", "obs", "user/Provenance.s"},
		{"GET /fhir?_getpages=0a1b-2c&_getpagesoffset=20&_count=20&_bundletype=searchset", "task", ok},
		{"GET /fhir/?_getpages=0a1b-2c", "task", ok},
		{"GET /fhir?_getpages=x&_type=Patient,Observation", "task", "user/*.s"},
		{"GET /fhir?_type=Patient&_getpages=x", "task", "user/*.s"},
		{"GET /fhir?_getpages=x&name=y", "task", "user/*.s"},
		{"DELETE /fhir/Task/1?_cascade=delete", "cut", "user/*.d"},
		{"DELETE /fhir/Task/1", "cut", ok},
		{"POST /fhir/$reindex", "all", none},
		{"GET /fhir/what/ever", "all", none},
		{"GET /fhir/Patient/1/$docref", "doc", ok},
		{"GET /fhir/Patient/1/%24docref", "doc", ok},
		{"POST /fhir/$process-message", "doc", ok},
		{"POST /fhir/$process-message", "obs", "user/MessageHeader.c"},
		{"GET /fhir/documents/1", "doc", ok},
		{"GET /fhir/documents/1", "obs", "user/DocumentReference.r"},
		{"GET /fhir/documents/a%20b", "doc", ok},
		{"GET /fhir/documents/%252e%252e/Patient/1", "all", none},
		{"GET /fhir/documents/..%3b/Patient/1", "all", none},
		{"GET /fhir/documents/%2524reindex", "all", none},
		{"GET /fhir/Composition/1/$document", "both", "user/*.rs"},
		{"POST /fhir/documents/1", "all", none},
		{"GET /fhir/x/__page/y", "task", ok},
		{"GET /fhir/$export?_type=Patient,Task", "bulk", ok},
		{"GET /fhir/Group/1/$export?_type=Patient,Observation", "bulk", "system/Observation.rs"},
		{"GET /fhir/$export", "bulk", "system/*.rs"},
		{"GET /fhir/$export-poll-status?_jobId=1", "bulk", ok},
		{"DELETE /fhir/$export-poll-status?_jobId=1", "bulk", ok},
		{"GET /fhir/Practitioner/5", "me", ok},
		{"GET /fhir/Practitioner/6", "me", "user/Practitioner.r"},
		{"PUT /fhir/Practitioner/5", "me", "user/Practitioner.u"},
		{"GET /fhir/Practitioner/5", "stranger", "user/Practitioner.r"},
	})
	if n := w.metric(t, "introspection_sidecar_refusals_total", `reason="operation"`); n != 2 {
		t.Errorf("got %v refusals of operations, want 2", n)
	}
	if a := w.get(t, "/metrics"); strings.Contains(a.body, "scope_reports_total") || strings.Contains(a.body, "patient_guard") {
		t.Error("got metrics of what is off, want none")
	}
}

// logsAt returns the lines of requests at a level.
func (w *world) logsAt(level string) (lines []map[string]any) {
	for _, line := range w.logs("request") {
		if line["level"] == level {
			lines = append(lines, line)
		}
	}
	return lines
}

// report judges and lets pass.
func TestBlackboxScopeReport(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SCOPE_ENFORCEMENT": "report", "AUDIT_LOG": "stdout"})
	w.token("obs", claims{"scope": "user/Observation.rs", "patient": nil})
	w.token("p", claims{"scope": "patient/*.rs", "patient": "1"})
	for _, request := range []string{"GET /fhir/Task", "POST /fhir/$reindex", "GET /fhir/Observation"} {
		w.ask(t, request, bearer("obs"), "Content-Length: 0").is(t, 200)
	}
	w.ask(t, "GET /fhir/Patient/2", bearer("p")).is(t, 200)
	for reason, want := range map[string]float64{"interaction": 1, "operation": 1, "patient": 1, "patient_context": 0} {
		if n := w.metric(t, "introspection_sidecar_scope_reports_total", `reason="`+reason+`"`); n != want {
			t.Errorf("got %v reports of %s, want %v", n, reason, want)
		}
	}
	w.terminate(t)
	if lines := w.logsAt("INFO"); len(lines) != 3 || lines[0]["level"] != "INFO" || lines[0]["reported"] != "interaction" || lines[0]["decision"] != "allowed" {
		t.Errorf("got lines %v, want one at info for each request that would be refused", lines)
	}
}

// A token limited to one patient whom nobody names is refused, whatever else is
// checked, unless that is switched off.
func TestBlackboxPatientContext(t *testing.T) {
	t.Parallel()
	lost := claims{"scope": "patient/*.rs", "patient": nil}
	tokens := func(w *world) {
		w.token("lost", lost)
		w.token("wrong", claims{"scope": "patient/*.rs", "patient": "Practitioner/1"})
		w.token("asked", claims{"scope": "launch/patient patient/*.rs", "patient": nil})
		w.token("mixed", claims{"scope": "patient/*.rs user/Task.rs", "patient": nil})
		w.token("system", claims{"scope": "system/*.rs", "patient": nil})
		w.token("unscoped", claims{"scope": nil, "patient": nil})
	}
	w := start(t, nil)
	tokens(w)
	for token, scope := range map[string]string{"lost": `, scope="launch/patient"`, "wrong": `, scope="launch/patient"`, "asked": ""} {
		a := w.ask(t, "GET /fhir/Task", bearer(token))
		a.refused(t, 403, "forbidden", "insufficient_scope")
		if got, want := a.header.Get("WWW-Authenticate"), `Bearer realm="fhir", error="insufficient_scope"`+scope; got != want {
			t.Errorf("%s: got challenge %s, want %s", token, got, want)
		}
	}
	for _, token := range []string{"mixed", "system", "unscoped", "good"} {
		w.ask(t, "GET /fhir/Task", bearer(token)).is(t, 200)
	}
	if n := w.metric(t, "introspection_sidecar_refusals_total", `reason="patient_context"`); n != 3 {
		t.Errorf("got %v refusals, want 3", n)
	}

	w = start(t, env{"PATIENT_CONTEXT": "ignore"})
	tokens(w)
	for _, token := range []string{"lost", "wrong", "asked"} {
		w.ask(t, "GET /fhir/Task", bearer(token)).is(t, 200)
		if head := w.up.last(t).head; strings.Contains(head, "X-Launch-Patient") {
			t.Errorf("%s: got %q, want no patient", token, head)
		}
	}

	// With the context ignored, coarse finds nothing that such scopes could apply to.
	w = start(t, env{"PATIENT_CONTEXT": "ignore", "SCOPE_ENFORCEMENT": "coarse"})
	tokens(w)
	w.check(t, []access{{"GET /fhir/Task", "lost", "user/Task.s"}})
	if n := w.metric(t, "introspection_sidecar_refusals_total", `reason="patient_context"`); n != 2 {
		t.Errorf("got %v refusals, want 2", n)
	}
}

// A segment that can't be a tenant's name isn't one, and a token belongs to its tenant.
func TestBlackboxTenants(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	w := start(t, env{"UPSTREAM_URL": "http://" + up.address + "/fhir/{tenant}", "SCOPE_ENFORCEMENT": "coarse", "TENANT_CLAIM": "tenant", "AUDIT_LOG": "stdout"})
	w.up = up
	w.token("a", claims{"scope": "user/*.cruds", "tenant": "a"})
	w.token("none", claims{"scope": "user/*.cruds", "tenant": nil})
	for _, request := range []string{
		"POST /fhir/$expunge", "POST /fhir/%24expunge", "GET /fhir/_history", "POST /fhir/_search", "GET /fhir/metadata",
		"GET /fhir/.well-known/smart-configuration", "GET /fhir/a%20b/Patient", "GET /fhir/-a/Patient", "GET /fhir",
	} {
		before := up.count()
		w.ask(t, request, bearer("a"), "Content-Length: 0").refused(t, 404, "not-found", "")
		if up.count() != before {
			t.Errorf("%s reached the FHIR server, want 404", request)
		}
	}
	w.ask(t, "GET /fhir/a/Patient", bearer("a")).is(t, 200)
	w.ask(t, "POST /fhir/a", bearer("a"), "Content-Length: 0").is(t, 200)
	w.ask(t, "GET /fhir/b/metadata").is(t, 200)
	for _, c := range []access{
		{"GET /fhir/b/Patient", "a", ""},
		{"GET /fhir/A/Patient", "a", ""},
		{"GET /fhir/a/Patient", "none", ""},
	} {
		a := w.ask(t, c.request, bearer(c.token))
		a.refused(t, 403, "forbidden", "insufficient_scope")
		if got := a.header.Get("WWW-Authenticate"); strings.Contains(got, "scope=") {
			t.Errorf("%s: got challenge %s, want no scope: none would help", c.request, got)
		}
	}
	if n := w.metric(t, "introspection_sidecar_refusals_total", `reason="tenant"`); n != 3 {
		t.Errorf("got %v refusals, want 3", n)
	}
	other := start(t, env{"UPSTREAM_URL": "http://" + up.address + "/fhir/{tenant}", "TENANT_CLAIM": "organization", "EXTRA_HEADERS": "Ward=ward"})
	other.token("o", claims{"organization": "a", "ward": "7"})
	other.ask(t, "GET /fhir/a/Patient", bearer("o")).is(t, 200)
	other.ask(t, "GET /fhir/b/Patient", bearer("o")).refused(t, 403, "forbidden", "insufficient_scope")
	other.ask(t, "GET /fhir/a/Patient", good).refused(t, 403, "forbidden", "insufficient_scope")
	w.ask(t, "POST /fhir/a/$expunge", bearer("a"), "Content-Length: 0").needs(t, none)
	w.terminate(t)
	if !strings.Contains(w.stdout.String(), `"interaction":"operation","operation":"$expunge","tenant":"a"`) {
		t.Errorf("got %s, want a record of the operation and its tenant", w.stdout.String())
	}
}
