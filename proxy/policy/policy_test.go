package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// decode reads an introspection response with all its claims.
func decode(tb testing.TB, body string) *introspection.Response {
	tb.Helper()
	claims := introspection.NewClaimSet(introspection.Patient, introspection.Audience, introspection.Issuer,
		introspection.Scope, introspection.TokenType)
	response, err := introspectiontest.Decode([]byte(body), claims, time.Unix(0, 0))
	if err != nil {
		tb.Fatalf("decoding %s: got %v, want no error", body, err)
	}
	return response
}

func TestPolicy(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	tests := []struct {
		name   string
		policy Policy
		answer string // members after active
		want   Reason
	}{
		{"nothing asked, nothing told", Policy{}, ``, ""},

		{"refresh token", Policy{}, `,"token_type":"refresh_token"`, Kind},
		{"id token", Policy{}, `,"token_use":"id"`, Kind},
		{"bound token", Policy{}, `,"cnf":{"jkt":"x"}`, Bound},
		{"dpop token", Policy{}, `,"token_type":"DPoP"`, Bound},

		{"type, any case", Policy{TokenTypes: []string{"Bearer"}}, `,"token_type":"bEARER"`, ""},
		{"type, second", Policy{TokenTypes: []string{"JWT", "Bearer"}}, `,"token_type":"Bearer"`, ""},
		{"type, other", Policy{TokenTypes: []string{"Bearer"}}, `,"token_type":"access_token"`, TokenType},
		{"type, absent", Policy{TokenTypes: []string{"Bearer"}}, ``, TokenType},

		{"exp ahead", Policy{}, `,"exp":1000001`, ""},
		{"exp now", Policy{}, `,"exp":1000000`, Expired},
		{"exp gets no leeway", Policy{ClockSkew: time.Hour}, `,"exp":999999`, Expired},
		{"exp long past", Policy{}, `,"exp":1`, Expired},
		{"nbf now", Policy{}, `,"nbf":1000000`, ""},
		{"nbf within leeway", Policy{ClockSkew: 5 * time.Second}, `,"nbf":1000005`, ""},
		{"nbf beyond leeway", Policy{ClockSkew: 5 * time.Second}, `,"nbf":1000006`, NotYet},
		{"iat within leeway", Policy{ClockSkew: 5 * time.Second}, `,"iat":1000005`, ""},
		{"iat beyond leeway", Policy{ClockSkew: 5 * time.Second}, `,"iat":1000006`, NotYet},

		{"audience", Policy{Audiences: []string{"a", "b"}}, `,"aud":"b"`, ""},
		{"audience of many", Policy{Audiences: []string{"b"}}, `,"aud":["a","b"]`, ""},
		{"audience, exact", Policy{Audiences: []string{"https://f/"}}, `,"aud":"https://f"`, Audience},
		{"audience, case", Policy{Audiences: []string{"a"}}, `,"aud":"A"`, Audience},
		{"audience, part", Policy{Audiences: []string{"a"}}, `,"aud":"a b"`, Audience},
		{"audience, absent", Policy{Audiences: []string{"a"}}, ``, Audience},
		{"audience, empty", Policy{Audiences: []string{"a"}}, `,"aud":[]`, Audience},

		{"issuer", Policy{Issuers: []string{"i", "j"}}, `,"iss":"j"`, ""},
		{"issuer, exact", Policy{Issuers: []string{"i"}}, `,"iss":"i/"`, Issuer},
		{"issuer, absent", Policy{Issuers: []string{"i"}}, ``, Issuer},

		{"scopes", Policy{Scopes: []string{"a", "b"}}, `,"scope":"b c a"`, ""},
		{"scopes as array", Policy{Scopes: []string{"a", "b"}}, `,"scope":["a","b"]`, ""},
		{"scopes, one lacking", Policy{Scopes: []string{"a", "b"}}, `,"scope":"a c"`, RequiredScope},
		{"scopes, prefix", Policy{Scopes: []string{"a"}}, `,"scope":"ab"`, RequiredScope},
		{"scopes, case", Policy{Scopes: []string{"a"}}, `,"scope":"A"`, RequiredScope},
		{"scopes, absent", Policy{Scopes: []string{"a"}}, ``, RequiredScope},

		{"patient scope, patient", Policy{}, `,"scope":"patient/*.rs","patient":"Patient/1"`, ""},
		{"patient scope, no patient", Policy{}, `,"scope":"patient/*.rs"`, PatientContext},
		{"patient scope, no patient, ignored", Policy{IgnorePatientContext: true}, `,"scope":"patient/*.rs"`, ""},
		{"patient scope, lost patient, ignored", Policy{IgnorePatientContext: true}, `,"scope":"patient/*.rs","patient":"Practitioner/1"`, ""},
		{"patient and user scope, no patient", Policy{}, `,"scope":"patient/*.rs user/Patient.r"`, ""},
		{"patient and user scope, lost patient", Policy{}, `,"scope":"patient/*.rs user/Patient.r","patient":"Practitioner/1"`, PatientContext},
		{"patient scope, lost patient", Policy{}, `,"scope":"launch patient/*.rs","patient":"Practitioner/1"`, PatientContext},
		{"user scope, lost patient", Policy{}, `,"scope":"user/*.rs","patient":"Practitioner/1"`, ""},

		{"token faults come before scope", Policy{Scopes: []string{"a"}, Issuers: []string{"i"}}, ``, Issuer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			response := decode(t, `{"active":true`+tt.answer+`}`)
			if got := tt.policy.Check(response, now); got != tt.want {
				t.Errorf("Check(%s): got %q, want %q", tt.answer, got, tt.want)
			}
			// What an operator is shown is what happens to a request.
			results := tt.policy.Results(response, now)
			first := slices.IndexFunc(results, func(r Result) bool { return !r.Passed })
			if got := first >= 0 && results[first].Reason == tt.want; got != (tt.want != "") {
				t.Errorf("Results(%s): got %+v, want %q to fail first", tt.answer, results, tt.want)
			}
		})
	}
}

// TestDetails: a result says what the rule looked at.
func TestDetails(t *testing.T) {
	strict := &Policy{
		Audiences: []string{"fhir-server"}, Issuers: []string{"https://as.test/"}, Scopes: []string{"system/Task.rs"},
		TokenTypes: []string{"Bearer"}, ClockSkew: 5 * time.Second,
	}
	const now = 1_800_000_000
	for _, tt := range []struct {
		members string
		fails   Reason
		want    string
	}{
		{`"token_type":"mac"`, TokenType, "token_type mac"},
		{`"token_use":"refresh"`, Kind, "an access token"},
		{`"cnf":{"jkt":"x"}`, Bound, "a bearer token, not bound to its sender"},
		{`"exp":1800000000`, Expired, "expires in 0s"},
		{`"nbf":1800000006`, NotYet, "nbf and iat have passed"},
		{`"aud":["other","one more"]`, Audience, "aud other one more"},
		{`"scope":"x"`, Audience, "no aud"},
		{`"iss":"https://as.test"`, Issuer, "iss https://as.test"},
		{`"scope":"system/Task.r"`, RequiredScope, "scope system/Task.r"},
		{`"scope":"patient/Task.r","patient":"not an id"`, PatientContext, "the patient that patient/ scopes are limited to"},
	} {
		results := strict.Results(decode(t, `{"active":true,`+tt.members+`}`), time.Unix(now, 0))
		i := slices.IndexFunc(results, func(r Result) bool { return r.Reason == tt.fails })
		if results[i].Passed || results[i].Detail != tt.want {
			t.Errorf("%s: got %+v, want it to fail with %q", tt.members, results[i], tt.want)
		}
	}
}

func TestExpiryDetail(t *testing.T) {
	for body, want := range map[string]string{
		`{"active":true}`:                    "no exp",
		`{"active":true,"exp":1800000090}`:   "expires in 1m30s",
		`{"active":true,"exp":1800000000.9}`: "expires in 0s",
		`{"active":true,"exp":1}`:            "expires in 0s",
		`{"active":true,"exp":9e15}`:         (time.Duration(1<<31) * time.Second).String(),
	} {
		if got := expiry(decode(t, body), time.Unix(1_800_000_000, 0)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}

// TestReasonsAreDistinct: each rule has a label value of its own.
func TestReasonsAreDistinct(t *testing.T) {
	seen := map[Reason]bool{}
	for _, rule := range rules {
		if seen[rule.reason] || rule.reason == "" {
			t.Errorf("got reason %q again, want one for each rule", rule.reason)
		}
		seen[rule.reason] = true
	}
}

func ExamplePolicy_Check() {
	p := Policy{Issuers: []string{"https://as.example.org/"}}
	r, _ := introspectiontest.Decode([]byte(`{"active":true,"iss":"https://evil.example.org/"}`),
		introspection.NewClaimSet(introspection.Issuer), time.Now())
	fmt.Println(p.Check(r, time.Now()))
	// Output: issuer
}
