package main

import (
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Three domains at one FHIR server: three sidecars, each with its own
// authorization server. A token counts in its own domain only.
func TestKoppeltaalDomains(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	type domain struct {
		*child
		as    *koppeltaalAS
		token string
	}
	domains := map[string]*domain{}
	for _, name := range []string{"A", "B", "C"} {
		as := newKoppeltaalAS(t, "token")
		domains[name] = &domain{startKoppeltaal(t, as, up, "/fhir/"+name), as, as.issue(t)}
	}
	for name, d := range domains {
		target := "GET /fhir/" + name + "/Task"
		for other, o := range domains {
			if name != other {
				d.ask(t, target, bearer(o.token)).refused(t, 401, "login", "invalid_token")
				d.ask(t, "GET /fhir/"+other+"/Task", bearer(d.token)).refused(t, 404, "not-found", "")
			}
		}
	}
	if up.count() != 0 {
		t.Errorf("FHIR server got %d requests, want none", up.count())
	}
	// None of that has used up a token where it counts.
	for name, d := range domains {
		d.ask(t, "GET /fhir/"+name+"/Task", bearer(d.token)).is(t, 200)
		up.last(t).has(t, "X-Launch-Issuer", d.as.URL)
	}
}

// One base for all domains, where one authorization server speaks for them.
func TestKoppeltaalTenant(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/{tenant}")
	token := a.issue(t)
	for _, name := range []string{"A", "B", "DEFAULT"} {
		c.ask(t, "GET /fhir/"+name+"/metadata").is(t, 200)
		c.ask(t, "GET /fhir/"+name+"/Task?status=ready", bearer(token)).is(t, 200)
		if got := up.last(t).target(); got != "/fhir/"+name+"/Task?status=ready" {
			t.Errorf("got target %q, want that of the request", got)
		}
		c.ask(t, "GET /fhir/"+name+"/Task").refused(t, 401, "login", "none")
	}
	c.ask(t, "GET /fhir", bearer(token)).refused(t, 404, "not-found", "")
	c.ask(t, "GET /metadata", bearer(token)).refused(t, 404, "not-found", "")
	c.ask(t, "GET /fhir/A/../B/Task", bearer(token)).refused(t, 400, "invalid", "")
	if n := a.IntrospectionsOf(token); n != 1 {
		t.Errorf("got %d introspections, want 1", n)
	}
}

// A restart and a second replica cost what the documentation says: a token that
// was introspected before is refused once, and a new one passes.
func TestKoppeltaalRestart(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	const target = "GET /fhir/DEFAULT/Task"
	first := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	seen, unseen := a.issue(t), a.issue(t)
	first.ask(t, target, bearer(seen)).is(t, 200)
	first.ask(t, target, bearer(seen)).is(t, 200)

	replica := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	replica.ask(t, target, bearer(seen)).refused(t, 401, "login", "invalid_token")
	first.ask(t, target, bearer(seen)).is(t, 200) // it remembers

	if code := first.terminate(t); code != exitOK {
		t.Errorf("got exit code %d, want %d", code, exitOK)
	}
	again := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	before := up.count()
	again.ask(t, target, bearer(seen)).refused(t, 401, "login", "invalid_token")
	if up.count() != before {
		t.Error("FHIR server got the refused request, want it refused only")
	}
	again.ask(t, target, bearer(unseen)).is(t, 200)
	again.ask(t, target, bearer(a.issue(t))).is(t, 200)
}

// Purging costs the same, for the tokens it selects.
func TestKoppeltaalPurge(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/DEFAULT", "ADMIN_TOKEN_FILE", writeFile(t, "admin", adminToken))
	one, two := a.issue(t), a.issue(t)
	const target = "GET /fhir/DEFAULT/Task"
	purge := func(query, want string) {
		t.Helper()
		got := exchange(t, c.admin, request("DELETE /cache"+query, bearer(adminToken)))
		if got.is(t, 200); strings.TrimSpace(got.body) != want {
			t.Errorf("answer %s, want %s", got.body, want)
		}
	}
	c.ask(t, target, bearer(one)).is(t, 200)
	c.ask(t, target, bearer(two)).is(t, 200)
	purge("?token_sha256="+hexDigest(one), `{"purged":1}`)
	c.ask(t, target, bearer(one)).refused(t, 401, "login", "invalid_token")
	c.ask(t, target, bearer(two)).is(t, 200)
	purge("?client_id=portaal-b", `{"purged":0}`)
	c.ask(t, target, bearer(two)).is(t, 200)
	purge("?client_id=portaal-a", `{"purged":1}`) // azp
	c.ask(t, target, bearer(two)).refused(t, 401, "login", "invalid_token")
	if got := c.metric(t, "introspection_sidecar_cache_evictions_total", `reason="purged"`, `verdict="active"`); got != 2 {
		t.Errorf("got %v purged verdicts, want 2", got)
	}
}

// TOP-KT-011: each hop has an X-Request-Id of its own, which the next one's
// X-Correlation-Id refers to, and X-Trace-Id is the same on all.
func TestKoppeltaalTraceHeaders(t *testing.T) {
	t.Parallel()
	a, up := newKoppeltaalAS(t, "token"), newUpstream(t)
	c := startKoppeltaal(t, a, up, "/fhir/DEFAULT")
	const id, caller, chain = "0b16f2a4-55a9-4c0f-9d3e-6f4b8f7a1c01", "0b16f2a4-55a9-4c0f-9d3e-6f4b8f7a1c02", "0b16f2a4-55a9-4c0f-9d3e-6f4b8f7a1c03"
	for _, tt := range []struct {
		name                       string
		header                     []string
		request, correlate, tracer string // as the FHIR server gets them; "new" is made
	}{
		{"all", []string{"X-Request-Id: " + id, "X-Correlation-Id: " + caller, "X-Trace-Id: " + chain}, id, caller, chain},
		{"none", nil, "new", "", ""},
		{"other spelling", []string{"x-request-id: " + id, "X-TRACE-ID: " + chain}, id, "", chain},
		{"no trace", []string{"X-Request-Id: " + id}, id, "", ""},
		{"only a trace", []string{"X-Trace-Id: " + chain}, "new", "", chain},
		{"not to be believed", []string{`X-Request-Id: "},{"log":"audit`}, "new", "", ""},
	} {
		c.ask(t, "GET /fhir/DEFAULT/Task", append(tt.header, bearer(a.issue(t)))...).is(t, 200)
		got := up.last(t)
		if tt.request == "new" {
			ids := got.values("X-Request-Id")
			if len(ids) != 1 || !uuid.MatchString(ids[0]) {
				t.Fatalf("%s: FHIR server got X-Request-Id %q, want one UUID", tt.name, ids)
			}
			tt.request = ids[0]
		}
		got.has(t, "X-Request-Id", tt.request)
		got.has(t, "X-Correlation-Id", tt.correlate)
		got.has(t, "X-Trace-Id", tt.tracer)
		requests := a.Requests()
		checkIntrospectionIDs(t, tt.name, requests[len(requests)-1], tt.request, tt.tracer)

		refused := c.ask(t, "GET /fhir/DEFAULT/Task", tt.header...)
		refused.refused(t, 401, "login", "none")
		back := refused.header.Get("X-Request-Id")
		if len(tt.header) > 0 && strings.EqualFold(tt.header[0], "X-Request-Id: "+id) && back != id || !uuid.MatchString(back) {
			t.Errorf("%s: got X-Request-Id %q with a refusal, want the client's, or a UUID", tt.name, back)
		}
		if refused.header.Get("X-Trace-Id") != tt.tracer || refused.header.Get("X-Correlation-Id") != tt.correlate {
			t.Errorf("%s: got %v with a refusal, want the client's X-Trace-Id and X-Correlation-Id", tt.name, refused.header)
		}
	}
}

func checkIntrospectionIDs(t *testing.T, name string, r introspectiontest.Request, caused, trace string) {
	t.Helper()
	own := r.Header.Get("X-Request-Id")
	if !uuid.MatchString(own) || own == caused {
		t.Errorf("%s: got X-Request-Id %q for an introspection, want a UUID of its own", name, own)
	}
	if got := r.Header.Get("X-Correlation-Id"); got != caused {
		t.Errorf("%s: introspection has X-Correlation-Id %q, want %q", name, got, caused)
	}
	if got := r.Header.Get("X-Trace-Id"); got != trace {
		t.Errorf("%s: introspection has X-Trace-Id %q, want %q", name, got, trace)
	}
}
