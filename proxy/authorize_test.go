package proxy

import (
	"testing"
	"time"
)

func TestPolicy(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	tests := []struct {
		name   string
		policy Policy
		answer string // members after active
		want   *refusal
	}{
		{"nothing asked, nothing told", Policy{}, ``, nil},

		{"refresh token", Policy{}, `,"token_type":"refresh_token"`, &refuseToken},
		{"id token", Policy{}, `,"token_use":"id"`, &refuseToken},
		{"bound token", Policy{}, `,"cnf":{"jkt":"x"}`, &refuseToken},
		{"dpop token", Policy{}, `,"token_type":"DPoP"`, &refuseToken},

		{"type, any case", Policy{TokenTypes: []string{"Bearer"}}, `,"token_type":"bEARER"`, nil},
		{"type, second", Policy{TokenTypes: []string{"JWT", "Bearer"}}, `,"token_type":"Bearer"`, nil},
		{"type, other", Policy{TokenTypes: []string{"Bearer"}}, `,"token_type":"MAC"`, &refuseToken},
		{"type, absent", Policy{TokenTypes: []string{"Bearer"}}, ``, &refuseToken},

		{"exp ahead", Policy{}, `,"exp":1000001`, nil},
		{"exp now", Policy{}, `,"exp":1000000`, &refuseToken},
		{"exp gets no leeway", Policy{ClockSkew: time.Hour}, `,"exp":999999`, &refuseToken},
		{"exp long past", Policy{}, `,"exp":1`, &refuseToken},
		{"nbf now", Policy{}, `,"nbf":1000000`, nil},
		{"nbf within leeway", Policy{ClockSkew: 5 * time.Second}, `,"nbf":1000005`, nil},
		{"nbf beyond leeway", Policy{ClockSkew: 5 * time.Second}, `,"nbf":1000006`, &refuseToken},
		{"iat within leeway", Policy{ClockSkew: 5 * time.Second}, `,"iat":1000005`, nil},
		{"iat beyond leeway", Policy{ClockSkew: 5 * time.Second}, `,"iat":1000006`, &refuseToken},

		{"audience", Policy{Audiences: []string{"a", "b"}}, `,"aud":"b"`, nil},
		{"audience of many", Policy{Audiences: []string{"b"}}, `,"aud":["a","b"]`, nil},
		{"audience, exact", Policy{Audiences: []string{"https://f/"}}, `,"aud":"https://f"`, &refuseToken},
		{"audience, case", Policy{Audiences: []string{"a"}}, `,"aud":"A"`, &refuseToken},
		{"audience, part", Policy{Audiences: []string{"a"}}, `,"aud":"a b"`, &refuseToken},
		{"audience, absent", Policy{Audiences: []string{"a"}}, ``, &refuseToken},
		{"audience, empty", Policy{Audiences: []string{"a"}}, `,"aud":[]`, &refuseToken},

		{"issuer", Policy{Issuers: []string{"i", "j"}}, `,"iss":"j"`, nil},
		{"issuer, exact", Policy{Issuers: []string{"i"}}, `,"iss":"i/"`, &refuseToken},
		{"issuer, absent", Policy{Issuers: []string{"i"}}, ``, &refuseToken},

		{"scopes", Policy{Scopes: []string{"a", "b"}}, `,"scope":"b c a"`, nil},
		{"scopes as array", Policy{Scopes: []string{"a", "b"}}, `,"scope":["a","b"]`, nil},
		{"scopes, one lacking", Policy{Scopes: []string{"a", "b"}}, `,"scope":"a c"`, &refuseScope},
		{"scopes, prefix", Policy{Scopes: []string{"a"}}, `,"scope":"ab"`, &refuseScope},
		{"scopes, case", Policy{Scopes: []string{"a"}}, `,"scope":"A"`, &refuseScope},
		{"scopes, absent", Policy{Scopes: []string{"a"}}, ``, &refuseScope},

		{"patient scope, patient", Policy{}, `,"scope":"patient/*.rs","patient":"Patient/1"`, nil},
		{"patient scope, no patient", Policy{}, `,"scope":"patient/*.rs"`, nil},
		{"patient scope, lost patient", Policy{}, `,"scope":"launch patient/*.rs","patient":"Practitioner/1"`, &refuseScope},
		{"user scope, lost patient", Policy{}, `,"scope":"user/*.rs","patient":"Practitioner/1"`, nil},

		{"token faults come before scope", Policy{Scopes: []string{"a"}, Issuers: []string{"i"}}, ``, &refuseToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			response := decode(t, `{"active":true`+tt.answer+`}`)
			if got := tt.policy.check(response, now); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestPolicyEveryRequest finds that time goes on for a verdict that was made
// once (F10): the Introspector always gives the same Response.
func TestPolicyEveryRequest(t *testing.T) {
	now := time.Unix(farExp-1, 0)
	s := newStack(t, func(c *Config) { c.Now = func() time.Time { return now } })
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 200 {
		t.Errorf("a second before exp: %d", a.StatusCode)
	}
	now = now.Add(time.Second)
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != 401 {
		t.Errorf("at exp: %d", a.StatusCode)
	}
}
