package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// One token, one call: in all that the contract says of it.

// together sends n requests with a token, each of another kind and over a connection of
// its own, lets the endpoint answer once when all of them wait, and returns what they
// got.
func (w *world) together(t *testing.T, n int, token string, then introspectiontest.Answer) []*answer {
	t.Helper()
	release := make(chan struct{})
	w.as.SetAnswerFor(token, introspectiontest.Hold(release, then))
	waiting := func() float64 {
		return w.metric(t, lookups, `result="coalesced"`) + w.metric(t, lookups, `result="miss"`)
	}
	before := waiting()
	answers := make([]*answer, n)
	wait := w.crowd(t, n, func(i int, c *conn) {
		method := []string{"GET", "POST", "HEAD", "DELETE"}[i%4]
		a, err := c.do(request(fmt.Sprintf("%s /fhir/Patient/%d?n=%d", method, i, i), bearer(token), "Content-Length: 0"))
		if err != nil {
			t.Errorf("c.do: got error %v, want none", err)
		}
		answers[i] = a
	})
	eventually(t, "all wait", func() bool { return waiting() == before+float64(n) })
	if n := w.metric(t, "introspection_sidecar_introspections_in_flight"); n != 1 {
		t.Errorf("got %v introspections in flight, want 1", n)
	}
	close(release)
	wait()
	if t.Failed() {
		t.FailNow()
	}
	return answers
}

// F20, F22, F24: whatever the one call brings, all who wait get it; failures are kept
// for nobody, and the next request asks again.
func TestBlackboxOneCallShared(t *testing.T) {
	t.Parallel()
	w := start(t, env{"INTROSPECTION_TIMEOUT": "30s"})
	respond := func(status int, body string, header ...string) introspectiontest.Answer {
		h := http.Header{"Content-Type": {"application/json"}}
		if len(header) > 0 {
			h.Set(header[0], header[1])
		}
		return introspectiontest.Respond(status, h, body)
	}
	for i, c := range []struct {
		name       string
		answer     introspectiontest.Answer
		status     int
		retryAfter string
		kept       bool
	}{
		{"active", respond(200, `{"active":true}`), 200, "", true},
		{"inactive", respond(200, `{"active":false}`), 401, "", true},
		{"of another kind", respond(200, `{"active":true,"typ":"Refresh"}`), 401, "", true},
		{"malformed", respond(200, `{"active":1}`), 503, "2", false},
		{"server error", respond(500, ""), 503, "2", false},
		{"throttled", respond(429, "", "Retry-After", "7"), 503, "7", false},
		{"forbidden", respond(403, ""), 503, "2", false},
		{"own credential refused", respond(401, ""), 503, "2", false},
		{"reset", introspectiontest.Reset(), 503, "2", false},
		{"cut off", introspectiontest.ResetMidBody(), 503, "2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := fmt.Sprint("t", i)
			w.as.AddToken(token, nil)
			clients := 40
			if c.status == 200 {
				clients = 1000 // a stampede
			}
			for n, a := range w.together(t, clients, token, c.answer) {
				if a.status != c.status || a.header.Get("Retry-After") != c.retryAfter {
					t.Errorf("client %d got %d with Retry-After %q, want %d with %q", n, a.status, a.header.Get("Retry-After"), c.status, c.retryAfter)
				}
			}
			if n := w.as.IntrospectionsOf(token); n != 1 {
				t.Errorf("got %d introspections, want 1", n)
			}
			w.as.SetAnswerFor(token, nil)
			want, calls := 200, 2
			if c.kept {
				want, calls = c.status, 1
			}
			for range 2 {
				w.ask(t, "GET /fhir/Patient", bearer(token)).is(t, want)
			}
			if n := w.as.IntrospectionsOf(token); n != calls {
				t.Errorf("%d introspections, want %d", n, calls)
			}
		})
	}
}

// F22: a call that runs out of time does so for all who wait, and for nobody else.
func TestBlackboxOneCallTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	t.Parallel()
	const clients = 20
	w := start(t, env{"INTROSPECTION_TIMEOUT": "2s"})
	for _, a := range w.together(t, clients, "good", introspectiontest.Hang()) {
		if a.status != 503 {
			t.Errorf("got status %d, want 503", a.status)
		}
	}
	w.as.SetAnswerFor("good", nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if n := w.as.IntrospectionsOf("good"); n != 2 {
		t.Errorf("got %d introspections, want 2", n)
	}
}

// F34: whatever becomes of a request, the next one with its token gets the same
// context: nobody can change what is remembered.
func TestBlackboxOneCallUnchanged(t *testing.T) {
	t.Parallel()
	w := start(t, env{"HEADERS": "patient,encounter,user,fhirContext,intent,tenant,sub,iss,client_id,scope,exp,username,aud,jti"})
	w.as.AddToken("rich", map[string]any{
		"aud": []string{"b", "a"}, "scope": []string{"x", "y"}, "fhirContext": []any{"Task/1", map[string]any{"reference": "Task/2"}},
		"patient": "Patient/1", "sub": "ä%", "jti": "j", "exp": 4102444800,
	})
	launch := func() []string {
		lines := w.up.last(t).launch()
		slices.Sort(lines)
		return lines
	}
	w.ask(t, "GET /fhir/Patient", bearer("rich")).is(t, 200)
	first := launch()
	if len(first) != 8-1 { // aud, scope, fhirContext, patient, sub, jti, exp
		t.Fatalf("got context %q, want seven lines", first)
	}
	w.up.bytesOn("/fhir/mutator", "HTTP/1.1 200 OK\r\nX-Launch-Patient: 9\r\nX-Launch-Scope: z\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Launch-Audience: 9\r\n\r\n", true)
	w.up.bytesOn("/fhir/broken", "", false)
	for _, raw := range []string{
		request("GET /fhir/mutator", bearer("rich")), request("POST /fhir/mutator", bearer("rich"), "Content-Length: 0"), request("GET /fhir/broken", bearer("rich")),
		request("GET /fhir/a", bearer("rich"), "X-Launch-Patient: 9", "x_launch_scope: z", "X-Launch-Subject: "+strings.Repeat("x", 100)),
		request("GET /fhir/a", bearer("rich"), "Connection: X-Launch-Patient, X-Launch-Scope, X-Launch-Audience"),
		request("POST /fhir/a", bearer("rich"), "Transfer-Encoding: chunked", "Trailer: X-Launch-Patient") + "0\r\nX-Launch-Patient: 9\r\n\r\n",
		request("GET /fhir/../a", bearer("rich")), request("HEAD /fhir/a", bearer("rich")),
	} {
		w.send(t, raw)
		w.ask(t, "GET /fhir/Patient", bearer("rich")).is(t, 200)
		if got := launch(); !slices.Equal(got, first) {
			t.Errorf("after %.60q: got context %q, want %q", raw, got, first)
		}
	}
	if n := w.as.IntrospectionsOf("rich"); n != 1 {
		t.Errorf("got %d introspections, want 1", n)
	}
}

// A token is sent once, however the endpoint breaks the connection after it, over
// a new connection or a kept one. TestTokenIsSentOnce has more ways.
func TestBlackboxOneCallSentOnce(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, "")
	w := start(t, env{"INTROSPECTION_ENDPOINT": "http://" + as.address + "/", "INTROSPECTION_TIMEOUT": "10s"})
	for i, c := range []struct {
		answer string
		then   func(answer string) // the connection ends, or lives on
	}{
		{"", as.breakOff},
		{"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"active\":tr", as.breakOff},
		{"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", as.set},
		{"HTTP/1.1 503 Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", as.set},
	} {
		for _, kept := range []bool{false, true} {
			if kept { // there is a connection that has proved itself
				as.set(jsonAnswer(`{"active":true}`))
				w.ask(t, "GET /fhir/Patient", bearer(fmt.Sprint("k", i))).is(t, 200)
			}
			before := len(as.requests())
			c.then(c.answer)
			w.ask(t, "GET /fhir/Patient", bearer(fmt.Sprintf("t%d.%t", i, kept))).refused(t, 503, "transient", "")
			if n := len(as.requests()) - before; n != 1 {
				t.Errorf("%q, kept connection %t: sent %d times, want once", c.answer, kept, n)
			}
		}
	}
}
