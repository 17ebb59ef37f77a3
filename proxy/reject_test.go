package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// refused writes one refusal and returns it as it would stand on the wire.
func refused(t *testing.T, why *decision, failure error, method, target string, fields ...string) (*exchange, string) {
	t.Helper()
	p, err := New(unitConfig(introspectorFunc(nil)))
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("X-Request-Id", "id-1")
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	x := p.exchangeOf(w, r)
	x.ctx = r.Context()
	x.failure, x.neededScopes = failure, "system/*.rs launch"
	x.begin().Add("X-Left-Over", "of a response that failed")
	p.refuser.refuse(x, why)
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", w.Code)
	if err := w.Result().Header.Write(&b); err != nil {
		t.Fatalf("w.Result: got error %v, want none", err)
	}
	return x, strings.ReplaceAll(b.String(), "\r\n", "\n") + "\n" + w.Body.String() + "\n"
}

func TestRefusals(t *testing.T) {
	throttled := &introspection.Failure{Kind: introspection.ErrThrottled, RetryAfter: 29*time.Second + 1}
	tests := []struct {
		name    string
		why     *decision
		failure error
		method  string
		target  string
		fields  []string
	}{
		{name: "no_token", why: refuseNoToken},
		{name: "invalid_request", why: refuseRequest},
		{name: "invalid_token", why: refuseToken, failure: introspection.ErrInactive},
		{name: "insufficient_scope", why: refuseScope},
		{name: "introspection_unavailable", why: refuseUnavailable, failure: errors.New("canary")},
		{name: "throttled", why: refuseUnavailable, failure: throttled},
		{name: "credential_rejected", why: refuseCredential, failure: introspection.ErrInvalidClient},
		{name: "upstream_error", why: refuseUpstream, failure: errors.New("canary")},
		{name: "loop", why: refuseLoop, failure: errLoop},
		{name: "upstream_timeout", why: refuseTimeout},
		{name: "body", why: refuseBody},
		{name: "not_found", why: refuseNotFound},
		{name: "bad_path", why: refusePath},
		{name: "method_not_allowed", why: refuseMethod, method: "TRACE"},
		{name: "internal_error", why: internalError},
		{name: "client_closed", why: clientClosed},
		{name: "xml", why: refuseNoToken, fields: []string{"Accept: application/fhir+xml"}},
		{name: "xml_parameter", why: refuseNoToken, target: "/fhir/canary?_format=xml&q=canary"},
		{name: "head", why: refuseToken, method: "HEAD"},
		{
			name: "origin", why: refuseNoToken, target: "/fhir/canary",
			fields: []string{"Origin: https://canary.test", "X-Correlation-Id: c-1", "X-Trace-Id: t-1", "Authorization: Basic canary", "X-Canary: canary"},
		},
		{name: "unsafe_ids", why: refuseNoToken, fields: []string{`X-Correlation-Id: "canary"`, "X-Trace-Id: a canary"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = "GET"
			}
			if tt.target == "" {
				tt.target = "/fhir/canary?canary"
			}
			x, got := refused(t, tt.why, tt.failure, tt.method, tt.target, tt.fields...)
			golden(t, tt.name, got)
			if strings.Contains(got, "canary") {
				t.Errorf("got %s, want nothing of the request or the failure", got)
			}
			if x.decision != tt.why || x.status != tt.why.status {
				t.Errorf("got decision %s, status %d, want %s, %d", x.decision.label, x.status, tt.why.label, tt.why.status)
			}
		})
	}
}

// TestChallengeWithoutScopes finds no empty scope, which RFC 6750 §3 doesn't know.
func TestChallengeWithoutScopes(t *testing.T) {
	p, err := New(unitConfig(introspectorFunc(nil)))
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	if got, want := p.refuser.challenge(&exchange{}, refuseScope), `Bearer realm="fhir", error="insufficient_scope"`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, "2"},
		{errors.New("x"), "2"},
		{&introspection.Failure{}, "2"},
		{&introspection.Failure{RetryAfter: time.Nanosecond}, "1"},
		{&introspection.Failure{RetryAfter: time.Minute}, "60"},
		{fmt.Errorf("wrapped: %w", &introspection.Failure{RetryAfter: 1500 * time.Millisecond}), "2"},
	} {
		if got := retryAfter(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

// TestRefusalWire finds how a refusal ends on a connection.
func TestRefusalWire(t *testing.T) {
	s := newStack(t)
	c := s.dial()
	c.send(message("HEAD", "/fhir/Patient", ""))
	if a := c.receive("HEAD"); a.StatusCode != 401 || a.ContentLength <= 0 {
		t.Errorf("HEAD: got status %d, length %d, want 401 and a length", a.StatusCode, a.ContentLength)
	}
	// The connection goes on, and where it should: HEAD had no body.
	c.send(get("/fhir/Patient", bearerTOK))
	if a := c.receive("GET"); a.StatusCode != 200 || a.body != "{}" {
		t.Errorf("next: got status %d %q, want 200 {}", a.StatusCode, a.body)
	}
	s.upstream.got()

	for _, raw := range []string{
		"POST /fhir/Patient HTTP/1.1\r\nHost: f\r\nContent-Length: 1000\r\n\r\n{",
		"POST /fhir/Patient HTTP/1.1\r\nHost: f\r\nContent-Length: 9000000\r\n\r\n{",
		"POST /fhir/Patient HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"POST /fhir/a//b HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nContent-Length: 10\r\n\r\n",
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			c := s.dial()
			c.send(raw)
			if a := c.receive("POST"); a.StatusCode/100 != 4 || !a.Close || a.err != nil {
				t.Errorf("got status %d, close %t, %v, want a refusal and true", a.StatusCode, a.Close, a.err)
			}
			c.closed()
		})
	}
	s.upstream.untouched()
}

// TestRefusedUpload finds that a client gets its response while it still sends,
// and may go on for a moment: a reset could destroy the response on its way.
func TestRefusedUpload(t *testing.T) {
	s := newStack(t)
	c := s.dial()
	raw := message("POST", "/fhir/Patient", strings.Repeat("x", 200_000))
	c.send(raw[:100_000])
	if a := c.receive("POST"); a.StatusCode != http.StatusUnauthorized || a.err != nil {
		t.Errorf("got status %d (%v), want 401", a.StatusCode, a.err)
	}
	c.send(raw[100_000:])
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("connection ends with %v, want EOF", err)
	}
}

// TestRefusedOnce finds that a response isn't written into another one.
func TestRefusedOnce(t *testing.T) {
	p, err := New(unitConfig(introspectorFunc(nil)))
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	r, w := httptest.NewRequest("GET", "/fhir/Patient", nil), httptest.NewRecorder()
	x := p.exchangeOf(w, r)
	p.refuser.refuse(x, refuseNoToken)
	first := w.Body.String()
	p.refuser.refuse(x, internalError)
	if w.Code != 401 || w.Body.String() != first || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("got %d %v %s, want the first refusal", w.Code, w.Header(), w.Body)
	}
	if x.decision != internalError {
		t.Errorf("got decision %s, want internal_error", x.decision.label)
	}
}
