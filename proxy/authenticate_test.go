package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// tokenLimit is the limit of the tables here.
const tokenLimit = 12

func TestBearerToken(t *testing.T) {
	tests := []struct {
		values  []string
		query   string
		token   string
		refused *decision
	}{
		{values: []string{"Bearer TOK"}, token: "TOK"},
		{values: []string{"bearer TOK"}, token: "TOK"},
		{values: []string{"BEARER TOK"}, token: "TOK"},
		{values: []string{"BeArEr TOK"}, token: "TOK"},
		{values: []string{"Bearer    TOK"}, token: "TOK"},
		{values: []string{"Bearer aZ09-._~+/=="}, token: "aZ09-._~+/=="},
		{values: []string{"Bearer 123456789012"}, token: "123456789012"},
		{values: []string{"Bearer TOK"}, query: "access_tokens=x&Access_Token=y", token: "TOK"},

		{refused: refuseNoToken},
		{values: []string{""}, refused: refuseNoToken},
		{values: []string{"Basic dTpw"}, refused: refuseNoToken},
		{values: []string{"Basic"}, refused: refuseNoToken},
		{values: []string{"DPoP TOK"}, refused: refuseNoToken},
		{values: []string{"Token TOK"}, refused: refuseNoToken},
		{values: []string{"Bearers TOK"}, refused: refuseNoToken},
		{values: []string{"TOK"}, refused: refuseNoToken},
		{query: "access_token=TOK", refused: refuseNoToken},

		{values: []string{"Bearer TOK", "Bearer TOK"}, refused: refuseRequest},
		{values: []string{"Basic x", "Bearer TOK"}, refused: refuseRequest},
		{values: []string{"Bearer TOK"}, query: "access_token=TOK", refused: refuseRequest},
		{values: []string{"Bearer TOK"}, query: "a&acc%65ss_token", refused: refuseRequest},
		{values: []string{"Bearer a, Bearer b"}, refused: refuseRequest},
		{values: []string{"Bearer a b"}, refused: refuseRequest},
		{values: []string{"Bearer a\tb"}, refused: refuseRequest},
		{values: []string{"Bearer"}, refused: refuseRequest},
		{values: []string{"Bearer "}, refused: refuseRequest},
		{values: []string{"Bearer    "}, refused: refuseRequest},
		{values: []string{"Bearer\tTOK"}, refused: refuseRequest},
		{values: []string{"Bearer\xa0TOK"}, refused: refuseRequest},
		{values: []string{"Bearer=TOK"}, refused: refuseRequest},
		{values: []string{"Bearer:TOK"}, refused: refuseRequest},
		{values: []string{" Bearer TOK"}, refused: refuseRequest},
		{values: []string{`"Bearer" TOK`}, refused: refuseRequest},

		{values: []string{"Bearer 1234567890123"}, refused: refuseToken},
		{values: []string{"Bearer a,b"}, refused: refuseToken},
		{values: []string{`Bearer "TOK"`}, refused: refuseToken},
		{values: []string{"Bearer a;b"}, refused: refuseToken},
		{values: []string{"Bearer a%20b"}, refused: refuseToken},
		{values: []string{"Bearer a&b"}, refused: refuseToken},
		{values: []string{"Bearer a=b"}, refused: refuseToken},
		{values: []string{"Bearer ="}, refused: refuseToken},
		{values: []string{"Bearer é"}, refused: refuseToken},
		{values: []string{"Bearer \xff"}, refused: refuseToken},
		{values: []string{"Bearer a\x00b"}, refused: refuseToken},
	}
	for _, tt := range tests {
		token, refused, _ := limited.token(&request{authorization: tt.values, target: target{query: tt.query}})
		if token != tt.token || refused != tt.refused {
			t.Errorf("%q ?%s: token %q, refusal %+v; want %q, %+v", tt.values, tt.query, token, refused, tt.token, tt.refused)
		}
	}
}

func TestHasQueryToken(t *testing.T) {
	for _, query := range []string{
		"access_token", "access_token=", "access_token=x", "a=b&access_token=x", "a;access_token=x", "%61ccess_token=x",
		"access%5Ftoken=x", "a=%zz&access_token=x", "&&access_token",
	} {
		if !hasQueryToken(query) {
			t.Errorf("hasQueryToken(%q): got false, want true", query)
		}
	}
	for _, query := range []string{"", "token=x", "access_token2=x", "xaccess_token=x", "a=access_token", "ACCESS_TOKEN=x", "a=%61ccess_token", "access%zz_token"} {
		if hasQueryToken(query) {
			t.Errorf("hasQueryToken(%q): got true, want false", query)
		}
	}
}

// oneBearerToken is RFC 6750 §2.1 a second time, with RFC 9110 §11.4's "one or
// more blanks".
var oneBearerToken = regexp.MustCompile(`^(?i:bearer) +([A-Za-z0-9._~+/-]+=*)$`)

// FuzzBearerToken holds that the tokens that are accepted are those of RFC 6750
// within the limit, that a token is all there was, and that a second value or one
// in the query spoils it.
// limited takes tokens of tokenLimit bytes at most.
var limited = &authenticator{maxBytes: tokenLimit}

func FuzzBearerToken(f *testing.F) {
	for _, value := range []string{
		"Bearer TOK", "bearer  TOK", "Bearer TOK ", "Bearer a,b", "Bearer", "Basic x", "Bearer\tx", "Bearer ==", "Bearer a=b", "", " ", "Bearer \xff",
		"Bearer 1234567890123",
	} {
		f.Add(value, "")
	}
	f.Add("Bearer TOK", "access%5ftoken=1")
	f.Add("Bearer TOK", "a;access_token")
	f.Fuzz(func(t *testing.T, value, query string) {
		inQuery := hasQueryToken(query)
		token, refused, _ := limited.token(&request{authorization: []string{value}, target: target{query: query}})
		want := ""
		if match := oneBearerToken.FindStringSubmatch(value); match != nil && len(match[1]) <= tokenLimit && !inQuery {
			want = match[1]
		}
		if token != want || (token == "") != (refused != nil) {
			t.Fatalf("token %q and refusal %+v, want %q", token, refused, want)
		}
		if values, _ := url.ParseQuery(query); values.Has("access_token") && !inQuery {
			t.Errorf("%q: got no token in the query, want one", query)
		}
		if token, _, _ := limited.token(&request{authorization: []string{value, value}}); token != "" {
			t.Errorf("got token %q of two, want none", token)
		}
	})
}

func TestWithoutVerdict(t *testing.T) {
	live := t.Context()
	gone, cancel := context.WithCancel(live)
	cancel()
	failure := func(kind error) error { return &introspection.Failure{Kind: kind} }
	tests := []struct {
		client context.Context
		err    error
		want   *decision
	}{
		{live, introspection.ErrInactive, refuseToken},
		{live, fmt.Errorf("wrapped: %w", introspection.ErrInactive), refuseToken},
		{live, failure(introspection.ErrInvalidClient), refuseCredential},
		{gone, failure(introspection.ErrInvalidClient), refuseCredential},
		{live, failure(introspection.ErrUnavailable), refuseUnavailable},
		{live, failure(introspection.ErrMalformed), refuseUnavailable},
		{live, failure(introspection.ErrThrottled), refuseUnavailable},
		{live, failure(introspection.ErrBusy), refuseUnavailable},
		{live, context.DeadlineExceeded, refuseUnavailable},
		{live, errors.New("anything"), refuseUnavailable},
		{gone, context.Canceled, clientClosed},
		// Somebody else's context ended; this client waits for a response.
		{live, context.Canceled, refuseUnavailable},
	}
	for _, tt := range tests {
		if got := withoutVerdict(tt.err, tt.client.Err() != nil); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.err, got, tt.want)
		}
	}
}

// TestNoCall finds that what is refused for its form is never introspected.
func TestNoCall(t *testing.T) {
	s := newStack(t)
	for _, tt := range []struct {
		fields []string
		target string
		status int
	}{
		{nil, "/fhir/Patient", 401},
		{[]string{bearerTOK, bearerTOK}, "/fhir/Patient", 400},
		{[]string{bearerTOK}, "/fhir/Patient?access_token=TOK", 400},
		{nil, "/fhir/Patient?access_token=TOK", 401},
		{[]string{"Authorization: Bearer a\xffb"}, "/fhir/Patient", 401},
		{[]string{"Authorization: Bearer " + strings.Repeat("a", 65)}, "/fhir/Patient", 401},
		{[]string{"Authorization: Bearer a, Bearer b"}, "/fhir/Patient", 400},
		{[]string{"Proxy-Authorization: Bearer TOK"}, "/fhir/Patient", 401},
		{[]string{"Cookie: access_token=TOK", "X-Access-Token: TOK"}, "/fhir/Patient", 401},
		{[]string{"User-Agent: kube-probe/1.31"}, "/fhir/Patient", 401},
		{[]string{"X-Forwarded-Uri: /fhir/metadata", "X-Original-URL: /fhir/metadata"}, "/fhir/Patient", 401},
	} {
		if a := s.do(get(tt.target, tt.fields...)); a.StatusCode != tt.status {
			t.Errorf("%s %q: status %d, want %d", tt.target, tt.fields, a.StatusCode, tt.status)
		}
	}
	s.upstream.untouched()
	if asked := s.verdicts.asked(); len(asked) > 0 {
		t.Errorf("introspected %q, want nothing", asked)
	}
	// The longest token that is allowed is asked about, and once only.
	long := strings.Repeat("a", 64)
	if a := s.do(get("/fhir/Patient", "authorization: bEARER   "+long+" \t")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("long token: got status %d, want 401", a.StatusCode)
	}
	if asked := s.verdicts.asked(); len(asked) != 1 || asked[0] != long {
		t.Errorf("introspected %q, want %q", asked, long)
	}
}

func TestIsTokenChar(t *testing.T) {
	for c := range 256 {
		want := c < 128 && (slices.Contains([]byte(tokenSeparators), byte(c)) || foldReference(string(rune(c))) != "-")
		if isTokenChar(byte(c)) != want {
			t.Errorf("%q: %t", byte(c), !want)
		}
	}
}
