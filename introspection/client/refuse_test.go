package client

import (
	"encoding/base64"
	"testing"
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
			if got := neverAccepted(tt.token); got != tt.want {
				t.Errorf("neverAccepted(%s): got %t, want %t", tt.token, got, tt.want)
			}
		})
	}
}
