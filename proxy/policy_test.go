package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestPolicyEveryRequest finds that time goes on for a verdict that was made
// once (F10): the Introspector always gives the same Response.
func TestPolicyEveryRequest(t *testing.T) {
	now := time.Unix(farExp-1, 0)
	s := newStack(t, func(c *Config) { c.Now = func() time.Time { return now } })
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 200 {
		t.Errorf("a second before exp: got %d, want 200", a.StatusCode)
	}
	now = now.Add(time.Second)
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 401 {
		t.Errorf("at exp: got %d, want 401", a.StatusCode)
	}
}

// TestContextFor: the headers shown are those that the FHIR server gets.
func TestContextFor(t *testing.T) {
	s := newStack(t)
	shown := s.proxy.ContextFor(seed(t))
	s.do(get("/fhir/Patient", bearerTOK))
	got := s.upstream.got()
	for _, field := range got.fields {
		if name := http.CanonicalHeaderKey(field[0]); strings.HasPrefix(name, "X-Launch-") && shown.Get(name) != field[1] {
			t.Errorf("%s: shown %q, want %q as sent", name, shown.Get(name), field[1])
		}
	}
	if len(shown) != len(seedHeaders) {
		t.Errorf("got %d headers, want %d: %v", len(shown), len(seedHeaders), shown)
	}
	for name, value := range seedHeaders {
		if shown.Get(name) != value {
			t.Errorf("%s: shown %q, want %q", name, shown.Get(name), value)
		}
	}
}
