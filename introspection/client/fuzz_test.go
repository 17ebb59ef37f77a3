package client

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzNeverAccepted: refused without a call are launch tokens and NOOP, and no
// token that could be anything else.
func FuzzNeverAccepted(f *testing.F) {
	for _, seed := range []string{
		"NOOP", "", ".", "..", "a.b.c", jwtOf(`{"aud":"Device/1"}`), jwtOf(`{"aud":["x","Device/1"]}`), jwtOf(`{"aud":"fhir-server"}`),
		jwtOf(`{"aud":null}`), jwtOf(`{"aud":[["Device/1"]]}`), jwtOf(`[]`), jwtOf(strings.Repeat("[", 20_000)),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		refused := neverAccepted(token) != nil
		if !refused || token == "NOOP" {
			return
		}
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			t.Fatalf("got %q, want a JWT", token)
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
		var claims map[string]any
		if err != nil || json.Unmarshal(payload, &claims) != nil {
			t.Fatalf("got %q, want claims in it", token)
		}
		for name, value := range claims {
			if text, err := json.Marshal(value); strings.EqualFold(name, "aud") && err == nil && strings.Contains(string(text), `"Device/`) {
				return
			}
		}
		t.Fatalf("got %s, want a launch token", payload)
	})
}
