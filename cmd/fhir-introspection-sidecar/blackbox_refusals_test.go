package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Every row of the table of refusals: status, challenge, issue, label, format,
// ids, CORS, and nothing of the request in the body.
func TestBlackboxRefusals(t *testing.T) {
	if testing.Short() {
		t.Skip("asks thousands of times")
	}
	t.Parallel()
	w := start(t, env{"REQUIRED_SCOPES": "launch", "UPSTREAM_HEADER_TIMEOUT": "200ms"})
	w.as.AddToken("narrow", map[string]any{"scope": "x"})
	w.as.SetAnswerFor("down", introspectiontest.Respond(500, nil, ""))
	w.as.SetAnswerFor("malformed", introspectiontest.Respond(200, nil, "x"))
	w.as.SetAnswerFor("rejected", introspectiontest.Respond(401, nil, ""))
	w.up.on("/fhir/gone", func(c *upstreamConn, r *arrival) bool { c.readBody(r); return false })
	w.up.on("/fhir/slow", func(c *upstreamConn, r *arrival) bool { c.readBody(r); _, _ = c.ReadByte(); return false })
	for _, c := range []struct {
		label, line, head string
		status            int
		code, oauth       string
	}{
		{"no_token", "GET /fhir/canary?q=canary", "", 401, "login", "none"},
		{"invalid_request", "GET /fhir/canary?q=canary", good + "\r\n" + good, 400, "invalid", "invalid_request"},
		{"invalid_token", "GET /fhir/canary?q=canary", bearer("canary"), 401, "login", "invalid_token"},
		{"insufficient_scope", "GET /fhir/canary", bearer("narrow"), 403, "forbidden", "insufficient_scope"},
		{"introspection_unavailable", "GET /fhir/canary", bearer("down"), 503, "transient", ""},
		{"introspection_unavailable", "GET /fhir/canary", bearer("malformed"), 503, "transient", ""},
		{"credential_rejected", "GET /fhir/canary", bearer("rejected"), 503, "transient", ""},
		{"upstream_error", "GET /fhir/gone", good, 502, "transient", ""},
		{"upstream_error", "GET /fhir/slow", good, 504, "timeout", ""},
		{"not_found", "GET /canary", good, 404, "not-found", ""},
		{"bad_path", "GET /fhir/canary/../x", good, 400, "invalid", ""},
		{"method_not_allowed", "TRACE /fhir/canary", good, 405, "not-supported", ""},
	} {
		for _, format := range []struct{ query, accept, media string }{
			{"", "", "application/fhir+json"},
			{"", "application/fhir+xml", "application/fhir+xml"},
			{"", "application/fhir+json;q=0.5, application/xml", "application/fhir+xml"},
			{"", "text/html, image/png", "application/fhir+json"},
			{"_format=xml", "application/fhir+json", "application/fhir+xml"},
			{"_format=application/fhir+xml", "", "application/fhir+xml"},
			{"_format=json", "application/fhir+xml", "application/fhir+json"},
		} {
			for _, origin := range []string{"", "https://canary.example"} {
				line := c.line
				if format.query != "" {
					line += map[bool]string{true: "&", false: "?"}[strings.Contains(line, "?")] + format.query
				}
				head := []string{"X-Request-Id: req-1", "X-Correlation-Id: cor-1", "X-Trace-Id: tra-1", "User-Agent: canary"}
				if c.head != "" {
					head = append(head, c.head)
				}
				if format.accept != "" {
					head = append(head, "Accept: "+format.accept)
				}
				if origin != "" {
					head = append(head, "Origin: "+origin)
				}
				a := w.ask(t, line, head...)
				a.refused(t, c.status, c.code, c.oauth)
				for name, want := range map[string]string{"X-Request-Id": "req-1", "X-Correlation-Id": "cor-1", "X-Trace-Id": "tra-1"} {
					if a.header.Get(name) != want {
						t.Errorf("got %s %q, want %q", name, a.header.Get(name), want)
					}
				}
				if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, format.media) {
					t.Errorf("%v: got Content-Type %q, want %s", format, got, format.media)
				}
				allow := a.header.Get("Access-Control-Allow-Origin")
				if (origin != "") != (allow != "") || allow != "" && allow != "*" && allow != origin || origin != "" && !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
					t.Errorf("got Access-Control-Allow-Origin %q for %q, want it for pages only, with the exposed headers", allow, origin)
				}
				if strings.Contains(a.body, "canary") || strings.Contains(fmt.Sprint(a.header["Www-Authenticate"]), "canary") {
					t.Errorf("got %v %s, want nothing of the request", a.header, a.body)
				}
				if t.Failed() {
					t.Fatalf("%s %q: want a refusal as it should be", line, head)
				}
			}
		}
		want := fmt.Sprintf("%dxx", c.status/100)
		if w.metric(t, "introspection_sidecar_requests_total", `decision="`+c.label+`"`, `code="`+want+`"`) < 14 {
			t.Errorf("%s was counted less than 14 times, want each refusal", c.label)
		}
		if w.metric(t, "introspection_sidecar_request_duration_seconds_count", `decision="`+c.label+`"`) < 14 {
			t.Errorf("%s was measured less than 14 times, want each refusal", c.label)
		}
	}
	// HEAD: the same without a body, and the connection is good for more.
	c := dial(t, w.data)
	for range 2 {
		a, err := c.do(request("HEAD /fhir/Patient"))
		if err != nil || a.status != 401 || a.body != "" || a.header.Get("WWW-Authenticate") == "" {
			t.Fatalf("got %v (%v), want 401, a challenge and no body", a, err)
		}
	}
	if a, err := c.do(request("GET /fhir/Patient", good)); err != nil || a.status != 200 {
		t.Fatalf("got %v (%v), want 200", a, err)
	}
}

// L09: ids that could forge a log line are replaced; others are kept.
func TestBlackboxRequestIDs(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, id := range []string{"", "a b", "a\"b", strings.Repeat("x", 10_000), "\xff", "a\\nb", "<x>", "a,b"} {
		a := w.ask(t, "GET /fhir/Patient", "X-Request-Id: "+id, "X-Correlation-Id: "+id, "X-Trace-Id: "+id)
		if got := a.header.Get("X-Request-Id"); !uuid.MatchString(got) {
			t.Errorf("%.20q became %.20q, want a UUID", id, got)
		}
	}
	if a := w.ask(t, "GET /fhir/Patient", "X-Request-Id: a", "X-Request-Id: b"); !uuid.MatchString(a.header.Get("X-Request-Id")) {
		t.Errorf("two ids: got %q, want a UUID", a.header["X-Request-Id"])
	}
	for line := range strings.Lines(w.stdout.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("got %q, want JSON", line)
		}
	}
}
