package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExplain: an explanation says of each check what a request would find.
func TestExplain(t *testing.T) {
	strict := Policy{
		Audiences: []string{"fhir-server"}, Issuers: []string{"https://as.test/"}, Scopes: []string{"system/Task.rs"},
		TokenTypes: []string{"Bearer"}, ClockSkew: 5 * time.Second,
	}
	now := auditTime.Unix()
	claims := func(change string) string {
		members := map[string]string{
			"aud": `"fhir-server"`, "iss": `"https://as.test/"`, "scope": `"system/Task.rs"`, "token_type": `"bearer"`,
			"exp": fmt.Sprint(now + 60),
		}
		name, value, _ := strings.Cut(change, "=")
		members[name] = value
		body := `{"active":true`
		for name, value := range members {
			if value != "" {
				body += fmt.Sprintf(",%q:%s", name, value)
			}
		}
		return body + "}"
	}
	for _, tt := range []struct {
		name, change string
		policy       Policy
		fails        string
		detail       string // of what fails
	}{
		{"all is well", "", strict, "", ""},
		{"nothing is asked", "", Policy{}, "", ""},
		{"no exp", "exp=", strict, "", ""},
		{"kind", `token_type="mac"`, strict, "kind", "a bearer access token"},
		{"refresh token", `token_use="refresh"`, Policy{}, "kind", "a bearer access token"},
		{"expired", fmt.Sprintf("exp=%d", now), strict, "time", "expires in 0s"},
		{"not yet", fmt.Sprintf("nbf=%d", now+6), strict, "time", "expires in 1m0s"},
		{"audience", `aud=["other","one more"]`, strict, "audience", `aud ["other","one more"]`},
		{"no audience", `aud=`, strict, "audience", "aud []"},
		{"issuer", `iss="https://as.test"`, strict, "issuer", "iss https://as.test"},
		{"scope", `scope="system/Task.r"`, strict, "scope", "scope system/Task.r"},
		{"patient", `patient="not an id"`, Policy{}, "", ""},
		{"patient is the limit", `scope="patient/Task.r","patient":"not an id"`, Policy{}, "patient", "limited to a patient that is no FHIR id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStack(t, func(c *Config) {
				c.Policy, c.Now = tt.policy, func() time.Time { return auditTime }
			})
			response := decode(t, claims(tt.change))
			refused := ""
			var checks []string
			for _, e := range s.proxy.Explain(response) {
				checks = append(checks, e.Check)
				if !e.Passed {
					refused += e.Check
					if e.Detail != tt.detail {
						t.Errorf("detail %q, want %q", e.Detail, tt.detail)
					}
				}
				if !strings.HasPrefix(e.Setting, "SIDECAR_") && e.Check != "patient" {
					t.Errorf("%s names no setting: %q", e.Check, e.Setting)
				}
			}
			if want := []string{"kind", "time", "audience", "issuer", "scope"}; !slices.Equal(checks[:5], want) {
				t.Errorf("checks %q", checks)
			}
			if refused != tt.fails {
				t.Errorf("fails %q, want %q", refused, tt.fails)
			}
			// What is explained is what happens.
			s.verdicts.answers["TOK"] = response
			if a := s.do(get("/fhir/Patient", bearerTOK)); (a.StatusCode == http.StatusOK) != (refused == "") {
				t.Errorf("explained %q, but the request got %d", refused, a.StatusCode)
			}
		})
	}
}

func TestExplainExpiry(t *testing.T) {
	for body, want := range map[string]string{
		`{"active":true}`:                    "no exp",
		`{"active":true,"exp":1800000090}`:   "expires in 1m30s",
		`{"active":true,"exp":1800000000.9}`: "expires in 0s",
		`{"active":true,"exp":1}`:            "expires in 0s",
		`{"active":true,"exp":9e15}`:         (time.Duration(1<<31) * time.Second).String(),
	} {
		if got := expiryDetail(decode(t, body), time.Unix(1_800_000_000, 0)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
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
			t.Errorf("%s: shown %q, sent %q", name, shown.Get(name), field[1])
		}
	}
	if len(shown) != len(seedHeaders) {
		t.Errorf("%d headers shown: %v", len(shown), shown)
	}
	for name, value := range seedHeaders {
		if shown.Get(name) != value {
			t.Errorf("%s: shown %q, want %q", name, shown.Get(name), value)
		}
	}
}
