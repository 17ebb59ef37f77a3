package main

// query is one expression of a panel. In it, S stands for the selector of the
// dashboard's variables, to be followed by a comma and more labels or by a brace.
type query struct{ expr, legend string }

// panel is what the dashboard shows, in the order of its rows.
type panel struct {
	title, description string
	unit               string // Grafana's name of it
	stat               bool   // one number instead of lines
	stacked            bool
	warn, alarm        float64 // thresholds, 0 for none; lower is worse when alarm < warn
	rare               bool    // the live test can't make it happen, and expects zero
	runbook            string  // the alert's name, without IntrospectionSidecar
	queries            []query
}

type row struct {
	title  string
	panels []panel
}

const m = "introspection_sidecar_"

// failures are the decisions that are nobody's fault but the servers'.
const failures = "introspection_unavailable|credential_rejected|upstream_error|internal_error"

// older is the share of the believed verdicts that were older than an edge of the
// histogram's. It isn't interpolated, so it is neither more nor less than the truth.
// Prometheus 3 writes le="5.0" where older ones have what is scraped, le="5".
func older(edge, legend string) query {
	const bucket = m + "cache_hit_age_seconds_bucket"
	return query{"1 - sum(rate(" + bucket + `{S,le=~"` + edge + `([.]0)?"}[$__rate_interval])) / sum(rate(` + bucket + `{S,le="+Inf"}[$__rate_interval]))`, legend}
}

// rows is the dashboard. What burns comes first: whether the pods take requests,
// whether requests fail, and the two things that decide it, cache and credential.
var rows = []row{
	{"Now", []panel{
		{title: "Pods that are ready", description: "Share of the pods whose /readyz is green. The others get no requests.", unit: "percentunit", stat: true, warn: 1, alarm: 0.5, runbook: "NotReady", queries: []query{
			{"avg(" + m + "ready{S})", "all pods"}}},
		{title: "Errors", description: "Share of requests that failed through nobody's fault but the servers': no verdict, own credential refused, FHIR server broken or slow, a bug.", unit: "percentunit", stat: true, warn: 0.001, alarm: 0.01, runbook: "ErrorBudgetBurn", queries: []query{
			{"sum(rate(" + m + `requests_total{S,decision=~"` + failures + `"}[$__rate_interval])) / sum(rate(` + m + "requests_total{S}[$__rate_interval]))", "all pods"}}},
		{title: "Cache hit rate", description: "Share of lookups answered without a call: hits, known inactive tokens, and requests that shared a call under way.", unit: "percentunit", stat: true, warn: 0.9, alarm: 0.5, runbook: "HitRateCollapsed", queries: []query{
			{"sum(rate(" + m + `cache_lookups_total{S,result=~"hit|inactive_hit|coalesced"}[$__rate_interval])) / sum(rate(` + m + "cache_lookups_total{S}[$__rate_interval]))", "all pods"}}},
		{title: "Own credential: least time left", description: "Until the first pod's own token ends. Empty when none has an end. Tokens are renewed at 80% of their life.", unit: "s", stat: true, warn: 60, alarm: 10, runbook: "CredentialExpiring", queries: []query{
			{"min(" + m + "credential_expiry_timestamp_seconds{S} < Inf) - time()", "all pods"}}},
	}},
	{"Refusals", []panel{
		{title: "Requests by decision", description: "What became of the requests. allowed, public and preflight were forwarded.", unit: "reqps", stacked: true, queries: []query{
			{"sum by (decision) (rate(" + m + "requests_total{S}[$__rate_interval]))", "{{decision}}"}}},
		{title: "Refusals by reason", description: "Requests refused for their token, by what was wrong with it. audience, issuer, token_type and required_scope are checks of yours; inactive is the authorization server's word.", unit: "reqps", stacked: true, runbook: "ClientsRefused", queries: []query{
			{"sum by (reason) (rate(" + m + "refusals_total{S}[$__rate_interval])) > 0", "{{reason}}"}}},
		{title: "Verdicts that are inactive", description: "Share of the authorization server's verdicts. A jump is a change of its: an audience that is missing, a clock, a key.", unit: "percentunit", warn: 0.5, alarm: 0.9, runbook: "VerdictsInactive", queries: []query{
			{"sum(rate(" + m + `introspections_total{S,result="inactive"}[$__rate_interval])) / sum(rate(` + m + `introspections_total{S,result=~"active|inactive"}[$__rate_interval]))`, "all pods"}}},
	}},
	{"Scopes and patients", []panel{
		{title: "Would be refused", description: "Requests that were let through and would have been refused, were scopes or the patient guard enforced. Only where they report.", unit: "reqps", stacked: true, rare: true, runbook: "RequestsReported", queries: []query{
			{"sum by (reason) (rate(" + m + "scope_reports_total{S}[$__rate_interval]))", "{{reason}}"}}},
		{title: "Where limited tokens lead", description: "Requests of tokens that are limited to one patient: inside, outside, unknown where the URL doesn't tell, neutral where it concerns no patient. Only with the patient guard.", unit: "reqps", stacked: true, rare: true, queries: []query{
			{"sum by (verdict) (rate(" + m + "patient_guard_total{S}[$__rate_interval]))", "{{verdict}}"}}},
	}},
	{"Authorization server", []panel{
		{title: "Introspection latency", description: "Time of one call to the introspection endpoint.", unit: "s", warn: 0.5, alarm: 1, runbook: "IntrospectionSlow", queries: []query{
			{"histogram_quantile(0.5, sum by (le) (rate(" + m + "introspection_duration_seconds_bucket{S}[$__rate_interval])))", "half"},
			{"histogram_quantile(0.9, sum by (le) (rate(" + m + "introspection_duration_seconds_bucket{S}[$__rate_interval])))", "9 of 10"},
			{"histogram_quantile(0.99, sum by (le) (rate(" + m + "introspection_duration_seconds_bucket{S}[$__rate_interval])))", "99 of 100"}}},
		{title: "Introspections by result", description: "active and inactive are verdicts. All others are none: the client gets 503.", unit: "reqps", stacked: true, runbook: "IntrospectionFailing", queries: []query{
			{"sum by (result) (rate(" + m + "introspections_total{S}[$__rate_interval]))", "{{result}}"}}},
		{title: "Introspections in flight", description: "Calls under way, by pod. At SIDECAR_MAX_INTROSPECTIONS (default 64) requests begin to wait.", unit: "short", warn: 48, alarm: 64, runbook: "PodCutOff", queries: []query{
			{m + "introspections_in_flight{S}", "{{pod}}"}}},
		{title: "Own credential: time left", description: "Until the sidecar's own token ends, by pod. Pods whose credential has no end are not shown. Tokens are renewed at 80% of their life.", unit: "s", warn: 60, alarm: 10, runbook: "CredentialExpiring", queries: []query{
			{"(" + m + "credential_expiry_timestamp_seconds{S} < Inf) - time()", "{{pod}}"}}},
		{title: "Own credential: renewals", description: "Token requests and replaced files, by result.", unit: "ops", runbook: "CredentialRefused", queries: []query{
			{"sum by (result) (rate(" + m + "credential_renewals_total{S}[$__rate_interval]))", "{{result}}"}}},
		{title: "Discovery disagreements", description: "Times that a document named another endpoint than the one in use. Empty unless endpoints are discovered.", unit: "ops", rare: true, queries: []query{
			{"sum by (pod) (rate(" + m + "discovery_disagreements_total{S}[$__rate_interval]))", "{{pod}}"}}},
	}},
	{"Cache", []panel{
		{title: "Hit rate by pod", description: "A pod that was just started begins with an empty cache.", unit: "percentunit", queries: []query{
			{"sum by (pod) (rate(" + m + `cache_lookups_total{S,result=~"hit|inactive_hit|coalesced"}[$__rate_interval])) / sum by (pod) (rate(` + m + "cache_lookups_total{S}[$__rate_interval]))", "{{pod}}"}}},
		{title: "Lookups by result", description: "hit: known and active. miss: asked for the first time. expired: the verdict's time was over. inactive_hit: known and inactive. coalesced: waited for another request's call.", unit: "reqps", stacked: true, queries: []query{
			{"sum by (result) (rate(" + m + "cache_lookups_total{S}[$__rate_interval]))", "{{result}}"}}},
		{title: "Revocation exposure, at most", description: "No believed verdict was older: the upper edge of the histogram's last bucket that was reached. Infinity is more than an hour, the last edge; see the panel beside it. SIDECAR_CACHE_MAX_AGE, where it is set, is the tighter bound.", unit: "s", stat: true, queries: []query{
			{"histogram_quantile(1, sum by (le) (rate(" + m + "cache_hit_age_seconds_bucket{S}[$__rate_interval]))) / scalar(1 - (sum(rate(" + m + `cache_hit_age_seconds_bucket{S,le="+Inf"}[$__rate_interval])) - sum(rate(` + m + `cache_hit_age_seconds_bucket{S,le=~"3600([.]0)?"}[$__rate_interval])) > bool 1e-9))`, "all pods"}}},
		{title: "Believed verdicts by age", description: "Share of the hits whose verdict was older than that: so many requests a revoked token could still have made.", unit: "percentunit", rare: true, queries: []query{
			older("5", "over 5 s"), older("60", "over a minute"), older("600", "over 10 minutes"), older("3600", "over an hour")}},
		{title: "Verdicts kept", description: "Entries in both stores, by pod. Expired ones that weren't removed yet are included.", unit: "short", queries: []query{
			{"sum by (pod, verdict) (" + m + "cache_entries{S})", "{{pod}} {{verdict}}"}}},
		{title: "Evictions", description: "active by capacity is a cache that is too small. expired is the usual end; purged was asked for.", unit: "ops", stacked: true, runbook: "CapacityEvictions", queries: []query{
			{"sum by (verdict, reason) (rate(" + m + "cache_evictions_total{S}[$__rate_interval]))", "{{verdict}} {{reason}}"}}},
	}},
	{"Shared cache", []panel{
		{title: "Shared lookups by result", description: "Of tokens that weren't in memory. hit and inactive: another replica had asked. waited: one was asking. acquired: this one asked for all. error and skipped: without the store. Only with a shared cache.", unit: "reqps", stacked: true, rare: true, queries: []query{
			{"sum by (result) (rate(" + m + "shared_cache_lookups_total{S}[$__rate_interval]))", "{{result}}"}}},
		{title: "Shared cache errors", description: "Failed operations of the store, by reason. auth is the account, memory a full server, readonly one that isn't the master.", unit: "ops", stacked: true, rare: true, runbook: "SharedCacheAway", queries: []query{
			{"sum by (reason) (rate(" + m + "shared_cache_errors_total{S}[$__rate_interval]))", "{{reason}}"}}},
		{title: "Shared cache latency", description: "99 of 100 operations of the store took no longer.", unit: "s", warn: 0.05, alarm: 0.1, rare: true, queries: []query{
			{"histogram_quantile(0.99, sum by (le, operation) (rate(" + m + "shared_cache_operation_duration_seconds_bucket{S}[$__rate_interval])))", "{{operation}}"}}},
		{title: "Store in use", description: "1 while the store responds and the purge feed was read, by pod.", unit: "short", rare: true, runbook: "SharedCacheAway", queries: []query{
			{m + "shared_cache_connected{S}", "{{pod}}"}}},
		{title: "Age of the purge feed", description: "Time since a pod last knew all purges. Two seconds are normal.", unit: "s", warn: 10, alarm: 30, rare: true, runbook: "PurgeFeedOld", queries: []query{
			{m + "purge_feed_age_seconds{S}", "{{pod}}"}}},
		{title: "Not believed", description: "undecryptable: values that no replica wrote. stale: too old, or from before a purge. resets: the store was emptied.", unit: "ops", rare: true, runbook: "SharedCacheUndecryptable", queries: []query{
			{"sum by (result) (rate(" + m + `shared_cache_lookups_total{S,result=~"undecryptable|stale"}[$__rate_interval]))`, "{{result}}"},
			{"sum(rate(" + m + "shared_cache_resets_total{S}[$__rate_interval]))", "resets"}}},
	}},
	{"Requests", []panel{
		{title: "Time to answer, allowed requests", description: "From the request's arrival to the end of the response, the FHIR server included.", unit: "s", queries: []query{
			{"histogram_quantile(0.5, sum by (le) (rate(" + m + `request_duration_seconds_bucket{S,decision="allowed"}[$__rate_interval])))`, "half"},
			{"histogram_quantile(0.99, sum by (le) (rate(" + m + `request_duration_seconds_bucket{S,decision="allowed"}[$__rate_interval])))`, "99 of 100"}}},
		{title: "FHIR server errors", description: "502 and 504: the FHIR server couldn't be reached, broke off or was too slow.", unit: "reqps", warn: 0.1, alarm: 1, runbook: "ErrorBudgetBurnSlow", queries: []query{
			{"sum by (pod) (rate(" + m + `requests_total{S,decision="upstream_error"}[$__rate_interval]))`, "{{pod}}"}}},
		{title: "Status classes", description: "Of all answers, the FHIR server's own included.", unit: "reqps", stacked: true, queries: []query{
			{"sum by (code) (rate(" + m + "requests_total{S}[$__rate_interval]))", "{{code}}"}}},
	}},
	{"Trust", []panel{
		{title: "Spoofed headers removed", description: "Inbound headers that could be read as launch context, under any spelling. Somebody is trying, or a gateway passes them on.", unit: "ops", warn: 0.01, alarm: 1, runbook: "BypassSuspected", queries: []query{
			{"sum by (pod) (rate(" + m + "spoofed_headers_total{S}[$__rate_interval]))", "{{pod}}"}}},
		{title: "Headers left out", description: "Launch context that the token has and the FHIR server didn't get: not valid, too large, or no room. Empty when there was none.", unit: "ops", queries: []query{
			{"sum by (header, reason) (rate(" + m + "omitted_headers_total{S}[$__rate_interval])) > 0", "{{header}} {{reason}}"}}},
		{title: "Ways around the sidecar", description: "1 when the FHIR server's port was reached on an address other than loopback: clients can do that, too. SIDECAR_BYPASS_GUARD tries it.", unit: "short", warn: 0.5, alarm: 1, rare: true, runbook: "BypassOpen", queries: []query{
			{m + "bypass_open{S}", "{{pod}}"}}},
		{title: "Certificates: time left", description: "Until the first one of its use ends in any pod: the listener's, the client's towards the authorization server, the roots in SIDECAR_CA_FILE. Empty without any.", unit: "s", warn: 604800, alarm: 86400, runbook: "CertificateEnding", queries: []query{
			{"min by (use) (" + m + "certificate_expiry_timestamp_seconds{S}) - time()", "{{use}}"}}},
		{title: "Protocol errors", description: "Connections refused before there was a request, by what was wrong with the bytes: a client that is broken, or somebody who looks for a gap. In no other panel.", unit: "ops", stacked: true, runbook: "ProtocolErrors", queries: []query{
			{"sum by (reason) (rate(" + m + "protocol_errors_total{S}[$__rate_interval])) > 0", "{{reason}}"}}},
		{title: "Log lines left out", description: "Refusals of a burst that were only counted. The log says how many.", unit: "ops", rare: true, queries: []query{
			{"sum by (pod) (rate(" + m + "log_lines_suppressed_total{S}[$__rate_interval]))", "{{pod}}"}}},
		{title: "Audit records lost", description: "The sink was too slow or failed. Empty unless the audit log is on.", unit: "ops", warn: 0.01, alarm: 1, rare: true, runbook: "AuditRecordsLost", queries: []query{
			{"sum by (pod) (rate(" + m + "audit_dropped_total{S}[$__rate_interval]))", "{{pod}}"}}},
	}},
	{"Pods", []panel{
		{title: "Ready", description: "1 while /readyz is green: the endpoint is known, the own credential is at hand and wasn't refused, and the pod isn't draining.", unit: "short", runbook: "NotReady", queries: []query{
			{m + "ready{S}", "{{pod}}"}}},
		{title: "Versions", description: "Pods by version. Two lines for long are an update that got stuck. None is nothing that is scraped.", unit: "short", runbook: "Absent", queries: []query{
			{"count by (version) (" + m + "build_info{S})", "{{version}}"}}},
		{title: "Uptime", description: "Since the start of the process; a drop is a restart.", unit: "s", runbook: "Down", queries: []query{
			{"time() - process_start_time_seconds{S}", "{{pod}}"}}},
	}},
	{"Saturation", []panel{
		{title: "CPU", description: "Cores in use, by pod.", unit: "short", queries: []query{
			{"rate(process_cpu_seconds_total{S}[$__rate_interval])", "{{pod}}"}}},
		{title: "Memory", description: "Resident memory, by pod.", unit: "bytes", queries: []query{
			{"process_resident_memory_bytes{S}", "{{pod}}"}}},
		{title: "Goroutines", description: "About two for each client connection. A line that only climbs is a leak.", unit: "short", queries: []query{
			{"go_goroutines{S}", "{{pod}}"}}},
		{title: "File descriptors", description: "In use, as a share of the limit.", unit: "percentunit", warn: 0.7, alarm: 0.9, queries: []query{
			{"process_open_fds{S} / process_max_fds{S}", "{{pod}}"}}},
	}},
}

// colours are those of the words in a legend, the same in every panel: what is well
// is green or blue, the clients' faults are yellow, the servers' red or orange.
var colours = map[string]map[string]string{
	"{{result}}": {
		"hit": "green", "coalesced": "dark-green", "inactive_hit": "blue", "miss": "orange", "expired": "yellow",
		"active": "green", "inactive": "blue", "malformed": "purple", "throttled": "orange", "unavailable": "red", "credential_rejected": "dark-red",
		"ok": "green", "failed": "red",
		"waited": "dark-green", "acquired": "dark-orange", "stale": "dark-yellow", "undecryptable": "dark-purple", "error": "dark-red", "skipped": "light-red",
	},
	"{{decision}}": {
		"allowed": "green", "public": "light-green", "preflight": "dark-green", "client_closed": "light-blue",
		"no_token": "light-yellow", "invalid_token": "yellow", "insufficient_scope": "dark-yellow", "invalid_request": "blue",
		"not_found": "light-purple", "bad_path": "purple", "method_not_allowed": "dark-purple",
		"introspection_unavailable": "red", "credential_rejected": "dark-red", "upstream_error": "orange", "internal_error": "dark-orange",
	},
	"{{reason}}": {
		"no_token": "light-yellow", "malformed": "light-blue", "too_long": "light-purple", "forged": "purple", "assertion": "dark-purple",
		"inactive": "yellow", "expired": "dark-yellow", "not_yet": "light-green", "kind": "blue", "bound": "dark-blue", "token_type": "light-orange",
		"audience": "red", "issuer": "dark-red", "required_scope": "orange", "interaction": "dark-orange", "operation": "light-red",
		"patient_context": "green", "patient": "dark-green", "tenant": "super-light-purple",
		"auth": "purple", "connection": "red", "memory": "orange", "readonly": "yellow", "timeout": "dark-orange", "other": "blue",
		"field": "light-blue", "framing": "dark-red", "host": "light-purple", "line_end": "light-green", "tls_handshake": "dark-blue",
		"too_large": "dark-yellow", "transfer_encoding": "light-orange", "version": "green",
	},
	"{{verdict}}": {"inside": "green", "outside": "red", "unknown": "orange", "neutral": "blue"},
	"{{code}}":    {"1xx": "light-blue", "2xx": "green", "3xx": "blue", "4xx": "yellow", "5xx": "red"},
	"{{verdict}} {{reason}}": {
		"active capacity": "red", "active expired": "green", "active purged": "purple",
		"inactive capacity": "orange", "inactive expired": "blue", "inactive purged": "light-purple",
	},
	"over 5 s": {"over 5 s": "green"}, "over a minute": {"over a minute": "yellow"}, "over 10 minutes": {"over 10 minutes": "orange"}, "over an hour": {"over an hour": "red"},
	"half": {"half": "green"}, "9 of 10": {"9 of 10": "yellow"}, "99 of 100": {"99 of 100": "orange"},
}
