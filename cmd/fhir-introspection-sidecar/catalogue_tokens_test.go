package main

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// K11: tokens that are made to be costly are refused for next to nothing, whether
// JWTs are looked at first or not. What is no signed JWT is the authorization
// server's to judge.
func TestBlackboxCostlyTokens(t *testing.T) {
	t.Parallel()
	place := "http://" + newTrap(t).Addr().String()
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	const n = 900_000 // bytes, below what net/http reads of a header here
	tokens := map[string]string{
		"dots":          strings.Repeat(".", n),
		"short parts":   strings.Repeat("a.", n/2) + "a",
		"encrypted":     segment(`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`) + ".." + segment("iv") + "." + strings.Repeat("A", n) + ".dGFn",
		"PBES2":         segment(`{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2147483647,"p2s":"c2FsdA"}`) + ".a2V5." + segment("iv") + ".dGV4dA.dGFn",
		"long x5c":      segment(`{"alg":"RS256","x5u":"`+place+`","x5c":["`+strings.Repeat("A", n/2)+`"]}`) + "." + segment(`{"iss":"`+place+`"}`) + ".c2ln",
		"deep header":   segment(strings.Repeat(`{"a":`, n/8)) + "." + segment(`{}`) + ".c2ln",
		"deep payload":  segment(`{"alg":"ES256","kid":"k1"}`) + "." + segment(strings.Repeat("[", n/2)) + ".c2ln",
		"long key id":   segment(`{"alg":"ES256","kid":"`+strings.Repeat("k", n/2)+`","jku":"`+place+`"}`) + "." + segment(`{}`) + ".c2ln",
		"no signature":  segment(`{"alg":"none"}`) + "." + segment(`{"iss":"`+place+`"}`) + ".",
		"huge exponent": segment(`{"alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"`+strings.Repeat("_", n/4)+`"}}`) + "." + segment(`{}`) + ".c2ln",
	}
	i := newIssuer(t)
	fhir := newDocuments(t)
	for name, c := range map[string]*child{
		"opaque":     start(t, env{"MAX_TOKEN_BYTES": "1000000", "INTROSPECTION_TIMEOUT": "10s"}).child,
		"prechecked": find(t, fhir.URL, env{"ISSUER_URL": i.URL, "JWT_PRECHECK": "true", "MAX_TOKEN_BYTES": "1000000", "INTROSPECTION_TIMEOUT": "10s"}),
	} {
		c.awaitReady(t)
		for kind, token := range tokens {
			began := c.cpu(t)
			if a := c.ask(t, "GET /fhir/Patient", bearer(token)); a.status != 401 {
				t.Errorf("%s, %s: %d", name, kind, a.status)
			}
			if took := c.cpu(t) - began; took > raceFactor*500*time.Millisecond {
				t.Errorf("%s, %s: %v of CPU", name, kind, took)
			}
		}
	}
}

// K13: two sidecars at one authorization server share nothing: what the one may take
// the other refuses, each has asked for itself, and what the one forgets the other
// knows.
func TestBlackboxTwoSidecars(t *testing.T) {
	t.Parallel()
	as := introspectiontest.NewServer(t)
	sidecar := func(audience string) *world {
		return startWith(t, as, env{"REQUIRED_AUDIENCES": audience, "INTROSPECTION_ENDPOINT": as.Endpoint()})
	}
	one, two := sidecar("https://one.example"), sidecar("https://two.example")
	claims := as.Claims()
	claims["aud"] = "https://one.example"
	as.AddToken("for-one", claims)
	for range 2 {
		one.ask(t, "GET /fhir/Patient", bearer("for-one")).is(t, 200)
		two.ask(t, "GET /fhir/Patient", bearer("for-one")).refused(t, 401, "login", "invalid_token")
	}
	if n := as.IntrospectionsOf("for-one"); n != 2 {
		t.Errorf("%d introspections, want one by each", n)
	}
	if one.up.count() != 2 || two.up.count() != 0 {
		t.Errorf("FHIR servers got %d and %d", one.up.count(), two.up.count())
	}
	one.terminate(t)
	two.ask(t, "GET /fhir/Patient", bearer("for-one")).refused(t, 401, "login", "invalid_token")
	if n := as.IntrospectionsOf("for-one"); n != 2 {
		t.Errorf("%d introspections after the other's end", n)
	}
}
