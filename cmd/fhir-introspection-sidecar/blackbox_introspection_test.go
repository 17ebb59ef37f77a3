package main

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// seedExample is the response that Koppeltaal's description shows, but for its exp.
func seedExample(exp string) string {
	return `{
      "active": true,
      "client_id": "l238j323ds-23ij4",
      "sub": "Z5O3upPC88QrAjx00dis",
      "aud": "https://Koppeltaal.nl/eHealthModule/123",
      "iss": "https://Koppeltaal.Authorization.nl/",
      "exp": ` + exp + `,
      "iat": 1419350238,
      "user": "Practitioner/123",
      "patient": "123",
      "fhirContext": ["https://Koppeltaal.nl/Task/123"],
      "intent": "samenstellen-behandeling"
    }`
}

func TestBlackboxIntrospectionRequest(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, jsonAnswer(seedExample("4102444800")))
	w := start(t, env{
		"INTROSPECTION_ENDPOINT": "http://" + as.address + "/oauth2/introspect",
		"BEARER_TOKEN_FILE":      writeFile(t, "b", "23410913-abewfq.123483\r\n"),
	})
	const token = "2YotnFZFEjr1zCsicMWpAA+/~._-=="
	a := w.ask(t, "GET /fhir/Patient/123?_x=1", "Authorization: Bearer "+token, "X-Request-Id: req-1", "X-Correlation-Id: cor-1",
		"X-Trace-Id: trace-1", "Cookie: a=b", "X-Secret: s", "User-Agent: spy/1")
	a.is(t, 200)
	got := as.requests()
	if len(got) != 1 {
		t.Fatalf("got %d introspections, want 1", len(got))
	}
	head, body, _ := strings.Cut(got[0], "\r\n\r\n")
	if body != "token="+url.QueryEscape(token) {
		t.Errorf("got body %q, want the token, encoded", body)
	}
	lines := strings.Split(head, "\r\n")
	if lines[0] != "POST /oauth2/introspect HTTP/1.1" {
		t.Errorf("got request line %q, want POST /oauth2/introspect HTTP/1.1", lines[0])
	}
	want := map[string]string{
		"Host": as.address, "Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded",
		"Authorization": "Bearer 23410913-abewfq.123483", "X-Correlation-Id": "req-1", "X-Trace-Id": "trace-1",
		"Content-Length": strconv.Itoa(len(body)),
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		switch wanted, ok := want[name]; {
		case ok && wanted != value:
			t.Errorf("%s: %q, want %q", name, value, wanted)
		case name == "X-Request-Id" && !uuid.MatchString(value), name == "User-Agent" && strings.Contains(value, "spy"):
			t.Errorf("got %s %q, want a UUID, and a User-Agent of ours", name, value)
		case !ok && line != "Connection: close" && name != "X-Request-Id" && name != "User-Agent" && name != "Accept-Encoding":
			t.Errorf("unexpected %q", line)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing %v", want)
	}
	r := w.up.last(t)
	for name, value := range map[string]string{
		"X-Launch-Patient": "123", "X-Launch-User": "Practitioner/123", "X-Launch-Client-Id": "l238j323ds-23ij4",
		"X-Launch-Subject": "Z5O3upPC88QrAjx00dis", "X-Launch-Issuer": "https://Koppeltaal.Authorization.nl/",
		"X-Launch-Expires": "4102444800", "X-Launch-Intent": "samenstellen-behandeling", "X-Launch-Scope": "", "X-Launch-Username": "",
		"X-Launch-Audience": "", "X-Launch-Fhir-Context": `[{"reference":"https://Koppeltaal.nl/Task/123"}]`,
		"Authorization": "Bearer " + token, "X-Request-Id": "req-1", "X-Correlation-Id": "cor-1", "X-Trace-Id": "trace-1",
	} {
		r.has(t, name, value)
	}
	if r.line != "GET /fhir/Patient/123?_x=1 HTTP/1.1" {
		t.Errorf("got line %q, want that of the request", r.line)
	}
}

// Tokens have every character that a bearer token may have, and arrive so.
func TestBlackboxIntrospectionTokenRoundTrip(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, token := range []string{"a", "a+b/c~d._-", "AZaz09==", "a.b.c", "+", strings.Repeat("x", 8192)} {
		w.as.AddToken(token, nil)
		w.ask(t, "GET /fhir/Patient", "Authorization: Bearer "+token).is(t, 200)
	}
}

func TestBlackboxIntrospectionAnswers(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, "")
	w := start(t, env{"INTROSPECTION_ENDPOINT": "http://" + as.address + "/", "CACHE_INACTIVE_AGE": "0"})
	for _, c := range []struct {
		name, answer string
		status       int
		code, oauth  string
	}{
		{"example expired in 2014", jsonAnswer(seedExample("1419356238")), 401, "login", "invalid_token"},
		{"active false", jsonAnswer(`{"active":false}`), 401, "login", "invalid_token"},
		{"401 invalid_client", "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 26\r\n\r\n" +
			`{"error":"invalid_client"}`, 503, "transient", ""},
		{"401 in HTML", "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\nAccess Denied", 503, "transient", ""},
		{"401 without body", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 503, "transient", ""},
		{"403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 503, "transient", ""},
		{"silence", "", 503, "transient", ""},
		{"only active", jsonAnswer(`{"active":true}`), 200, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			as.set(c.answer)
			before := w.up.count()
			a := w.ask(t, "GET /fhir/Patient", "Authorization: Bearer seed")
			if c.status == 200 {
				a.is(t, 200)
				w.up.last(t).lacks(t, "x-launch")
				return
			}
			a.refused(t, c.status, c.code, c.oauth)
			if w.up.count() != before {
				t.Error("FHIR server got the request, want it refused only")
			}
		})
	}
}

// G25: a redirect leads into a trap that calls every token active.
func TestBlackboxIntrospectionRedirects(t *testing.T) {
	t.Parallel()
	trap := newRawAuthority(t, jsonAnswer(`{"active":true}`))
	w := start(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		w.as.SetAnswer(introspectiontest.Respond(status, http.Header{"Location": {"http://" + trap.address + "/"}}, ""))
		w.ask(t, "GET /fhir/Patient", "Authorization: Bearer r"+strconv.Itoa(status)).refused(t, 503, "transient", "")
		w.as.SetAnswer(introspectiontest.Respond(status, http.Header{"Location": {"/followed-a-redirect"}}, ""))
		w.ask(t, "GET /fhir/Patient", "Authorization: Bearer s"+strconv.Itoa(status)).refused(t, 503, "transient", "")
	}
	if trap.conns > 0 || w.up.count() > 0 || len(w.as.Requests()) != 10 {
		t.Errorf("got %d connections to the trap, %d requests at the FHIR server and %d at the authorization server, want 0, 0 and 10", trap.conns, w.up.count(), len(w.as.Requests()))
	}
}

// G38: neither the environment's proxies nor a client's see tokens.
func TestBlackboxIntrospectionProxyEnvironment(t *testing.T) {
	t.Parallel()
	spy := newRawAuthority(t, jsonAnswer(`{"active":true}`))
	as, up := introspectiontest.NewServer(t), newUpstream(t)
	as.AddToken("good", nil)
	var extra []string
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"} {
		extra = append(extra, name+"=http://"+spy.address)
	}
	// Go would spare loopback addresses, but for an address that only looks unlike one.
	other := func(address string) string { return strings.Replace(address, "127.0.0.1", "0.0.0.0", 1) }
	c := spawn(t, env{
		"UPSTREAM_URL": "http://" + other(up.address) + "/fhir", "LISTEN_ADDRESS": "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0",
		"INTROSPECTION_ENDPOINT": other(as.Endpoint()), "BEARER_TOKEN_FILE": writeFile(t, "b", introspectiontest.DefaultBearer),
		"ALLOW_INSECURE_HTTP": "true",
	}, extra)
	c.awaitServing(t)
	c.ask(t, "GET /fhir/Patient", good, "Proxy: http://"+spy.address).is(t, 200)
	up.last(t).has(t, "Proxy", "")
	if spy.conns > 0 {
		t.Errorf("got %d connections to a proxy, want none", spy.conns)
	}
}
