package app

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// metricLabels is every metric of ours with its labels. Dashboards and alerts
// are built on it: a change here is a change for every operator.
var metricLabels = map[string][]string{
	"introspection_sidecar_requests_total":                          {"decision", "code"},
	"introspection_sidecar_request_duration_seconds":                {"decision"},
	"introspection_sidecar_cache_lookups_total":                     {"result"},
	"introspection_sidecar_cache_entries":                           {"verdict"},
	"introspection_sidecar_cache_evictions_total":                   {"verdict", "reason"},
	"introspection_sidecar_cache_hit_age_seconds":                   {},
	"introspection_sidecar_introspections_total":                    {"result"},
	"introspection_sidecar_introspection_duration_seconds":          {"result"},
	"introspection_sidecar_introspections_in_flight":                {},
	"introspection_sidecar_credential_renewals_total":               {"result"},
	"introspection_sidecar_credential_expiry_timestamp_seconds":     {},
	"introspection_sidecar_spoofed_headers_total":                   {},
	"introspection_sidecar_refusals_total":                          {"reason"},
	"introspection_sidecar_protocol_errors_total":                   {"reason"},
	"introspection_sidecar_scope_reports_total":                     {"reason"},
	"introspection_sidecar_patient_guard_total":                     {"verdict", "mode"},
	"introspection_sidecar_omitted_headers_total":                   {"header", "reason"},
	"introspection_sidecar_audit_dropped_total":                     {},
	"introspection_sidecar_discovery_disagreements_total":           {},
	"introspection_sidecar_ready":                                   {},
	"introspection_sidecar_purges_total":                            {"source"},
	"introspection_sidecar_purge_feed_age_seconds":                  {},
	"introspection_sidecar_shared_cache_connected":                  {},
	"introspection_sidecar_shared_cache_errors_total":               {"reason"},
	"introspection_sidecar_shared_cache_lookups_total":              {"result"},
	"introspection_sidecar_shared_cache_resets_total":               {},
	"introspection_sidecar_shared_cache_operation_duration_seconds": {"operation"},
	"introspection_sidecar_build_info":                              {"version", "commit", "goversion"},
	"introspection_sidecar_log_lines_suppressed_total":              {},
	"introspection_sidecar_bypass_open":                             {},
	"introspection_sidecar_certificate_expiry_timestamp_seconds":    {"use"},
}

// metricDoc is a metric as /metrics shows it.
type metricDoc struct {
	name, kind, help string
	labels           map[string]map[string]bool // the values seen of each
}

var (
	metaPattern   = regexp.MustCompile(`^# (HELP|TYPE) (\S+) (.*)$`)
	seriesPattern = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? \S+$`)
	labelPattern  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// parseMetrics reads the text format, leaving out go_* and process_*.
func parseMetrics(t *testing.T, text string) map[string]*metricDoc {
	t.Helper()
	metrics := map[string]*metricDoc{}
	get := func(name string) *metricDoc {
		if metrics[name] == nil {
			metrics[name] = &metricDoc{name: name, labels: map[string]map[string]bool{}}
		}
		return metrics[name]
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if meta := metaPattern.FindStringSubmatch(line); meta != nil {
			if meta[1] == "HELP" {
				get(meta[2]).help = meta[3]
			} else {
				get(meta[2]).kind = meta[3]
			}
			continue
		}
		series := seriesPattern.FindStringSubmatch(line)
		if series == nil {
			t.Fatalf("got %s, want a line of the text format", line)
		}
		name := series[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && metrics[base] != nil {
				name = base
			}
		}
		for _, label := range labelPattern.FindAllStringSubmatch(series[2], -1) {
			if label[1] == "le" || label[1] == "quantile" {
				continue
			}
			if get(name).labels[label[1]] == nil {
				get(name).labels[label[1]] = map[string]bool{}
			}
			get(name).labels[label[1]][label[2]] = true
		}
	}
	maps.DeleteFunc(metrics, func(name string, _ *metricDoc) bool {
		return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
	})
	return metrics
}

// values tells a label's values, or that they aren't for a list.
func (m *metricDoc) values(label string) string {
	switch label {
	case "version", "commit", "goversion", "header":
		return "*"
	}
	return strings.Join(slices.Sorted(maps.Keys(m.labels[label])), ",")
}

// exercise sends one request of each kind through the whole program and returns
// it with what /metrics says afterwards.
func exercise(t *testing.T) (*sidecar, map[string]*metricDoc) {
	t.Helper()
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	claims := func(pairs ...any) map[string]any {
		m := as.Claims()
		for i := 0; i < len(pairs); i += 2 {
			m[fmt.Sprint(pairs[i])] = pairs[i+1]
		}
		return m
	}
	as.AddToken("good", claims())
	as.AddToken("patient", claims("patient", "not an id", "scope", "user/*.rs"))
	as.AddToken("scope", claims("scope", strings.Repeat("user/Patient.rs ", 300)))
	as.AddToken("intent", claims("intent", strings.Repeat("long", 2000)))
	as.SetAnswerFor("malformed", introspectiontest.Respond(http.StatusOK, nil, "[]"))
	as.SetAnswerFor("throttled", introspectiontest.Respond(http.StatusTooManyRequests, nil, ""))
	as.SetAnswerFor("unavailable", introspectiontest.Respond(http.StatusInternalServerError, nil, ""))
	as.SetAnswerFor("credential", introspectiontest.Respond(http.StatusUnauthorized, nil, ""))
	fhir := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fhir/broken" {
			panic(http.ErrAbortHandler)
		}
	}
	cert, key := newPair(t, "one.test")
	certFile, keyFile := writeFile(t, "cert", cert), writeFile(t, "key", key)
	sc := assemble(t, as, fhir, grantWith("SIDECAR_AUDIT_LOG", "stdout", "SIDECAR_CA_FILE", certFile,
		"SIDECAR_TLS_CERT_FILE", certFile, "SIDECAR_TLS_KEY_FILE", keyFile, "SIDECAR_CLIENT_CERT_FILE", certFile, "SIDECAR_CLIENT_CERT_KEY_FILE", keyFile,
		// Nobody listens there.
		"SIDECAR_SHARED_CACHE_ADDRESSES", "127.0.0.1:1", "SIDECAR_SHARED_CACHE_TLS", "false",
		"SIDECAR_SHARED_CACHE_KEY_FILE", writeFile(t, "key", strings.Repeat("6b", 32)),
		"SIDECAR_JWT_PRECHECK", "true", "SIDECAR_ISSUER_URL", as.URL,
		"SIDECAR_SCOPE_ENFORCEMENT", "report", "SIDECAR_PATIENT_GUARD", "enforce",
		"SIDECAR_TOKEN_ENDPOINT", as.TokenEndpoint(), "SIDECAR_CLIENT_ID", introspectiontest.DefaultClientID,
		"SIDECAR_CLIENT_SECRET_FILE", writeFile(t, "secret", introspectiontest.DefaultClientSecret))...)
	defer sc.share()()
	server := httptest.NewUnstartedServer(nil)
	server.Config = sc.dataServer(100)
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, tt := range []struct {
		method, target, token string
		status                int
	}{
		{"GET", "/fhir/metadata", "", 200},
		{"OPTIONS", "/fhir/Patient", "preflight", 200},
		{"GET", "/fhir/Patient", "good", 200},
		{"GET", "/fhir/Patient", "good", 200},
		{"GET", "/fhir/Patient", "patient", 200},
		{"GET", "/fhir/Patient", "scope", 200},
		{"GET", "/fhir/Patient", "intent", 200},
		{"GET", "/fhir/broken", "good", 502},
		{"GET", "/fhir/Patient", "", 401},
		{"GET", "/fhir/Patient?access_token=a", "good", 400},
		{"GET", "/fhir/Patient", "unknown", 401},
		{"GET", "/fhir/Patient", "unknown", 401},
		{"GET", "/fhir/Patient", "malformed", 503},
		{"GET", "/fhir/Patient", "throttled", 503},
		{"GET", "/fhir/Patient", "unavailable", 503},
		{"GET", "/fhir/Patient", "credential", 503},
		{"GET", "/elsewhere", "good", 404},
		{"GET", "/fhir//Patient", "good", 400},
		{"TRACE", "/fhir/Patient", "good", 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.target, nil)
		if err != nil {
			t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
		}
		switch tt.token {
		case "":
		case "preflight":
			req.Header.Set("Origin", "https://app.example")
			req.Header.Set("Access-Control-Request-Method", "GET")
		default:
			req.Header.Set("Authorization", "Bearer "+tt.token)
			req.Header.Set("X-Launch-Patient", "spoofed")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("client.Do: got error %v, want none", err)
		}
		_ = res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("%s %s with token %q: %d, want %d", tt.method, tt.target, tt.token, res.StatusCode, tt.status)
		}
	}
	sc.admin(http.MethodGet, "/metrics") // asking must not add to what is there
	return sc, parseMetrics(t, sc.admin(http.MethodGet, "/metrics").Body.String())
}

func TestMetrics(t *testing.T) {
	sc, metrics := exercise(t)
	if problems, err := testutil.GatherAndLint(sc.registry); err != nil || len(problems) > 0 {
		t.Errorf("got problems %v (%v), want none", problems, err)
	}
	for name, labels := range metricLabels {
		m := metrics[name]
		if m == nil {
			t.Errorf("got no %s, want it", name)
			continue
		}
		if got := slices.Sorted(maps.Keys(m.labels)); !slices.Equal(got, slices.Sorted(slices.Values(labels))) {
			t.Errorf("%s has labels %v, want %v", name, got, labels)
		}
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		m := metrics[name]
		if metricLabels[name] == nil {
			t.Errorf("got %s, want only what is in the list", name)
		}
		if m.kind == "" || !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: got type %q and help %q, want both, and a sentence", name, m.kind, m.help)
		}
		fmt.Fprintf(&lines, "%s %s", name, m.kind)
		for _, label := range slices.Sorted(maps.Keys(m.labels)) {
			fmt.Fprintf(&lines, " %s=%s", label, m.values(label))
		}
		lines.WriteByte('\n')
	}
	golden(t, filepath.Join("testdata", "metrics.golden"), lines.String())
}

// TestMetricsAtStart: what can be counted is there from the first scrape, so
// that a rate has something to begin with.
func TestMetricsAtStart(t *testing.T) {
	noLeaks(t)
	sc := assemble(t, introspectiontest.NewServer(t), answerOK)
	metrics := parseMetrics(t, sc.admin(http.MethodGet, "/metrics").Body.String())
	for name := range metricLabels {
		switch name {
		case "introspection_sidecar_audit_dropped_total", // only with an audit log
			"introspection_sidecar_scope_reports_total", "introspection_sidecar_patient_guard_total", // only when they are asked for
			"introspection_sidecar_discovery_disagreements_total",                                          // only when discovery runs
			"introspection_sidecar_purge_feed_age_seconds", "introspection_sidecar_shared_cache_connected", // only with a shared cache
			"introspection_sidecar_shared_cache_errors_total", "introspection_sidecar_shared_cache_lookups_total",
			"introspection_sidecar_shared_cache_resets_total", "introspection_sidecar_shared_cache_operation_duration_seconds",
			"introspection_sidecar_certificate_expiry_timestamp_seconds": // only with certificates
			if metrics[name] != nil {
				t.Errorf("got %s already, want it later", name)
			}
		default:
			if metrics[name] == nil {
				t.Errorf("got no %s yet, want it", name)
			}
		}
	}
}
