package client

import (
	"encoding/base64"
	"errors"
	"net/http"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// jwtOf returns a token in JWS compact serialization with these claims.
func jwtOf(claims string) string {
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestNeverAccepted(t *testing.T) {
	launch := jwtOf(`{"iss":"portal","aud":"Device/7","sub":"Patient/1"}`)
	for _, tt := range []struct {
		name, token string
		want        bool
	}{
		{"app launch without a token", "NOOP", true},
		{"NOOP in small letters", "noop", false},
		{"NOOP in something longer", "NOOPE", false},
		{"launch token", launch, true},
		{"launch token, padded base64", "e30." + base64.URLEncoding.EncodeToString([]byte(`{"aud":"Device/77"}`)) + ".s", true},
		{"launch token without signature", "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"Device/7"}`)) + ".", true},
		{"launch token for many", jwtOf(`{"aud":["fhir-server","Device/7"]}`), true},
		{"launch token for many, one odd", jwtOf(`{"aud":["Device/7",5,null]}`), true},
		{"access token", jwtOf(`{"aud":"fhir-server"}`), false},
		{"access token for many", jwtOf(`{"aud":["fhir-server","x"]}`), false},
		{"device inside", jwtOf(`{"aud":"https://fhir.example/Device/7"}`), false},
		{"device in small letters", jwtOf(`{"aud":"device/7"}`), false},
		{"client assertion", jwtOf(`{"iss":"c","sub":"c","aud":"https://as.test/introspect"}`), true},
		{"client assertion for many", jwtOf(`{"aud":["x","https://as.test/introspect"]}`), true},
		{"audience like an endpoint", jwtOf(`{"aud":"https://as.test/introspect/"}`), false},
		{"aud empty", jwtOf(`{"aud":""}`), false},
		{"no aud", jwtOf(`{"sub":"Device/7"}`), false},
		{"aud null", jwtOf(`{"aud":null}`), false},
		{"aud number", jwtOf(`{"aud":7}`), false},
		{"aud object", jwtOf(`{"aud":{"a":"Device/7"}}`), false},
		{"aud nested", jwtOf(`{"aud":[["Device/7"]]}`), false},
		{"payload no object", jwtOf(`["Device/7"]`), false},
		{"payload no JSON", jwtOf(`aud=Device/7`), false},
		{"payload no base64", "e30.%%%.s", false},
		{"two parts", launch[:len(launch)-5], false},
		{"four parts", launch + ".x", false},
		{"opaque", "2YotnFZFEjr1zCsicMWpAA", false},
		{"dots", "..", false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := neverAccepted(tt.token, "", "https://as.test/introspect")
			if got := errors.Is(err, introspection.ErrInactive); got != tt.want || got != (err != nil) {
				t.Errorf("neverAccepted(%s): got %v, want it refused: %t", tt.token, err, tt.want)
			}
		})
	}
}

// TestAssertionsCostNoCall: JWTs for our own endpoints at the authorization server,
// as they are known by now, are refused as what they are.
func TestAssertionsCostNoCall(t *testing.T) {
	calls, known := 0, ""
	client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
		calls++
		return answer(200, `{"active":true}`), nil
	}, func(c *Config) { c.TokenEndpoint = func() string { return known } })
	assertion := jwtOf(`{"iss":"module","sub":"module","aud":"https://as.test/token"}`)
	if _, err := introspect(t.Context(), client, assertion); err != nil || calls != 1 {
		t.Errorf("got %v after %d calls, want a verdict while the token endpoint isn't known", err, calls)
	}
	known = "https://as.test/token"
	for _, token := range []string{assertion, jwtOf(`{"aud":"https://as.test/introspect"}`)} {
		_, err := introspect(t.Context(), client, token)
		if !errors.Is(err, introspection.ErrAssertion) || !errors.Is(err, introspection.ErrInactive) || calls != 1 {
			t.Errorf("got %v after %d calls, want %v without another", err, calls, introspection.ErrAssertion)
		}
	}
}
