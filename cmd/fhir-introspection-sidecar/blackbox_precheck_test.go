package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// prechecked starts a sidecar that verifies the issuer's tokens, and has its keys.
func prechecked(t *testing.T, i *issuer) *child {
	t.Helper()
	fhir := newDocuments(t)
	fhir.put(map[string]string{"/fhir/Patient": "{}"})
	c := find(t, fhir.URL, env{"ISSUER_URL": i.URL, "JWT_PRECHECK": "true", "CACHE_INACTIVE_AGE": "0"})
	c.awaitReady(t)
	warm := i.token(t, i.key, "k1", nil)
	i.as.AddToken(warm, nil)
	c.ask(t, "GET /fhir/Patient", bearer(warm)).is(t, 200)
	if i.keyReads.Load() != 1 || i.questions.Load() != 1 {
		t.Fatalf("got %d reads of the keys and %d introspections, want one of each", i.keyReads.Load(), i.questions.Load())
	}
	return c
}

// TestBlackboxPrecheck: a forged or expired JWT costs no introspection, and a
// good signature doesn't replace one.
func TestBlackboxPrecheck(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	c := prechecked(t, i)
	segment := base64.RawURLEncoding.EncodeToString
	body, _ := json.Marshal(map[string]any{"iss": i.URL})
	active := func(token string) string { // to the endpoint everything here is active
		i.as.AddToken(token, nil)
		return token
	}
	revoked := active(i.token(t, i.key, "k1", nil))
	i.as.Revoke(revoked)
	for _, tt := range []struct {
		name, token string
		status      int
		asked       int64
	}{
		{"good", active(i.token(t, i.key, "k1", nil)), 200, 1},
		{"opaque", active("opaque"), 200, 1},
		{"opaque with dots", active("a.b.c"), 200, 1},
		{"opaque and unknown", "unknown", 401, 1},
		{"revoked", revoked, 401, 1},
		{"forged", active(i.token(t, p256(t), "k1", nil)), 401, 0},
		{"expired", active(i.token(t, i.key, "k1", map[string]any{"exp": time.Now().Add(-time.Second).Unix()})), 401, 0},
		{"not yet valid", active(i.token(t, i.key, "k1", map[string]any{"nbf": time.Now().Add(time.Minute).Unix()})), 401, 0},
		{"another issuer", active(i.token(t, i.key, "k1", map[string]any{"iss": "https://evil.test"})), 401, 0},
		{"unsigned", active(segment([]byte(`{"alg":"none"}`)) + "." + segment(body) + "."), 401, 0},
		{"signed with the public key", active(segment([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + segment(body) + "." + segment([]byte("s"))), 401, 0},
		{"key in the header", active(segment([]byte(`{"alg":"ES256","kid":"x","jku":"`+c.data+`","jwk":{}}`)) + "." + segment(body) + "." + segment([]byte("s"))), 200, 1},
		{"key that isn't published yet", active(i.token(t, p256(t), "k2", nil)), 200, 1},
	} {
		before := i.questions.Load()
		a := c.ask(t, "GET /fhir/Patient", bearer(tt.token))
		if asked := i.questions.Load() - before; a.status != tt.status || asked != tt.asked {
			t.Errorf("%s: %d after %d introspections, want %d after %d", tt.name, a.status, asked, tt.status, tt.asked)
		}
		if tt.status == 401 {
			a.refused(t, 401, "login", "invalid_token")
		}
	}
}

// TestBlackboxPrecheckFlood: forged tokens become neither introspections nor requests
// for keys. In ten seconds the keys are read three times at most.
func TestBlackboxPrecheckFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("floods")
	}
	t.Parallel()
	i := newIssuer(t)
	began := time.Now()
	c := prechecked(t, i)
	before, key := i.questions.Load(), p256(t)
	client := dial(t, c.data)
	for range 100 {
		a, err := client.do(request("GET /fhir/Patient", bearer(i.token(t, key, "k1", nil))))
		if err != nil {
			t.Fatalf("client.do: got error %v, want none", err)
		}
		a.refused(t, 401, "login", "invalid_token")
	}
	if most := 3 * (1 + int64(time.Since(began)/(10*time.Second))); i.keyReads.Load() > most {
		t.Errorf("%d reads of the keys, want at most %d", i.keyReads.Load(), most)
	}
	if i.questions.Load() != before {
		t.Errorf("got %d introspections of forged tokens, want none", i.questions.Load()-before)
	}
	for _, line := range c.logs("request") {
		if strings.Contains(fmt.Sprint(line), "k1") {
			t.Errorf("logged %v, want nothing of the token", line)
		}
	}
}

// TestBlackboxKeysAreSet: the issuer's name is the public one, which doesn't lead
// anywhere from here; its keys come over the back channel.
func TestBlackboxKeysAreSet(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	fhir := newDocuments(t)
	fhir.put(map[string]string{"/fhir/Patient": "{}"})
	const public = "https://as.invalid"
	c := find(t, fhir.URL, env{
		"ISSUER_URL": public, "JWT_PRECHECK": "true", "JWKS_URL": i.URL + "/jwks",
		"INTROSPECTION_ENDPOINT": i.URL + introspectiontest.IntrospectionPath, "CACHE_INACTIVE_AGE": "0",
	})
	c.awaitReady(t)
	claims := map[string]any{"iss": public}
	good, forged := i.token(t, i.key, "k1", claims), i.token(t, p256(t), "k1", claims)
	i.as.AddToken(good, nil)
	i.as.AddToken(forged, nil)
	c.ask(t, "GET /fhir/Patient", bearer(good)).is(t, 200)
	c.ask(t, "GET /fhir/Patient", bearer(forged)).refused(t, 401, "login", "invalid_token")
	if reads, questions := i.keyReads.Load(), i.questions.Load(); reads == 0 || questions != 1 {
		t.Errorf("got %d reads of the keys and %d introspections, want the keys to be read and one introspection", reads, questions)
	}
}
