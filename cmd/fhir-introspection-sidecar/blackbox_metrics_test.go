package main

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// counts returns what has been counted so far, by series without the common
// prefix. Of histograms it has the counts; a time is no count.
func (c *child) counts(t *testing.T) map[string]float64 {
	t.Helper()
	counts := map[string]float64{}
	for line := range strings.Lines(c.get(t, "/metrics").body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if series, ours := strings.CutPrefix(series, "introspection_sidecar_"); ours && !strings.Contains(series, "_bucket{") && !strings.Contains(series, "_sum") && !strings.Contains(series, "_timestamp_") {
			name, labels, labelled := strings.Cut(series, "{")
			if !labelled {
				name, value, _ = strings.Cut(series, " ")
			}
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("%q: got error %v, want a number", line, err)
			}
			counts[strings.TrimSpace(name+" "+labels)] = n
		}
	}
	return counts
}

// Section 8: each thing that happens is counted where the contract says, and
// nowhere else. F29: the bound of the cache holds.
func TestBlackboxMetricValues(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	t.Parallel()
	const secret = "admin-secret-0123456789"
	w := start(t, env{"CACHE_MAX_ENTRIES": "4", "CACHE_INACTIVE_AGE": "1h", "ADMIN_TOKEN_FILE": writeFile(t, "a", secret), "UPSTREAM_HEADER_TIMEOUT": "2s"})
	none := func(*testing.T) {}
	get := func(token string, status int, header ...string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			w.ask(t, "GET /fhir/Patient", append(header, bearer(token))...).is(t, status)
		}
	}
	answering := func(token string, answer introspectiontest.Answer, status int) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			w.as.SetAnswerFor(token, answer)
			get(token, status)(t)
		}
	}
	status := func(code int) introspectiontest.Answer { return introspectiontest.Respond(code, nil, "") }
	request := func(decision string, class int) map[string]float64 {
		return map[string]float64{
			fmt.Sprintf(`requests_total code="%dxx",decision="%s"`, class, decision): 1,
			fmt.Sprintf(`request_duration_seconds_count decision="%s"`, decision):    1,
		}
	}
	// asked is what one introspection counts.
	asked := func(m map[string]float64, result string) map[string]float64 {
		m[`introspections_total result="`+result+`"`]++
		m[`introspection_duration_seconds_count result="`+result+`"`]++
		m[`cache_lookups_total result="miss"`]++
		return m
	}
	and := func(m map[string]float64, more ...string) map[string]float64 {
		for _, name := range more {
			m[name]++
		}
		return m
	}
	refused := func(reason string) string { return `refusals_total reason="` + reason + `"` }
	const kept, keptInactive = `cache_entries verdict="active"`, `cache_entries verdict="inactive"`
	w.as.AddToken("odd", map[string]any{"exp": 4102444800, "patient": "no id", "intent": strings.Repeat("x", 7000), "scope": strings.Repeat("user/Patient.rs ", 300)})
	for i := range 4 {
		w.as.AddToken(fmt.Sprint("more", i), map[string]any{"exp": 4102444800})
	}
	var exp int64
	for _, step := range []struct {
		name string
		do   func(t *testing.T)
		want map[string]float64
	}{
		{"nothing", none, map[string]float64{}},
		{"miss", get("good", 200), and(asked(request("allowed", 2), "active"), kept)},
		{"hit", get("good", 200), and(request("allowed", 2), `cache_lookups_total result="hit"`, "cache_hit_age_seconds_count")},
		{"inactive", get("junk", 401), and(asked(request("invalid_token", 4), "inactive"), keptInactive, refused("inactive"))},
		{"inactive hit", get("junk", 401), and(request("invalid_token", 4), `cache_lookups_total result="inactive_hit"`, refused("inactive"))},
		{"no call", get("NOOP", 401), and(request("invalid_token", 4), `cache_lookups_total result="miss"`, keptInactive, refused("inactive"))},
		{"malformed", answering("m", introspectiontest.Respond(200, nil, "x"), 503), asked(request("introspection_unavailable", 5), "malformed")},
		{"unavailable", answering("u", status(500), 503), asked(request("introspection_unavailable", 5), "unavailable")},
		{"redirect", answering("r", status(302), 503), asked(request("introspection_unavailable", 5), "unavailable")},
		{"reset", answering("b", introspectiontest.Reset(), 503), asked(request("introspection_unavailable", 5), "unavailable")},
		{"throttled", answering("t", status(429), 503), asked(request("introspection_unavailable", 5), "throttled")},
		{"no token", func(t *testing.T) { w.ask(t, "GET /fhir/Patient").is(t, 401) }, and(request("no_token", 4), refused("no_token"))},
		{"public", func(t *testing.T) { w.ask(t, "GET /fhir/metadata").is(t, 200) }, request("public", 2)},
		{"the FHIR server's own 404", func(t *testing.T) {
			w.up.bytesOn("/fhir/none", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true)
			w.ask(t, "GET /fhir/none", good).is(t, 404)
		}, and(request("allowed", 4), `cache_lookups_total result="hit"`, "cache_hit_age_seconds_count")},
		{"forged headers", get("good", 200, "X-Launch-Patient: 9", "x_launch_user: 9", "X.Launch.X: 9"), and(request("allowed", 2),
			`cache_lookups_total result="hit"`, "cache_hit_age_seconds_count", "spoofed_headers_total", "spoofed_headers_total", "spoofed_headers_total")},
		{"headers left out", get("odd", 200), and(asked(request("allowed", 2), "active"), kept,
			`omitted_headers_total header="X-Launch-Patient",reason="invalid"`, `omitted_headers_total header="X-Launch-Intent",reason="no_room"`,
			`omitted_headers_total header="X-Launch-Scope",reason="too_large"`)},
		{"brief", func(t *testing.T) {
			exp = time.Now().Add(6 * time.Second).Unix()
			w.as.AddToken("brief", map[string]any{"exp": exp})
			get("brief", 200)(t)
		}, and(asked(request("allowed", 2), "active"), kept)},
		{"expired", func(t *testing.T) {
			w.as.SetAnswerFor("brief", introspectiontest.Respond(200, http.Header{"Content-Type": {"application/json"}}, `{"active":true}`))
			time.Sleep(time.Until(time.Unix(exp, 0)))
			get("brief", 200)(t)
		}, and(func() map[string]float64 {
			m := asked(request("allowed", 2), "active")
			delete(m, `cache_lookups_total result="miss"`)
			return m
		}(), `cache_lookups_total result="expired"`, `cache_evictions_total reason="expired",verdict="active"`)},
		{"filling up", get("more0", 200), and(asked(request("allowed", 2), "active"), kept)},
		{"no room", get("more1", 200), and(asked(request("allowed", 2), "active"), `cache_evictions_total reason="capacity",verdict="active"`)},
		{"purge", func(t *testing.T) {
			exchange(t, w.admin, "DELETE /cache HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer "+secret+"\r\n\r\n").is(t, 200)
		}, map[string]float64{
			kept: -4, keptInactive: -2,
			`cache_evictions_total reason="purged",verdict="active"`: 4, `cache_evictions_total reason="purged",verdict="inactive"`: 2,
			`purges_total source="admin"`: 1,
		}},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			before := w.counts(t)
			step.do(t)
			var got map[string]float64
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				got = w.counts(t)
				for name := range got {
					if got[name] -= before[name]; got[name] == 0 {
						delete(got, name)
					}
				}
				if maps.Equal(got, step.want) { // it is counted after the response
					return
				}
			}
			t.Errorf("counted\n%v, want\n%v", got, step.want)
		}) {
			return
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
			t.Errorf("admin %s: got %d, want 404 or 405", path, a.status)
		}
	}
	for _, line := range []string{"POST /metrics", "DELETE /cache", "DELETE /livez", "PUT /readyz"} {
		a := exchange(t, w.admin, request(line))
		if a.status != 404 && a.status != 405 {
			t.Errorf("admin %s: got %d, want 404 or 405", line, a.status)
		}
	}
	if !strings.Contains(w.get(t, "/readyz").body, "{") || w.get(t, "/readyz").status != 200 {
		t.Error("got another readiness, want 200 and JSON")
	}
}
