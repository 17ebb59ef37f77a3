package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// M10: a request that has been here before is refused, with or without a token,
// and nothing that a client sends refuses another's or hides that it came back.
func TestLoop(t *testing.T) {
	s := newStack(t)
	s.do(get("/fhir/Patient", bearerTOK))
	own := s.upstream.got().one(t, hopHeader)
	if own != string(s.proxy.router.hop) || len(own) < 40 {
		t.Fatalf("forwarded as %q, want a random name", own)
	}
	other := string(newHop())
	if other == own {
		t.Error("got one name for two processes, want two")
	}
	for _, tt := range []struct {
		name   string
		fields []string
		hops   string // what the FHIR server gets; "" for nothing
	}{
		{"another sidecar", []string{"CDN-Loop: " + other}, other + ", " + own},
		{"two lines", []string{"CDN-Loop: a.example", "cdn-loop: b; x=1"}, "a.example, b; x=1, " + own},
		{"nominated by the client", []string{"Connection: cdn-loop", "CDN-Loop: " + other}, other + ", " + own},
		{"without a number", []string{"CDN-Loop: fhir-introspection-sidecar"}, "fhir-introspection-sidecar, " + own},
		{"came back", []string{"CDN-Loop: " + own}, ""},
		{"came back by another sidecar", []string{"CDN-Loop: a, " + own + ", " + other}, ""},
		{"came back, two lines", []string{"CDN-Loop: " + other, "CDN-Loop: " + own}, ""},
		{"came back, nominated", []string{"Connection: cdn-loop", "CDN-Loop: " + own}, ""},
	} {
		for _, token := range []string{bearerTOK, ""} {
			target := "/fhir/Patient"
			if token == "" {
				token, target = "X-Other: x", "/fhir/metadata"
			}
			calls := len(s.verdicts.calls)
			a := s.do(get(target, append([]string{token}, tt.fields...)...))
			if tt.hops != "" {
				if got := s.upstream.got().one(t, hopHeader); a.StatusCode != http.StatusOK || got != tt.hops {
					t.Errorf("%s: got %d, forwarded as %q, want 200 and %q", tt.name, a.StatusCode, got, tt.hops)
				}
				continue
			}
			s.upstream.untouched()
			if a.StatusCode != http.StatusLoopDetected || len(s.verdicts.calls) != calls {
				t.Errorf("%s: got %d after %d calls, want 508 and none", tt.name, a.StatusCode, len(s.verdicts.calls)-calls)
			}
		}
	}
	if n := strings.Count(s.log.String(), errLoop.Error()); n != 8 {
		t.Errorf("got %d log lines, want 8:\n%s", n, s.log)
	}
}
