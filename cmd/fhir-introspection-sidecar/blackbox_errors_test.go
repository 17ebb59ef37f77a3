package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Every row of the table of refusals: status, challenge, issue, label, format,
// ids, CORS, and nothing of the request in the body.
func TestBlackboxRefusals(t *testing.T) {
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
						t.Errorf("%s %q", name, a.header.Get(name))
					}
				}
				if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, format.media) {
					t.Errorf("%v: Content-Type %q", format, got)
				}
				allow := a.header.Get("Access-Control-Allow-Origin")
				if (origin != "") != (allow != "") || allow != "" && allow != "*" && allow != origin || origin != "" && !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
					t.Errorf("CORS %q for %q", allow, origin)
				}
				if strings.Contains(a.body, "canary") || strings.Contains(fmt.Sprint(a.header["Www-Authenticate"]), "canary") {
					t.Errorf("request data in %v %s", a.header, a.body)
				}
				if t.Failed() {
					t.Fatalf("%s %q", line, head)
				}
			}
		}
		want := fmt.Sprintf("%dxx", c.status/100)
		if w.metric(t, "introspection_sidecar_requests_total", `decision="`+c.label+`"`, `code="`+want+`"`) < 14 {
			t.Errorf("%s was not counted", c.label)
		}
		if w.metric(t, "introspection_sidecar_request_duration_seconds_count", `decision="`+c.label+`"`) < 14 {
			t.Errorf("%s was not measured", c.label)
		}
	}
	// HEAD: the same without a body, and the connection is good for more.
	c := dial(t, w.data)
	for range 2 {
		a, err := c.do(request("HEAD /fhir/Patient"))
		if err != nil || a.status != 401 || a.body != "" || a.header.Get("WWW-Authenticate") == "" {
			t.Fatal(err, a)
		}
	}
	if a, err := c.do(request("GET /fhir/Patient", good)); err != nil || a.status != 200 {
		t.Fatal(err, a)
	}
}

// L09: ids that could forge a log line are replaced; others are kept.
func TestBlackboxRequestIDs(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, id := range []string{"", "a b", "a\"b", strings.Repeat("x", 10_000), "\xff", "a\\nb", "<x>", "a,b"} {
		a := w.ask(t, "GET /fhir/Patient", "X-Request-Id: "+id, "X-Correlation-Id: "+id, "X-Trace-Id: "+id)
		if got := a.header.Get("X-Request-Id"); !uuid.MatchString(got) {
			t.Errorf("%.20q became %.20q", id, got)
		}
	}
	if a := w.ask(t, "GET /fhir/Patient", "X-Request-Id: a", "X-Request-Id: b"); !uuid.MatchString(a.header.Get("X-Request-Id")) {
		t.Errorf("two ids: %q", a.header["X-Request-Id"])
	}
	for line := range strings.Lines(w.stdout.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %q", line)
		}
	}
}

// Section 9: what the lines hold, and at which level.
func TestBlackboxLogs(t *testing.T) {
	t.Parallel()
	w := start(t, env{"LOG_LEVEL": "debug"})
	w.as.SetAnswerFor("down", introspectiontest.Respond(500, nil, ""))
	w.as.SetAnswerFor("rejected", introspectiontest.Respond(401, nil, ""))
	w.ask(t, "GET /fhir/Patient/1?name=secret", good, "X-Request-Id: r1", "X-Correlation-Id: c1", "X-Trace-Id: t1").is(t, 200)
	w.ask(t, "GET /fhir/Patient", good)
	w.ask(t, "GET /fhir/Patient")
	w.ask(t, "GET /fhir/Patient", bearer("unknown"))
	w.ask(t, "GET /fhir/Patient", bearer("down"))
	w.ask(t, "GET /fhir/Patient", bearer("rejected"))
	w.ask(t, "GET /fhir/metadata")
	want := []string{"DEBUG allowed", "DEBUG allowed", "INFO no_token", "INFO invalid_token", "WARN introspection_unavailable", "ERROR credential_rejected", "DEBUG public"}
	var got []string
	eventually(t, "seven lines", func() bool { return len(w.logs("request")) >= len(want) })
	lines := w.logs("request")
	for _, line := range lines {
		got = append(got, fmt.Sprint(line["level"], " ", line["decision"]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	first := lines[0]
	for key, value := range map[string]any{"method": "GET", "interaction": "read", "status": 200.0, "request_id": "r1", "correlation_id": "c1", "trace_id": "t1", "cache": "miss"} {
		if first[key] != value {
			t.Errorf("%s: %v, want %v", key, first[key], value)
		}
	}
	ref, _ := first["token_ref"].(string)
	if len(ref) != 8 || strings.Trim(ref, "0123456789abcdef") != "" || lines[1]["token_ref"] != ref || lines[1]["cache"] != "hit" || lines[3]["token_ref"] == ref {
		t.Errorf("token_ref %q %q %q", ref, lines[1]["token_ref"], lines[3]["token_ref"])
	}
	for _, key := range []string{"time", "level", "duration_ms"} {
		if first[key] == nil {
			t.Errorf("no %s", key)
		}
	}
	// L02: another process makes another one of the same token.
	other := start(t, env{"LOG_LEVEL": "debug", "INTROSPECTION_ENDPOINT": w.as.Endpoint()})
	other.ask(t, "GET /fhir/Patient", good)
	eventually(t, "a line", func() bool { return len(other.logs("request")) > 0 })
	if other.logs("request")[0]["token_ref"] == ref {
		t.Error("token_ref can be joined across processes")
	}
	// At info, allowed requests leave no line.
	quiet := start(t, env{"LOG_LEVEL": "info"})
	quiet.ask(t, "GET /fhir/Patient", good)
	quiet.ask(t, "GET /fhir/Patient")
	eventually(t, "the refusal", func() bool { return len(quiet.logs("request")) > 0 })
	if n := len(quiet.logs("request")); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Section 9: at each level, the lines of that level and above, and on each the same
// members. Only what is nobody's refusal says why.
func TestBlackboxLogFields(t *testing.T) {
	t.Parallel()
	want := strings.Fields("cache correlation_id decision duration_ms interaction level method msg request_id status time token_ref trace_id")
	for level, decisions := range map[string][]string{
		"debug": {"allowed", "public", "no_token", "introspection_unavailable", "credential_rejected"},
		"info":  {"no_token", "introspection_unavailable", "credential_rejected"},
		"warn":  {"introspection_unavailable", "credential_rejected"},
		"error": {"credential_rejected"},
	} {
		w := start(t, nil) // tells its addresses; the sidecar that is tried may not say any
		other := leastEnv(t)
		for _, variable := range w.cmd.Env {
			if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "SIDECAR_") {
				other[strings.TrimPrefix(name, "SIDECAR_")] = value
			}
		}
		// The same ports at an address that no other test uses: they stay free.
		data, admin := strings.Replace(w.data, "127.0.0.1", "127.77.0.1", 1), strings.Replace(w.admin, "127.0.0.1", "127.77.0.1", 1)
		other["LOG_LEVEL"], other["LISTEN_ADDRESS"], other["ADMIN_ADDRESS"] = level, data, admin
		c := spawn(t, other, nil)
		c.data, c.admin = data, admin
		eventually(t, "it serves", func() bool {
			a, err := exchangePlain(c.admin, request("GET /readyz", "Connection: close"))
			return err == nil && a.status == 200
		})
		w.as.SetAnswerFor("down", introspectiontest.Respond(500, nil, ""))
		w.as.SetAnswerFor("rejected", introspectiontest.Respond(401, nil, ""))
		for _, header := range []string{good, "X-None: 1", bearer("down"), bearer("rejected")} {
			c.ask(t, "GET /fhir/Patient/1", header)
		}
		c.ask(t, "GET /fhir/metadata")
		if code := c.terminate(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		var got []string
		for _, line := range c.logs("request") {
			got = append(got, fmt.Sprint(line["decision"]))
			unavailable := line["level"] == "WARN" || line["level"] == "ERROR"
			if _, told := line["error"]; told != unavailable {
				t.Errorf("says why: %t, in %v", told, line)
			}
			delete(line, "error")
			if keys := slices.Sorted(maps.Keys(line)); !slices.Equal(keys, want) {
				t.Errorf("members %q, want %q", keys, want)
			}
		}
		slices.Sort(got)
		slices.Sort(decisions)
		if !slices.Equal(got, decisions) {
			t.Errorf("%s: lines for %q, want %q", level, got, decisions)
		}
	}
}

// The exported series are those of the contract, all of them from the start.
func TestBlackboxMetricNames(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	text := w.get(t, "/metrics").body
	for _, want := range []string{
		`requests_total{code="2xx",decision="allowed"}`, `request_duration_seconds_bucket{decision="allowed",le=`,
		`cache_lookups_total{result="hit"}`, `cache_lookups_total{result="coalesced"}`, `cache_entries{verdict="active"}`, `cache_entries{verdict="inactive"}`,
		`cache_evictions_total{reason="capacity",verdict="active"}`, `cache_evictions_total{reason="purged",verdict="inactive"}`,
		`cache_hit_age_seconds_bucket{`, `introspections_total{result="credential_rejected"}`, `introspections_total{result="throttled"}`,
		`introspection_duration_seconds_bucket{result="active"`, `introspections_in_flight 0`, `credential_renewals_total{result="ok"}`,
		`credential_renewals_total{result="failed"}`, `spoofed_headers_total 0`, `build_info{commit=`,
	} {
		if !strings.Contains(text, "introspection_sidecar_"+want) {
			t.Errorf("no series %s", want)
		}
	}
	for _, path := range []string{"/", "/debug/pprof/", "/debug/vars", "/cache", "/config"} {
		if a := w.get(t, path); a.status != 404 && a.status != 405 {
			t.Errorf("admin %s: %d", path, a.status)
		}
	}
	for _, line := range []string{"POST /metrics", "DELETE /cache", "DELETE /livez", "PUT /readyz"} {
		a := exchange(t, w.admin, request(line))
		if a.status != 404 && a.status != 405 {
			t.Errorf("admin %s: %d", line, a.status)
		}
	}
	if !strings.Contains(w.get(t, "/readyz").body, "{") || w.get(t, "/readyz").status != 200 {
		t.Error("not ready")
	}
}

// Section 7: forgetting verdicts needs the admin bearer.
func TestBlackboxPurge(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	as := introspectiontest.NewServer(t)
	as.AddToken("good", as.Claims())
	e := env{
		"UPSTREAM_URL": "http://" + up.address + "/fhir", "LISTEN_ADDRESS": "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0",
		"INTROSPECTION_ENDPOINT": as.Endpoint(), "BEARER_TOKEN_FILE": writeFile(t, "b", introspectiontest.DefaultBearer), "ADMIN_TOKEN_FILE": writeFile(t, "a", "admin-secret-0123456789\n"),
	}
	c := spawn(t, e, nil)
	c.awaitServing(t)
	const admin = "Authorization: Bearer admin-secret-0123456789"
	if a := exchange(t, c.admin, request("DELETE /cache")); a.status != 401 {
		t.Errorf("without bearer: %d", a.status)
	}
	if a := exchange(t, c.admin, request("DELETE /cache", bearer("good"))); a.status != 401 && a.status != 403 {
		t.Errorf("with another bearer: %d", a.status)
	}
	for _, query := range []string{"", "?sub=p-42", "?client_id=module-7", "?patient=123", fmt.Sprintf("?token_sha256=%x", sha256.Sum256([]byte("good")))} {
		c.ask(t, "GET /fhir/Patient", good).is(t, 200)
		before := as.Introspections()
		if a := exchange(t, c.admin, request("DELETE /cache"+query, admin)); a.status != 200 || !strings.Contains(strings.ReplaceAll(a.body, " ", ""), `"purged":1`) {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
		c.ask(t, "GET /fhir/Patient", good).is(t, 200)
		if as.Introspections() != before+1 {
			t.Errorf("%s: was not forgotten", query)
		}
		if a := exchange(t, c.admin, request("DELETE /cache?sub=nobody", admin)); !strings.Contains(strings.ReplaceAll(a.body, " ", ""), `"purged":0`) {
			t.Errorf("nobody: %s", a.body)
		}
	}
	if _, err := os.Stat("cache"); err == nil {
		t.Error("something was written")
	}
}
