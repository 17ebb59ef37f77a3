package main

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// baits are tokens that name a place to go: an issuer, keys, key chains, itself.
func baits(place string) (tokens []string) {
	claims := map[string]any{"iss": place, "aud": place, "sub": place, "jti": place, "jku": place + "/jwks", "exp": 4102444800}
	for _, name := range []string{"jku", "x5u", "kid", "iss", "url", "apu"} {
		tokens = append(tokens, jws(map[string]any{"alg": "ES256", name: place + "/jwks"}, claims))
	}
	return append(tokens,
		jws(map[string]any{"alg": "RS256", "jwk": map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB", "x5u": place}}, claims),
		jws(map[string]any{"alg": "RS256", "x5c": []string{place}}, claims),
		base64.RawURLEncoding.EncodeToString([]byte(place)), strings.NewReplacer(":", "~").Replace(place),
	)
}

// requests are the ways in which a client could name a place to go.
func directions(place, token string) []string {
	authority := strings.TrimPrefix(place, "http://")
	raw := []string{
		"GET " + place + "/fhir/Patient HTTP/1.1\r\nHost: " + authority + "\r\nAuthorization: Bearer " + token + "\r\n\r\n",
		"GET /fhir/Patient HTTP/1.1\r\nHost: " + authority + "\r\nAuthorization: Bearer " + token + "\r\n\r\n",
		"CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\nAuthorization: Bearer " + token + "\r\n\r\n",
		request("GET //"+authority+"/fhir/Patient", bearer(token)),
		request("GET /fhir/Binary/"+strings.ReplaceAll(place, "/", "%2F"), bearer(token)),
		request("GET /fhir/Patient?_profile="+place+"&url="+place+"&next="+place, bearer(token)),
		request("GET /fhir/metadata?_format="+place, "Host-Override: "+authority),
		request("OPTIONS /fhir/Patient", "Origin: "+place, "Access-Control-Request-Method: GET"),
		request("POST /fhir/Subscription", bearer(token), fmt.Sprintf("Content-Length: %d", len(place)+2)) + `"` + place + `"`,
	}
	for _, name := range []string{
		"X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-For", "X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-Host", "Referer", "Origin", "Link",
		"Location", "Content-Location", "Destination", "Proxy", "Via", "CDN-Loop", "Alt-Svc", "Upgrade", "DPoP", "baggage", "traceparent", "X-Launch-Issuer",
		"X-Request-Id", "X-Trace-Id", "From", "Cookie",
	} {
		raw = append(raw, request("GET /fhir/Patient", bearer(token), name+": "+place))
	}
	return append(raw, request("GET /fhir/Patient", bearer(token), "Forwarded: host="+authority+";proto=http;for=\""+authority+"\""))
}

// M08: whatever a client sends, the sidecar connects to the addresses in its settings
// and to no other. So it does when an issuer in a token is another server's (K05), and
// no third party gets a token (L06). The harness asserts the same of every other
// sidecar that a test starts.
func TestBlackboxDestinations(t *testing.T) {
	t.Parallel()
	place := "http://" + newTrap(t).Addr().String()
	other := introspectiontest.NewServer(t) // another issuer, that calls all of this active
	i := newIssuer(t)
	fhir := newUpstream(t)
	for name, c := range map[string]*child{
		"configured": start(t, env{"BYPASS_GUARD": "off", "REQUIRED_ISSUERS": place + "," + other.URL, "UPSTREAM_URL": "http://" + fhir.address + "/fhir"}).child,
		"discovered": find(t, "http://"+fhir.address, env{"BYPASS_GUARD": "off", "ISSUER_URL": i.URL, "JWT_PRECHECK": "true"}),
	} {
		for _, token := range append(baits(place), baits(other.URL)...) {
			other.AddToken(token, nil)
			if a := c.ask(t, "GET /fhir/Patient", bearer(token)); a.status != 401 && a.status != 503 {
				t.Errorf("%s: got %d for a token of nobody, want 401 or 503", name, a.status)
			}
		}
		for _, token := range []string{"good", baits(place)[0]} {
			for _, raw := range directions(place, token) {
				if _, err := exchangePlain(c.data, raw); err != nil {
					t.Errorf("%s: %.60q: got error %v, want a response", name, raw, err)
				}
			}
		}
		c.terminate(t)
		dialed, recorded := c.dials()
		if !recorded {
			t.Skip("this kernel can't record connections; the trap saw none")
		}
		if want := 2; len(dialed) != want || !slices.Contains(dialed, "tcp_"+fhir.address) {
			t.Errorf("%s: connected to %q, want the FHIR server and the authorization server", name, dialed)
		}
	}
	if n := other.Introspections(); n > 0 {
		t.Errorf("another issuer was asked %d times, want never", n)
	}
}

// TestBlackboxStrayDial (M08) shows that the recorder sees a connection, and that one to
// where no setting points is found: here the setting is changed behind its back.
func TestBlackboxStrayDial(t *testing.T) {
	t.Parallel()
	w := start(t, env{"BYPASS_GUARD": "off"})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.terminate(t)
	if _, recorded := w.dials(); !recorded {
		t.Skip("this kernel can't record connections")
	}
	environ := w.cmd.Env
	defer func() { w.cmd.Env = environ }()
	w.cmd.Env = slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return strings.HasPrefix(v, "SIDECAR_UPSTREAM_URL=") })
	if got := w.strayDials(); !slices.Equal(got, []string{"tcp_" + w.up.address}) {
		t.Errorf("found %q, want the FHIR server's address", got)
	}
}
