package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const preflightHeaders = "Origin: https://app.example\r\nAccess-Control-Request-Method: GET"

// No spelling of a context header gets through, on no route.
func TestBlackboxSpoofNames(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	claims := w.as.Claims()
	delete(claims, "patient")
	w.as.AddToken("nopatient", claims)
	separators := "!#$%&'*+.^_`|~-"
	names := []string{
		"X-Launch-Patient", "x-launch-patient", "X-LAUNCH-PATIENT", "X_Launch_Patient", "X.Launch.Patient", "X-Launch_Patient",
		"x_launch-patient", "X-Launch-Other", "X-Launch-", "X_Launch_", "X-Launch--Patient", "x-lAuNcH-tenant", "X-Launch-patient-",
	}
	for _, s := range separators {
		names = append(names, fmt.Sprintf("x%clAunch%cpatient", s, s), fmt.Sprintf("X-Launch%cPatient", s), fmt.Sprintf("X%cLaunch-Patient", s))
	}
	for _, route := range []struct{ name, line, head string }{
		{"protected", "GET /fhir/Patient", good},
		{"B10 claim absent", "GET /fhir/Patient", "Authorization: Bearer nopatient"},
		{"B09 public", "GET /fhir/metadata", "X-A: b"},
		{"B09 public with token", "GET /fhir/metadata", good},
		{"B09 preflight", "OPTIONS /fhir/Patient", preflightHeaders},
		{"smart configuration", "HEAD /fhir/.well-known/smart-configuration", "X-A: b"},
	} {
		t.Run(route.name, func(t *testing.T) {
			before := w.metric(t, "introspection_sidecar_spoofed_headers_total")
			c := dial(t, w.data)
			for _, name := range names {
				if a, err := c.do(request(route.line, route.head, name+": evil-value")); err != nil || a.status != 200 {
					t.Fatal(err, a)
				}
				r := w.up.last(t)
				r.lacks(t, "evil-value")
				for line := range strings.SplitSeq(r.head, "\r\n") {
					if folded := strings.Map(foldRune, line); strings.HasPrefix(folded, "x-launch-") && !strings.HasPrefix(line, "X-Launch-") {
						t.Errorf("%s became %q", name, line)
					}
				}
				want := ""
				if route.name == "protected" {
					want = "123"
				}
				r.has(t, "X-Launch-Patient", want)
			}
			if n := w.metric(t, "introspection_sidecar_spoofed_headers_total") - before; n != float64(len(names)) {
				t.Errorf("%v of %d counted", n, len(names))
			}
		})
	}
}

func foldRune(r rune) rune {
	switch {
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		return r
	}
	return '-'
}

func TestBlackboxSpoofHopByHop(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, connection := range []string{
		"X-Launch-Patient", "close, x-launch-patient", "close, X_Launch_Patient, Authorization", "keep-alive, x-launch-user,x-request-id",
		"X-Forwarded-For, X-Forwarded-Proto, X-Request-Id, Host", "\r\nConnection: X-Launch-Patient", " , ,X-Launch-Patient;q=1",
		"Content-Length", "Transfer-Encoding, Content-Type",
	} {
		t.Run("B12 "+connection, func(t *testing.T) {
			w.ask(t, "GET /fhir/Patient", good, "Connection: "+connection, "X-Launch-Patient: evil", "X-Request-Id: req-9").is(t, 200)
			r := w.up.last(t)
			r.has(t, "X-Launch-Patient", "123")
			r.has(t, "X-Launch-User", "Practitioner/77")
			r.has(t, "Authorization", "Bearer good")
			r.has(t, "X-Request-Id", "req-9")
			r.has(t, "X-Forwarded-For", "127.0.0.1")
			r.has(t, "X-Forwarded-Proto", "http")
			r.has(t, "X-Forwarded-Host", "fhir.test")
			r.has(t, "Connection", "")
			r.has(t, "Host", "fhir.test")
		})
	}
	t.Run("with a body", func(t *testing.T) {
		w.send(t, request("POST /fhir/Patient", good, "Connection: Content-Length, Transfer-Encoding", "Content-Length: 3")+"abc").is(t, 200)
		if r := w.up.last(t); r.body != "abc" {
			t.Errorf("body %q", r.body)
		}
	})
	// What isn't ours is hop-by-hop as nominated.
	w.ask(t, "GET /fhir/Patient", good, "Connection: X-Own", "X-Own: 1", "Keep-Alive: 1", "Te: trailers", "Proxy-Connection: close").is(t, 200)
	r := w.up.last(t)
	for _, name := range []string{"X-Own", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization"} {
		r.has(t, name, "")
	}
}

func TestBlackboxSpoofTrailers(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, trailer := range []string{"Trailer: X-Launch-Patient", "Trailer: X_Launch_Patient, X-Ok", "X-None: 1"} {
		for _, name := range []string{"X-Launch-Patient", "X_Launch_Patient", "x.launch.patient"} {
			raw := request("POST /fhir/Patient", good, trailer, "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n" + name + ": evil-value\r\n\r\n"
			a := w.send(t, raw)
			r := w.up.last(t)
			if a.status != 200 && a.status != 400 || a.status == 200 && r.body != "abc" {
				t.Errorf("%s, %s: %d %q", trailer, name, a.status, r.body)
			}
			r.lacks(t, "evil-value")
			for _, announced := range r.values("Trailer") {
				if strings.Contains(strings.Map(foldRune, announced), "x-launch") {
					t.Errorf("Trailer: %s", announced)
				}
			}
		}
	}
}

// Response headers of the family are removed too, trailers and 1xx included.
func TestBlackboxSpoofFromUpstream(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.up.bytesOn("/fhir/a", "HTTP/1.1 103 Early Hints\r\nX-Launch-Patient: evil-value\r\nLink: </x>\r\n\r\n"+
		"HTTP/1.1 200 OK\r\nX-Launch-Patient: evil-value\r\nx_launch_user: evil-value\r\nX-Fine: yes\r\nTransfer-Encoding: chunked\r\n"+
		"Trailer: X-Launch-Scope, X-T\r\n\r\n2\r\nok\r\n0\r\nX-Launch-Scope: evil-value\r\nX_Launch_Undeclared: evil-value\r\nX-T: t\r\n\r\n", true)
	for _, head := range []string{good, good + "\r\nTE: trailers"} {
		c := dial(t, w.data)
		if _, err := c.Write([]byte(request("GET /fhir/a", head, "Connection: close"))); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		_, _ = c.Reader.WriteTo(&all)
		if text := all.String(); strings.Contains(text, "evil-value") || !strings.Contains(text, "X-Fine: yes") ||
			strings.Contains(strings.Map(foldRune, text), "x-launch") {
			t.Errorf("client got %q", text)
		}
	}
}

func TestBlackboxSpoofOverrides(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	removed := []string{
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override", "x.http.method.override",
		"X-Original-URL", "X-Rewrite-URL", "X_Original_URL", "X_Rewrite_Url", "Proxy", "PROXY",
		"X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Port", "X-Forwarded-Method", "X-Forwarded-User", "X-Forwarded-Email",
		"X_Forwarded_For", "x.forwarded.host", "X-Forwarded_Proto", "Forwarded", "forwarded", "X-Forwarded-Server", "X_Forwarded_Prefix",
	}
	for _, route := range [][2]string{{"GET /fhir/Patient", good}, {"GET /fhir/metadata", "X-A: b"}, {"OPTIONS /fhir/Patient", preflightHeaders}} {
		for _, name := range removed {
			w.ask(t, route[0], route[1], name+": evil-value", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test").is(t, 200)
			r := w.up.last(t)
			for _, text := range []string{"evil-value", "6.6.6.6", "evil.test"} {
				r.lacks(t, text)
			}
			r.has(t, "X-Forwarded-For", "127.0.0.1")
			r.has(t, "X-Forwarded-Proto", "http")
			r.has(t, "X-Forwarded-Host", "fhir.test")
			if t.Failed() {
				t.Fatalf("%s on %s", name, route[0])
			}
		}
	}
	// None of them opens a door.
	for _, name := range append(removed, "User-Agent") {
		for _, value := range []string{"/fhir/metadata", "OPTIONS", "127.0.0.1", "kube-probe/1.31", "for=127.0.0.1"} {
			w.ask(t, "GET /fhir/Patient", name+": "+value).refused(t, 401, "login", "none")
		}
	}
	w.ask(t, "DELETE /fhir/metadata", "X-HTTP-Method-Override: GET").refused(t, 401, "login", "none")
}

func TestBlackboxSpoofTrustedProxies(t *testing.T) {
	t.Parallel()
	w := start(t, env{"TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.0/8"})
	w.ask(t, "GET /fhir/Patient", good, "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: fhir.example",
		"X-Forwarded-Prefix: /base", "Forwarded: for=203.0.113.7;proto=https", "X_Forwarded_Host: evil-value", "X.Forwarded.For: evil-value").is(t, 200)
	r := w.up.last(t)
	r.has(t, "X-Forwarded-For", "203.0.113.7, 127.0.0.1")
	r.has(t, "X-Forwarded-Proto", "https")
	r.has(t, "X-Forwarded-Host", "fhir.example")
	r.has(t, "X-Forwarded-Prefix", "/base")
	r.has(t, "Forwarded", "for=203.0.113.7;proto=https")
	r.lacks(t, "evil-value")
	w.ask(t, "GET /fhir/Patient", good, "Connection: X-Forwarded-For, X-Forwarded-Proto", "X-Forwarded-For: 203.0.113.7").is(t, 200)
	if got := w.up.last(t).values("X-Forwarded-For"); len(got) != 1 || !strings.HasSuffix(got[0], "127.0.0.1") {
		t.Errorf("X-Forwarded-For %q", got)
	}
	// Trust is about links, not about rights.
	w.ask(t, "GET /fhir/Patient", "X-Forwarded-Uri: /fhir/metadata", "X-Forwarded-For: 127.0.0.1").refused(t, 401, "login", "none")
}

// B20: claims reach the FHIR server by a reversible rule, or not at all.
func TestBlackboxContextForms(t *testing.T) {
	t.Parallel()
	w := start(t, env{"HEADERS": "patient,encounter,user,fhirContext,intent,tenant,sub,iss,client_id,scope,exp,username,aud,jti,resource,definition"})
	big := strings.Repeat("a", 1024)
	for i, c := range []struct {
		name   string
		claims map[string]any
		want   map[string]string
		status int
	}{
		{
			"plain",
			map[string]any{"sub": "a b", "jti": "j", "resource": "Task/1", "definition": "d", "username": "u"},
			map[string]string{"Subject": "a b", "Token-Id": "j", "Resource": "Task/1", "Definition": "d", "Username": "u", "Patient": "", "Scope": ""},
			200,
		},
		{
			"percent and UTF-8",
			map[string]any{"intent": "100% Süß", "sub": "\u202e"},
			map[string]string{"Intent": "100%25 S%C3%BC%C3%9F", "Subject": "%E2%80%AE"},
			200,
		},
		{"aud one", map[string]any{"aud": "x"}, map[string]string{"Audience": `["x"]`}, 200},
		{"aud list", map[string]any{"aud": []string{"x", "ü\""}}, map[string]string{"Audience": `["x","\u00fc\""]`}, 200},
		{"scope list", map[string]any{"scope": []string{"a", "b"}}, map[string]string{"Scope": "a b"}, 200},
		{
			"empty claims",
			map[string]any{"sub": "", "patient": "", "aud": []string{}, "scope": "", "fhirContext": []string{}, "tenant": nil},
			map[string]string{"Subject": "", "Patient": "", "Audience": "", "Scope": "", "Fhir-Context": "", "Tenant": ""},
			200,
		},
		{"fhirUser first", map[string]any{"fhirUser": "Patient/1", "user": "Patient/2"}, map[string]string{"User": "Patient/1"}, 200},
		{"azp", map[string]any{"azp": "z"}, map[string]string{"Client-Id": "z"}, 200},
		{"client_id first", map[string]any{"azp": "z", "client_id": "c"}, map[string]string{"Client-Id": "c"}, 200},
		{"ids", map[string]any{"patient": "Patient/p-1.x", "encounter": "Encounter/e"}, map[string]string{"Patient": "p-1.x", "Encounter": "e"}, 200},
		{"patient of another type", map[string]any{"patient": "Practitioner/1"}, map[string]string{"Patient": ""}, 200},
		{"patient too long", map[string]any{"patient": strings.Repeat("1", 65)}, map[string]string{"Patient": ""}, 200},
		{"patient with slash", map[string]any{"patient": "1/../2"}, map[string]string{"Patient": ""}, 200},
		{"patient with comma", map[string]any{"patient": "1,2"}, map[string]string{"Patient": ""}, 200},
		{"fhirContext object", map[string]any{"fhirContext": map[string]any{"reference": "Task/1"}}, map[string]string{"Fhir-Context": `[{"reference":"Task/1"}]`}, 200},
		{
			"fhirContext mixed",
			map[string]any{"fhirContext": []any{"Task/1", map[string]any{"reference": "Task/ü"}}},
			map[string]string{"Fhir-Context": `[{"reference":"Task/1"},{"reference":"Task/\u00fc"}]`},
			200,
		},
		{"exp fraction", map[string]any{"exp": 4102444800.75}, map[string]string{"Expires": "4102444800"}, 200},
		{"scope of 4 KiB", map[string]any{"scope": strings.Repeat("s", 4096)}, map[string]string{"Scope": strings.Repeat("s", 4096)}, 200},
		{"scope over 4 KiB", map[string]any{"scope": strings.Repeat("s", 4097), "sub": "s"}, map[string]string{"Scope": "", "Subject": "s"}, 200},
		{
			"over 6 KiB",
			map[string]any{"sub": big, "iss": big, "intent": big, "tenant": big, "username": big, "jti": big, "resource": big, "patient": "1"},
			map[string]string{"Patient": "1", "Subject": big},
			200,
		},
		{"line feed", map[string]any{"sub": "a\nX-Evil: 1"}, nil, 503},
		{"carriage return", map[string]any{"intent": "a\r"}, nil, 503},
		{"NUL", map[string]any{"tenant": "a\x00b"}, nil, 503},
		{"DEL", map[string]any{"iss": "a\x7f"}, nil, 503},
		{"C1", map[string]any{"user": "a\u0085b"}, nil, 503},
		{"tab", map[string]any{"client_id": "a\tb"}, nil, 503},
		{"escape in aud", map[string]any{"aud": []string{"a\x1b"}}, nil, 503},
		{"line feed in fhirContext", map[string]any{"fhirContext": []string{"a\nb"}}, nil, 503},
		{"line feed deep in fhirContext", map[string]any{"fhirContext": []any{map[string]any{"a": []any{map[string]any{"b": "x\ny"}}}}}, nil, 503},
		{"control in scope", map[string]any{"scope": "a\vb"}, nil, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := "t" + strconv.Itoa(i)
			w.as.AddToken(token, c.claims)
			before := w.up.count()
			a := w.ask(t, "GET /fhir/Patient", "Authorization: Bearer "+token)
			if c.status != 200 {
				a.refused(t, c.status, "transient", "")
				if w.up.count() != before {
					t.Error("FHIR server got the request")
				}
				return
			}
			a.is(t, 200)
			r := w.up.last(t)
			for name, value := range c.want {
				r.has(t, "X-Launch-"+name, value)
			}
			size := 0
			for line := range strings.SplitSeq(r.head, "\r\n") {
				if strings.HasPrefix(line, "X-Launch-") {
					size += len(line) + 2
					if strings.HasSuffix(line, ": ") {
						t.Errorf("empty header %q", line)
					}
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("not printable ASCII: %q", line)
				}
			}
			if size >= 6<<10 {
				t.Errorf("%d bytes of context headers", size)
			}
		})
	}
	if n := w.metric(t, "introspection_sidecar_omitted_headers_total"); n < 3 {
		t.Errorf("%v omitted headers", n)
	}
	if n := w.metric(t, "introspection_sidecar_omitted_headers_total", `header="X-Launch-Scope"`); n != 1 {
		t.Errorf("%v omitted scopes", n)
	}
}

func TestBlackboxContextSettings(t *testing.T) {
	t.Parallel()
	w := start(t, env{"HEADER_PREFIX": "x-authorization-", "HEADERS": "patient, exp", "UPSTREAM_AUTHORIZATION": "strip"})
	w.ask(t, "GET /fhir/Patient", good, "X_Authorization_Patient: evil-value", "X-Authorization-Subject: evil-value", "X-Launch-Patient: passes").is(t, 200)
	r := w.up.last(t)
	r.has(t, "X-Authorization-Patient", "123")
	r.has(t, "X-Authorization-Subject", "")
	r.has(t, "Authorization", "")
	r.lacks(t, "evil-value")
	r.lacks(t, "Bearer good")
	if names := w.up.last(t).values("X-Authorization-Expires"); len(names) != 1 {
		t.Errorf("X-Authorization-Expires %q", names)
	}
}

// Scopes that bind a token to one patient, and a patient nobody can name.
func TestBlackboxContextLostPatient(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	claims := w.as.Claims()
	claims["patient"] = "https://other.example/Patient/1"
	w.as.AddToken("lost", claims)
	before := w.up.count()
	if a := w.ask(t, "GET /fhir/Observation", "Authorization: Bearer lost"); a.status == 200 {
		w.up.last(t).has(t, "X-Launch-Patient", "")
		t.Log("forwarded without patient")
	} else if w.up.count() != before {
		t.Error("refused and forwarded")
	}
}

// The client's own header values don't change on their way.
func TestBlackboxContextOthersUntouched(t *testing.T) {
	t.Parallel()
	w := startWith(t, introspectiontest.NewServer(t), nil)
	lines := []string{
		"Accept: application/fhir+json;fhirVersion=4.0", "Accept-Encoding: br;q=0.5, gzip", "If-None-Exist: identifier=x|y", "If-Match: W/\"3\"",
		"Prefer: return=representation, respond-async", "X-Provenance: {\"a\":1}", "User-Agent: a b/1", "Accept-Language: nl", "Cookie: a=b",
		"X-Custom: " + strings.Repeat("v", 4000), "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Range: bytes=0-1",
	}
	w.ask(t, "GET /fhir/Patient", append(slices.Clone(lines), good)...).is(t, 200)
	r := w.up.last(t)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.has(t, name, value)
	}
	// And none appears that nobody sent.
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	r = w.up.last(t)
	for _, name := range []string{"User-Agent", "Accept-Encoding", "Accept", "Cookie", "Via"} {
		r.has(t, name, "")
	}
}
