package main

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func foldRune(r rune) rune {
	switch {
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		return r
	}
	return '-'
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
			t.Fatalf("c.Write: got error %v, want none", err)
		}
		var all strings.Builder
		_, _ = c.Reader.WriteTo(&all)
		if text := all.String(); strings.Contains(text, "evil-value") || !strings.Contains(text, "X-Fine: yes") ||
			strings.Contains(strings.Map(foldRune, text), "x-launch") {
			t.Errorf("client got %q, want nothing of the namespace, and X-Fine", text)
		}
	}
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
		t.Errorf("got X-Forwarded-For %q, want one that ends with the peer", got)
	}
	// Trust is about links, not about rights.
	w.ask(t, "GET /fhir/Patient", "X-Forwarded-Uri: /fhir/metadata", "X-Forwarded-For: 127.0.0.1").refused(t, 401, "login", "none")
}

// B20, K08: claims reach the FHIR server by a reversible rule, or not at all.
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
		{"line feed in fhirContext", map[string]any{"fhirContext": []string{"a\nb"}}, map[string]string{"Fhir-Context": `[{"reference":"a\nb"}]`}, 200},
		{"line feed deep in fhirContext", map[string]any{"fhirContext": []any{map[string]any{"a": []any{map[string]any{"b": "x\ny"}}}}}, map[string]string{"Fhir-Context": `[{"a":[{"b":"x\ny"}]}]`}, 200},
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
					t.Error("FHIR server got the request, want it refused only")
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
						t.Errorf("got empty header %q, want none", line)
					}
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("got %q, want printable ASCII", line)
				}
			}
			if size >= 6<<10 {
				t.Errorf("got %d bytes of context headers, want less than %d", size, 6<<10)
			}
		})
	}
	if n := w.metric(t, "introspection_sidecar_omitted_headers_total"); n < 3 {
		t.Errorf("got %v omitted headers, want at least 3", n)
	}
	if n := w.metric(t, "introspection_sidecar_omitted_headers_total", `header="X-Launch-Scope"`); n != 1 {
		t.Errorf("got %v omitted scopes, want 1", n)
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
		t.Errorf("got X-Authorization-Expires %q, want one value", names)
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
		t.Error("got a refusal and a request at the FHIR server, want one of them")
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
