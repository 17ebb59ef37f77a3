package proxy

import (
	"net/http"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// TestPublicPaths: a path is public as it is written, and below a prefix, which is not
// public itself.
func TestPublicPaths(t *testing.T) {
	p, err := newPublicPaths([]string{"metadata", "images/*", ".well-known/*"})
	if err != nil {
		t.Fatalf("newPublicPaths: got error %v, want none", err)
	}
	for path, want := range map[string]bool{
		"metadata": true, "images/a": true, "images/a/b": true, ".well-known/smart-configuration": true,
		"": false, "Metadata": false, "metadata/": false, "metadata/a": false, "images": false, "images/": false, "imagesX": false,
		"images*": false, "Images/a": false, "Patient/images/a": false, ".well-known": false, "xwell-known/a": false,
		"images/%252e%252e/Patient": false, "images/a/%252fPatient": false, "images/..%20/Patient": false, "images/a%20b": true, "images/a..b": true,
	} {
		if got := p.has(path); got != want {
			t.Errorf("has(%q): got %t, want %t", path, got, want)
		}
	}
}

// TestBodyWithoutToken: whoever sends no token sends no body either, however it is
// framed.
func TestBodyWithoutToken(t *testing.T) {
	s := newStack(t)
	asks := []string{"Origin: https://app.test", "Access-Control-Request-Method: PUT"}
	for name, raw := range map[string]string{
		"public":            message("GET", "/fhir/metadata", "{}"),
		"public, HEAD":      message("HEAD", "/fhir/metadata", "{}"),
		"public, chunked":   get("/fhir/metadata", "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n",
		"public, good":      message("GET", "/fhir/metadata", "{}", bearerTOK),
		"preflight":         message("OPTIONS", "/fhir/Patient", "{}", asks...),
		"preflight chunked": message("OPTIONS", "/fhir/Patient", "", append(asks, "Transfer-Encoding: chunked")...) + "2\r\n{}\r\n0\r\n\r\n",
	} {
		if a := s.do(raw); a.StatusCode != http.StatusBadRequest || !a.Close {
			t.Errorf("%s: got status %d, connection ends %t, want 400 and true", name, a.StatusCode, a.Close)
		}
	}
	s.upstream.untouched()
}

// TestProtocolFault is for what net/http itself refuses in some versions of Go.
func TestProtocolFault(t *testing.T) {
	for _, tt := range []struct {
		major int
		uri   string
		want  *decision
	}{
		{2, "/fhir/metadata", nil},
		{2, "*", nil},
		{2, "https://evil.test/fhir/metadata", refusePath},
		{2, "fhir/metadata", refusePath},
		{2, "", refusePath},
		{1, "http://fhir.test/fhir/metadata", nil},
	} {
		r := &http.Request{Method: http.MethodGet, ProtoMajor: tt.major, ProtoMinor: 1, RequestURI: tt.uri, Host: "fhir.test", Header: http.Header{}}
		if got := protocolFault(r); got != tt.want {
			t.Errorf("HTTP/%d, %q: got %v, want %v", tt.major, tt.uri, got, tt.want)
		}
	}
	for _, tt := range []struct {
		lengths []string
		length  int64
		want    *decision
	}{
		{nil, -1, nil},
		{[]string{"3"}, 3, nil},
		{[]string{"3", "3"}, 3, refuseBody},
		{[]string{"3", "5"}, 3, refuseBody},
		{[]string{"+3"}, 3, refuseBody},
		{[]string{"3"}, 0, refuseBody},
	} {
		r := &http.Request{
			Method: http.MethodPost, ProtoMajor: 2, RequestURI: "/fhir/Patient", Host: "fhir.test",
			Header: http.Header{}, ContentLength: tt.length,
		}
		if tt.lengths != nil {
			r.Header["Content-Length"] = tt.lengths
		}
		if got := protocolFault(r); got != tt.want {
			t.Errorf("lengths %q, body of %d: got %v, want %v", tt.lengths, tt.length, got, tt.want)
		}
	}
}

// TestCORSOrigins: a page gets leave as it is listed; one without an origin gets none.
func TestCORSOrigins(t *testing.T) {
	for _, tt := range []struct {
		origins         []string
		origin          string
		allow, withAuth string
	}{
		{[]string{"*"}, "https://app.test", "*", ""},
		{[]string{"*"}, "null", "", ""},
		{[]string{"*"}, "", "", ""},
		{[]string{"https://app.test"}, "https://app.test", "https://app.test", "true"},
		{[]string{"https://app.test"}, "https://app.test.evil", "", ""},
		{[]string{"https://app.test"}, "null", "", ""},
		{[]string{"*", "https://app.test"}, "https://app.test", "https://app.test", "true"},
	} {
		h := wire.Fields{}
		newCORS(tt.origins).write(&h, tt.origin)
		if allow, auth := h.Get("access-control-allow-origin"), h.Get("access-control-allow-credentials"); allow != tt.allow || auth != tt.withAuth {
			t.Errorf("%q, %q: got %q, credentials %q, want %q, %q", tt.origins, tt.origin, allow, auth, tt.allow, tt.withAuth)
		}
		if h.Get("vary") != "Origin" {
			t.Errorf("%q, %q: got Vary %q, want Origin", tt.origins, tt.origin, h.Get("vary"))
		}
	}
}
