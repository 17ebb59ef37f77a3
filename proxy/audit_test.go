package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// auditTime is when everything happens in the tests of records.
var auditTime = time.Date(2026, 11, 23, 12, 0, 0, 987654321, time.FixedZone("CET", 3600))

// recorded makes a stack whose records come out of the channel.
func recorded(t *testing.T, options ...func(*Config)) (*stack, <-chan AuditRecord) {
	t.Helper()
	records := make(chan AuditRecord, 1000)
	s := newStack(t, append([]func(*Config){func(c *Config) {
		c.Now = func() time.Time { return auditTime }
		c.Audit = func(r AuditRecord) { records <- r }
	}}, options...)...)
	return s, records
}

// one returns the record of the request that was just done.
func one(t *testing.T, records <-chan AuditRecord) AuditRecord {
	t.Helper()
	if len(records) != 1 {
		t.Fatalf("got %d records of one request, want 1", len(records))
	}
	return <-records
}

// asSeed is the record of a request with the seed's token, as far as it is
// about who asks.
func asSeed(r AuditRecord) AuditRecord {
	r.ClientID, r.Subject, r.Issuer = "l238j323ds-23ij4", "Z5O3upPC88QrAjx00dis", "https://Koppeltaal.Authorization.nl/"
	r.User, r.Patient, r.TokenRef, r.Verdict = "Practitioner/123", "123", "0badcafe", "hit"
	return r
}

// TestAuditRecord compares whole records: what is there, and that nothing else is.
func TestAuditRecord(t *testing.T) {
	with := func(p policy.Policy) func(*Config) { return func(c *Config) { c.Policy = p } }
	for _, tt := range []struct {
		name, raw string
		option    func(*Config)
		want      AuditRecord
	}{
		{
			"read", get("/fhir/Patient/p1?_summary=true", bearerTOK), nil,
			asSeed(AuditRecord{Decision: "allowed", Status: 200, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"}),
		},
		{
			"search in a compartment", get("/fhir/Patient/p1/Task", bearerTOK), nil,
			asSeed(AuditRecord{Decision: "allowed", Status: 200, Method: "GET", Interaction: "search-type", Type: "Task", Resource: "Patient/p1"}),
		},
		{
			"search by POST", message("POST", "/fhir/Task/_search", "patient=p1", bearerTOK), nil,
			asSeed(AuditRecord{Decision: "allowed", Status: 200, Method: "POST", Interaction: "search-type", Type: "Task"}),
		},
		{
			"unknown interaction", get("/fhir/what/ever", bearerTOK), nil,
			asSeed(AuditRecord{Decision: "allowed", Status: 200, Method: "GET", Interaction: "unknown"}),
		},

		// Active tokens that are refused all the same say who tried.
		{
			"wrong audience", get("/fhir/Patient/p1", bearerTOK), with(policy.Policy{Audiences: []string{"other"}}),
			asSeed(AuditRecord{Decision: "invalid_token", Reason: "audience", Status: 401, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"}),
		},
		{
			"wrong issuer", get("/fhir/Patient/p1", bearerTOK), with(policy.Policy{Issuers: []string{"other"}}),
			asSeed(AuditRecord{Decision: "invalid_token", Reason: "issuer", Status: 401, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"}),
		},
		{
			"wrong kind", get("/fhir/Patient/p1", bearerTOK), with(policy.Policy{TokenTypes: []string{"Bearer"}}),
			asSeed(AuditRecord{Decision: "invalid_token", Reason: "token_type", Status: 401, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"}),
		},
		{
			"scope", message("DELETE", "/fhir/Patient/p1", "", bearerTOK), with(policy.Policy{Scopes: []string{"other"}}),
			asSeed(AuditRecord{Decision: "insufficient_scope", Reason: "required_scope", Status: 403, Method: "DELETE", Interaction: "delete", Type: "Patient", Resource: "Patient/p1"}),
		},

		// Without a verdict nobody is named.
		{
			"inactive", get("/fhir/Patient/p1", "Authorization: Bearer other"), nil,
			AuditRecord{Decision: "invalid_token", Reason: "inactive", Status: 401, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1", TokenRef: "0badcafe", Verdict: "hit"},
		},
		{
			"no token", get("/fhir/Patient/p1"), nil,
			AuditRecord{Decision: "no_token", Reason: "no_token", Status: 401, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"},
		},
		{
			"two tokens", get("/fhir/Patient/p1", bearerTOK, bearerTOK), nil,
			AuditRecord{Decision: "invalid_request", Reason: "malformed", Status: 400, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"},
		},
		{
			"token too long", get("/fhir/Patient/p1", bearerTOK+strings.Repeat("x", 64)), nil,
			AuditRecord{Decision: "invalid_token", Reason: "too_long", Status: 401, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1"},
		},
		{
			"public", get("/fhir/metadata", bearerTOK), nil,
			AuditRecord{Decision: "public", Status: 200, Method: "GET", Interaction: "capabilities"},
		},
		{
			"outside", get("/Patient/p1", bearerTOK), nil,
			AuditRecord{Decision: "not_found", Status: 404, Method: "GET", Interaction: "unknown"},
		},
		{
			"path", get("/fhir/Patient/../Task", bearerTOK), nil,
			AuditRecord{Decision: "bad_path", Status: 400, Method: "GET", Interaction: "unknown"},
		},
		{
			"method", message("BREW", "/fhir/Patient/p1", "", bearerTOK), nil,
			AuditRecord{Decision: "method_not_allowed", Status: 405, Method: "other", Interaction: "unknown"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			option := tt.option
			if option == nil {
				option = func(*Config) {}
			}
			s, records := recorded(t, option)
			const ids = "X-Request-Id: req-1\r\nX-Correlation-Id: cor-1\r\nX-Trace-Id: tra-1\r\nX-Forwarded-For: 192.0.2.1\r\n"
			s.do(strings.Replace(tt.raw, "\r\n", "\r\n"+ids, 1))
			want := tt.want
			want.Time, want.Peer = auditTime.UTC(), "127.0.0.1"
			want.RequestID, want.CorrelationID, want.TraceID = "req-1", "cor-1", "tra-1"
			if got := one(t, records); got != want {
				t.Errorf("record\n%+v, want\n%+v", got, want)
			}
		})
	}
}

// TestAuditTrustedPeer: whom a proxy claims to speak for is no evidence.
func TestAuditTrustedPeer(t *testing.T) {
	s, records := recorded(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	s.do(get("/fhir/Patient", bearerTOK, "X-Forwarded-For: 192.0.2.1"))
	if r := one(t, records); r.Peer != "127.0.0.1" {
		t.Errorf("got peer %q, want 127.0.0.1", r.Peer)
	}
}

// TestAuditNames finds the claims under their other names too.
func TestAuditNames(t *testing.T) {
	s, records := recorded(t)
	s.verdicts.answers["TOK"] = decode(t, `{"active":true,"azp":"portal","fhirUser":"Patient/9","user":"Practitioner/1","patient":"Patient/9"}`)
	s.do(get("/fhir/Patient", bearerTOK))
	r := one(t, records)
	if r.ClientID != "portal" || r.User != "Patient/9" || r.Patient != "9" || r.Subject != "" || r.Issuer != "" {
		t.Errorf("got record %+v, want the names of the token", r)
	}
}

// TestAuditVerdict: where a verdict came from, and how old it was.
func TestAuditVerdict(t *testing.T) {
	s, records := recorded(t)
	s.do(get("/fhir/Patient", bearerTOK))
	if r := one(t, records); r.Verdict != "hit" || r.VerdictAge != 0 {
		t.Errorf("got record %+v, want a hit without an age", r)
	}
	aged, records := recorded(t, func(c *Config) {
		c.Introspector = verdictFunc(func(introspection.Request) (introspection.Verdict, error) {
			return introspection.Verdict{Response: seed(t), Lookup: "coalesced", Age: 90500 * time.Millisecond}, nil
		})
	})
	aged.do(get("/fhir/Patient", bearerTOK))
	if r := one(t, records); r.Verdict != "coalesced" || r.VerdictAge != 90.5 {
		t.Errorf("got record %+v, want coalesced and 90.5 s", r)
	}
}

// TestAuditIDs: the record has the request id that the FHIR server got, made or
// kept, and none that could be something else.
func TestAuditIDs(t *testing.T) {
	s, records := recorded(t)
	for _, id := range []string{"", "X-Request-Id: " + strings.Repeat("x", 129), "X-Request-Id: a b", `X-Request-Id: {"a":1}`} {
		fields := []string{bearerTOK}
		if id != "" {
			fields = append(fields, id)
		}
		s.do(get("/fhir/Patient", fields...))
		r, got := one(t, records), s.upstream.got().one(t, "X-Request-Id")
		if r.RequestID != got || len(got) != 36 {
			t.Errorf("%q: got id %q recorded and %q sent, want the same UUID", id, r.RequestID, got)
		}
	}
}

// TestAuditBrokenAnswer: a response that breaks off in the middle is one record
// too, with the status that the client saw.
func TestAuditBrokenAnswer(t *testing.T) {
	s, records := recorded(t)
	s.upstream.answer = func(conn net.Conn, _ *received) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
		return false
	}
	if a := s.do(get("/fhir/Patient/p1", bearerTOK)); a.err == nil {
		t.Error("got a whole response, want one that was cut off")
	}
	if r := one(t, records); r != asSeed(AuditRecord{
		Time: auditTime.UTC(), Decision: "upstream_error", Status: 200, Method: "GET", Interaction: "read", Type: "Patient", Resource: "Patient/p1",
		Peer: "127.0.0.1", RequestID: r.RequestID,
	}) {
		t.Errorf("got record %+v, want the response that broke off", r)
	}
}

// TestAuditEveryDecision finds one record for every way in which a request can
// end. A canary in every place of the request is in none but where a claim says so.
func TestAuditEveryDecision(t *testing.T) {
	for i, tt := range scenarios() {
		t.Run(fmt.Sprintf("%s-%d", tt.decision.label, i), func(t *testing.T) {
			s, records := recorded(t)
			tt.prepare(s)
			fields := "Cookie: CANARY\r\nUser-Agent: CANARY\r\nX-Launch-Patient: CANARY\r\nX-Forwarded-For: CANARY\r\nX-Request-Id: <CANARY>\r\n"
			raw := strings.Replace(tt.raw, "\r\n", "\r\n"+fields, 1)
			if tt.abrupt {
				s.leave(raw)
			} else {
				s.do(raw)
			}
			r := one(t, records)
			if r.Decision != tt.decision.label || r.Status != tt.status {
				t.Errorf("%s %d, want %s %d", r.Decision, r.Status, tt.decision.label, tt.status)
			}
			if active := s.verdicts.answers[canary] != nil && len(s.verdicts.asked()) > 0; (r.Patient != "") != (active && r.Decision != "insufficient_scope") ||
				(r.TokenRef != "") != (len(s.verdicts.asked()) > 0) {
				t.Errorf("got patient %q and token %q, want them only with a verdict", r.Patient, r.TokenRef)
			}
			r.Subject, r.User, r.Patient, r.Resource = "", "", "", ""
			if text, err := json.Marshal(r); err != nil || strings.Contains(string(text), canary) {
				t.Errorf("got record %s (%v), want nothing of the request", text, err)
			}
		})
	}
}

// TestAuditParallel: as many records as requests, each with its own id.
func TestAuditParallel(t *testing.T) {
	s, records := recorded(t)
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		c := s.dial()
		wg.Go(func() {
			_, _ = io.WriteString(c.Conn, get("/fhir/Patient", bearerTOK, fmt.Sprintf("X-Request-Id: id-%d", i), "Connection: close"))
			_, _ = io.Copy(io.Discard, c.r)
		})
	}
	wg.Wait()
	s.wait(n)
	seen := map[string]bool{}
	for range n {
		seen[(<-records).RequestID] = true
	}
	if len(seen) != n || len(records) != 0 {
		t.Errorf("got %d ids in %d records and %d left, want one record a request", len(seen), n, len(records))
	}
}
