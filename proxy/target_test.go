package proxy

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestParseTarget(t *testing.T) {
	tests := []struct {
		raw  string
		want target
	}{
		{"/fhir/Patient", target{path: "/fhir/Patient"}},
		{"/fhir/Patient?", target{path: "/fhir/Patient", hasQuery: true}},
		{"/fhir/Patient?a=1?b", target{path: "/fhir/Patient", query: "a=1?b", hasQuery: true}},
		{"/fhir?u=http://x/y", target{path: "/fhir", query: "u=http://x/y", hasQuery: true}},
		{"/a://b/c", target{path: "/a://b/c"}},
		{"http://evil.test/fhir/metadata", target{path: "/fhir/metadata"}},
		{"HTTPS://u:p@evil.test:1/fhir?x", target{path: "/fhir", query: "x", hasQuery: true}},
		{"http://evil.test", target{}},
		{"http://evil.test?x=/fhir", target{query: "x=/fhir", hasQuery: true}},
		{"http:/fhir/Patient", target{path: "http:/fhir/Patient"}},
		{"://", target{}},
		{"*", target{path: "*"}},
		{"h:443", target{path: "h:443"}},
		{"", target{}},
	}
	for _, tt := range tests {
		if got := parseTarget(tt.raw); got != tt.want {
			t.Errorf("parseTarget(%q) = %+v, want %+v", tt.raw, got, tt.want)
		}
	}
}

func TestUnambiguous(t *testing.T) {
	for _, path := range []string{
		"", "/", "/Patient", "/Patient/", "/Patient/1.2.3", "/Patient/...", "/a/.b", "/a/b.", "/a/..b", "/.well-known/x",
		"/ValueSet/$expand", "/ValueSet/%24expand", "/Patient/a%20b", "/Patient/é", "/Patient/%C3%A9", "/Patient/a|b",
		"/Patient/%7C", `/Patient/"x"`, "/metadata%20", "/%6detadata", "/metadata/%252e%252e/Patient", "/Patient%23/metadata",
		"/Patient/%3b", "/Patient/x%3fy",
	} {
		if !(target{path: path}).unambiguous() {
			t.Errorf("unambiguous(%q): got false, want true", path)
		}
	}
	for _, path := range []string{
		"//", "//x", "/a//b", "/a//", "/.", "/./a", "/a/.", "/..", "/a/../b", "/a/..",
		"/metadata/%2e%2e/Patient", "/metadata/%2E%2E/Patient", "/metadata/.%2e/Patient", "/metadata/%2e./Patient",
		"/metadata/%2e", "/a/b%2ec", "/metadata%2f..%2fPatient", "/a%2Fb", "/a%5cb", "/a%5Cb", `/a\b`, `/metadata\..\Patient`,
		"/metadata/..;/Patient", "/metadata;/../Patient", "/metadata;x=1", "/;", "/Patient#/metadata", "/metadata/..;a=b/x",
		"/metadata%00", "/metadata%0d%0a", "/metadata%09", "/a%7f", "/a%c2%85", "/a%C2%80b", "/metadata/%c0%ae%c0%ae/Patient", "/a%ff", "/a\xff",
		"/%u002e", "/a%", "/a%2", "/a%zz", "/a%2",
		"/é/%2e%2e/b", "/%C3%A9%2f", "/Patient/1 HTTP/1.0", "/Patient ",
	} {
		if (target{path: path}).unambiguous() {
			t.Errorf("unambiguous(%q): got true, want false", path)
		}
	}
	for query, want := range map[string]bool{"": true, "a=b;c&d=%zz//../#": true, "a=b HTTP/1.0": false, " ": false} {
		if got := (target{path: "/Patient", query: query, hasQuery: true}).unambiguous(); got != want {
			t.Errorf("query %q: %t, want %t", query, got, want)
		}
	}
}

func TestBaseBelow(t *testing.T) {
	tests := []struct {
		base, path, rest string
		ok               bool
	}{
		{"/fhir", "/fhir", "", true},
		{"/fhir", "/fhir/", "", true},
		{"/fhir", "/fhir/Patient/1", "Patient/1", true},
		{"/fhir/", "/fhir/Patient", "Patient", true},
		{"/fhir", "/fhirx", "", false},
		{"/fhir", "/fhi", "", false},
		{"/fhir", "/FHIR/Patient", "", false},
		{"/fhir", "/", "", false},
		{"/fhir", "", "", false},
		{"/fhir", "*", "", false},
		{"", "/", "", true},
		{"/", "/Patient", "Patient", true},
		{"", "Patient", "", false},
		{"", "", "", false},
		{"", "http:/Patient", "", false},
		{"/fhir/{tenant}", "/fhir/a", "", true},
		{"/fhir/{tenant}", "/fhir/a/Patient", "Patient", true},
		{"/fhir/{tenant}", "/fhir/", "", false},
		{"/fhir/{tenant}", "/fhir", "", false},
		{"/fhir/{tenant}/r4", "/fhir/a/r4/Patient", "Patient", true},
		{"/fhir/{tenant}/r4", "/fhir/a/r4", "", true},
		{"/fhir/{tenant}/r4", "/fhir/a/r4x", "", false},
		{"/fhir/{tenant}/r4", "/fhir/a/b/r4", "", false},
		{"/{tenant}", "/a/metadata", "metadata", true},
		{"/{tenant}", "/metadata", "", false},
		{"/fhir/{tenant}", "/fhir/$expunge", "", false},
		{"/fhir/{tenant}", "/fhir/%24expunge", "", false},
		{"/fhir/{tenant}", "/fhir/_history", "", false},
		{"/fhir/{tenant}", "/fhir/_search", "", false},
		{"/fhir/{tenant}", "/fhir/.well-known/smart-configuration", "", false},
		{"/fhir/{tenant}", "/fhir/a%20b/Patient", "", false},
		{"/fhir/{tenant}", "/fhir/a_b-c.d/Patient", "Patient", true},
		{"/fhir/{tenant}", "/fhir/DEFAULT/$expunge", "$expunge", true},
	}
	for _, tt := range tests {
		b, err := newBase((&url.URL{Path: tt.base}).EscapedPath())
		if err != nil {
			t.Fatalf("newBase(%q): got error %v, want none", tt.base, err)
		}
		_, rest, ok := b.split(tt.path)
		if ok != tt.ok || ok && rest != tt.rest {
			t.Errorf("%q below %q = %q, %t, want %q, %t", tt.path, tt.base, rest, ok, tt.rest, tt.ok)
		}
	}
}

func TestCheckBase(t *testing.T) {
	for _, path := range []string{"", "/", "/fhir", "/fhir/", "/fhir/{tenant}", "/%7Btenant%7D/fhir", "/hapi-fhir.v4/fhir"} {
		if err := CheckBase(path); err != nil {
			t.Errorf("CheckBase(%q): got error %v, want none", path, err)
		}
	}
	for _, path := range []string{
		"/{tenant}/{tenant}", "/x{tenant}", "/{tenant}x", "/{id}", "/{", "/fhir/..", "/a//b", "//", "/fhir//", "/{tenant}//", "/a;b", "/a%2fb", "{tenant}",
	} {
		if CheckBase(path) == nil {
			t.Errorf("CheckBase(%q): got no error, want one", path)
		}
	}
}

func TestCheckPublicPath(t *testing.T) {
	for _, path := range []string{"metadata", ".well-known/smart-configuration", "Questionnaire/$x"} {
		if err := CheckPublicPath(path); err != nil {
			t.Errorf("CheckPublicPath(%q): got error %v, want none", path, err)
		}
	}
	for _, path := range []string{"", "/", "/metadata", "metadata/", "a//b", "../x", "a;b", "metadata?x", "a%2e"} {
		if CheckPublicPath(path) == nil {
			t.Errorf("CheckPublicPath(%q): got no error, want one", path)
		}
	}
}

// normalise is how a server might read a path that trusts nobody's reading: it
// drops path parameters, decodes once, takes backslashes for slashes and
// resolves dot and empty segments.
func normalise(raw string) (string, bool) {
	var segments []string
	for segment := range strings.SplitSeq(raw, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		segments = append(segments, segment)
	}
	decoded, err := url.PathUnescape(strings.Join(segments, "/"))
	if err != nil || !utf8.ValidString(decoded) || strings.ContainsFunc(decoded, unicode.IsControl) {
		return "", false
	}
	cleaned := path.Clean(strings.ReplaceAll(decoded, `\`, "/"))
	if strings.HasSuffix(decoded, "/") && cleaned != "/" {
		cleaned += "/"
	}
	return cleaned, true
}

// FuzzTarget holds that a path that passes is read alike by a server that
// normalises and one that doesn't, and has its segments where they seem to be.
func FuzzTarget(f *testing.F) {
	for _, raw := range []string{
		"/fhir/Patient?x=1", "/a/../b", "/a/%2e%2e/b", "/a;/../b", "/a%2fb", `/a\..\b`, "/a/..;/b", "/é", "/a%c0%ae", "http://h/a",
		"/%252e%252e/", "/a%3b/b", "//", "/.", "*", "/a b", "/a?b c", "/a%00", "/a/b%5c..%5c", "/%C3%A9%2F",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := url.ParseRequestURI(raw); err != nil {
			return // net/http answers 400
		}
		parsed := parseTarget(raw)
		if !parsed.unambiguous() || !strings.HasPrefix(parsed.path, "/") {
			return
		}
		normal, ok := normalise(parsed.path)
		if !ok {
			t.Fatalf("%q passes, want a refusal of what has no reading", parsed.path)
		}
		decoded, _ := url.PathUnescape(parsed.path)
		if normal != decoded {
			t.Errorf("%q passes and reads as %q too, want a refusal", parsed.path, normal)
		}
		if strings.Count(normal, "/") != strings.Count(parsed.path, "/") {
			t.Errorf("%q passes, want a refusal of what hides a slash", parsed.path)
		}
		// What goes upstream is what was decided about.
		u := &url.URL{Scheme: "http", Host: "h", Opaque: parsed.path, RawQuery: parsed.query, ForceQuery: parsed.hasQuery && parsed.query == ""}
		want := parsed.path
		if parsed.hasQuery {
			want += "?" + parsed.query
		}
		if got := u.RequestURI(); got != want || strings.Contains(got, " ") {
			t.Errorf("%q goes upstream as %q", want, got)
		}
	})
}

// FuzzBase holds that below never says yes to a path that isn't the base or
// under it, segment by segment.
func FuzzBase(f *testing.F) {
	for _, seed := range [][2]string{
		{"/fhir", "/fhir/Patient"},
		{"/fhir", "/fhirx"},
		{"fhir", "fhir/x"},
		{"", "/metrics"},
		{"/fhir/{tenant}", "/fhir/a/Patient"},
		{"/fhir/{tenant}/r4", "/fhir/a/r4"},
		{"/a/{tenant}", "/a//b"},
		{"/{tenant}", "/a"},
		{"{tenant}", "x"},
		{"/%7Btenant%7D", "/x/y"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, basePath, requestPath string) {
		u, err := url.ParseRequestURI(basePath)
		if err != nil || u.Host != "" || u.Opaque != "" {
			return
		}
		b, err := newBase(u.EscapedPath())
		if err != nil {
			return
		}
		_, rest, ok := b.split(requestPath)
		want := strings.Split(strings.TrimRight(strings.NewReplacer("%7B", "{", "%7D", "}").Replace(u.EscapedPath()), "/"), "/")
		have := strings.Split(requestPath, "/")
		is := requestPath != "" && len(have) >= len(want)
		for i := 0; is && i < len(want); i++ {
			is = have[i] == want[i] || want[i] == tenantSegment && isTenant(have[i])
		}
		if ok != is {
			t.Fatalf("%q below %q: %t, want %t", requestPath, basePath, ok, is)
		}
		if ok && rest != strings.Join(have[len(want):], "/") {
			t.Errorf("%q below %q: got %q, want %q", requestPath, basePath, rest, strings.Join(have[len(want):], "/"))
		}
	})
}

// TestTargetBytes sends request targets that net/url or ReverseProxy would
// repair, and looks at the bytes that arrive.
func TestTargetBytes(t *testing.T) {
	s := newStack(t)
	for _, target := range []string{
		"/fhir/Observation?_count=1&patient=123;x",
		"/fhir/Patient?_format=application/fhir+json;fhirVersion=4.0",
		"/fhir/Patient?patient=%zz",
		"/fhir/Patient?b=2&a=1&&=&c",
		"/fhir/Patient?",
		"/fhir/Patient??",
		"/fhir/Patient",
		"/fhir",
		"/fhir/",
		"/fhir/Patient/",
		"/fhir/Patient/é?name=é",
		"/fhir/Patient?code=http://loinc.org|1234-5",
		"/fhir/Patient/a|b?x=\"y\"'z'<>{}[]^`",
		`/fhir/Patient/"x"'y'<z>{}^` + "`",
		"/fhir/ValueSet/$expand?url=http://x%7C1.0",
		"/fhir/ValueSet/%24expand?a=%2e%2e/%2f;//..",
		"/fhir/Patient/%252e%252e/x",
		"/fhir/Patient/%c3%A9",
		"/fhir/Patient/1/_history/2",
		"/fhir/Patient?a=b#c",
		"/fhir/Patient?" + strings.Repeat("a=%20&", 2000),
	} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} { // relay, and ReverseProxy
			a := s.do(message(method, target, "", bearerTOK))
			if a.StatusCode != http.StatusOK {
				t.Errorf("%s %q: got status %d, want 200", method, target, a.StatusCode)
				continue
			}
			if got, want := s.upstream.got().line, method+" "+target+" HTTP/1.1"; got != want {
				t.Errorf("FHIR server got %q, want %q", got, want)
			}
		}
	}
	if a := s.do(get("http://u:p@evil.test:8/fhir/metadata?x;y")); a.StatusCode != http.StatusOK {
		t.Errorf("absolute-form: got status %d, want 200", a.StatusCode)
	}
	r := s.upstream.got()
	if r.line != "GET /fhir/metadata?x;y HTTP/1.1" || len(r.all("Authorization")) > 0 {
		t.Errorf("absolute-form: FHIR server got %q %q, want origin-form and no Authorization", r.line, r.fields)
	}
}

// B25: what may stand in Host, and so in headers and links made from it.
func TestIsHost(t *testing.T) {
	for _, host := range []string{
		"", "fhir.test", "fhir.test:8000", "fhir.test:", "FHIR.Test", "a_b.c-d", "fhir.test.", "10.0.0.1:80", "[::1]", "[2001:db8::1]:8443",
		strings.Repeat("a", maxHost) + ":65535",
	} {
		if !isHost(host) {
			t.Errorf("isHost(%q): got false, want true", host)
		}
	}
	for _, host := range []string{
		`a";for=evil`, "a,b", "a;b", "a b", "a/b", "a@b", `a\b`, "a?b", "a#b", "a%00b", "a%2fb", "a'b", "a=b", "a<b>", "\u00e9", "\xff", "a\r\nb",
		":80", ":", "a:b", "a:80:80", "a:800000", "::1", "[::1", "::1]", "[::1]x", "[fe80::1%25eth0]", "[10.0.0.1]", "[]", "[a]",
		strings.Repeat("a", maxHost+1),
	} {
		if isHost(host) {
			t.Errorf("isHost(%q): got true, want false", host)
		}
	}
}
