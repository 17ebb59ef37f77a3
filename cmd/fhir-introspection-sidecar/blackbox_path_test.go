package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBlackboxPaths(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const (
		bad       = "400 invalid -"
		protected = "401 login none"
		absent    = "404 not-found -"
		public    = "200"
	)
	for _, c := range []struct{ id, line, want string }{
		{"public", "GET /fhir/metadata", public},
		{"public", "HEAD /fhir/metadata", public},
		{"public", "GET /fhir/.well-known/smart-configuration", public},
		{"public", "GET /fhir/metadata?mode=terminology&x=%zz;y", public},
		{"public", "GET /fhir/metadata?path=/fhir/Patient/../..", public},
		{"public", "GET http://evil.test/fhir/metadata", public},
		{"C05", "GET /fhir/metadata/%2e%2e/Patient", bad},
		{"C05", "GET /fhir/metadata/%2E%2E/Patient", bad},
		{"C05", "GET /fhir/metadata/.%2e/Patient", bad},
		{"C05", "GET /fhir/metadata/%2e./Patient", bad},
		{"C05", "GET /fhir/metadata%2e", bad},
		{"C06", "GET /fhir/metadata%2f..%2fPatient", bad},
		{"C06", "GET /fhir/metadata%2F..%2FPatient", bad},
		{"C06", "GET /fhir%2Fmetadata", bad + "|" + absent},
		{"C07", "GET /fhir/metadata/%252e%252e/Patient", protected + "|" + bad},
		{"C08", `GET /fhir/metadata\..\Patient`, bad},
		{"C08", "GET /fhir/metadata%5c..%5cPatient", bad},
		{"C08", "GET /fhir/metadata%5C", bad},
		{"C09", "GET /fhir/metadata/%c0%ae%c0%ae/Patient", bad},
		{"C09", "GET /fhir/metadata/%u002e", "400"},
		{"C10", "GET /fhir/metadata/..;/Patient", bad},
		{"C11", "GET /fhir/metadata;/../Patient", bad},
		{"C11", "GET /fhir/metadata;x=1", bad},
		{"C11", "GET /fhir/metadata%3b/Patient", bad + "|" + protected},
		{"C12", "GET /fhir/metadata/..;foo=bar/Patient", bad},
		{"C13", "GET /fhir/metadata/%2e/", bad},
		{"C13", "GET /fhir/metadata/.", bad},
		{"C13", "GET /fhir/./metadata", bad},
		{"C13", "GET /./fhir/metadata", bad},
		{"C13", "GET /x/../fhir/metadata", bad},
		{"C13", "GET /fhir/..", bad},
		{"C13", "GET /fhir/Patient/../metadata", bad},
		{"C14", "GET /fhir/metadata../Patient", protected},
		{"C16", "GET /fhir/Patient#/metadata", "400|401"},
		{"C16", "GET /fhir/metadata#/Patient", "400|401"},
		{"C16", "GET /fhir/Patient%23/metadata", protected},
		{"C17", "GET /fhir/metadata%00", bad},
		{"C17", "GET /fhir/metadata%00/Patient", bad},
		{"C17", "GET /fhir/metadata%0d%0a", bad + "|" + protected},
		{"C19", "GET /fhir/metadata%20", protected},
		{"C19", "GET /fhir/metadata%09", bad + "|" + protected},
		{"C19", "GET / fhir/metadata", "400"},
		{"C24", "GET http://evil.test", absent},
		{"C24", "GET https://evil.test/fhir/Patient", protected},
		{"C24", "GET http://evil.test/fhir/metadata/../Patient", bad},
		{"C24", "GET http://evil.test//fhir/metadata", bad},
		{"C24", "GET http:/fhir/metadata", "400|404|200"},
		{"C24", "GET http:fhir/metadata", "400|404"},
		{"C24", "GET //fhir/metadata", bad},
		{"C24", "GET //evil.test/fhir/metadata", bad},
		{"C24", "GET /fhir//metadata", bad},
		{"C24", "GET /fhir/metadata//", bad},
		{"C25", "GET /fhir/metadataX", protected},
		{"C25", "GET /fhir/metadata-foo", protected},
		{"C25", "GET /fhir/metadata/x", protected},
		{"C25", "GET /fhir/metadata/", protected},
		{"C25", "GET /fhir/base/metadata", protected},
		{"C25", "GET /fhir/METADATA", protected},
		{"C25", "GET /fhir/%6detadata", protected},
		{"C25", "GET /fhir/%6Detadata", protected},
		{"C25", "GET /fhir/.well-known/smart-configuration/", protected},
		{"C25", "GET /fhir/.well-known/openid-configuration", protected},
		{"C25", "GET /fhir/%2ewell-known/smart-configuration", bad},
		{"C25", "GET /fhir/metadata%3Fx", protected},
		{"C26", "POST /fhir/metadata", protected},
		{"C26", "PUT /fhir/metadata", protected},
		{"C26", "DELETE /fhir/metadata", protected},
		{"C26", "PATCH /fhir/metadata", protected},
		{"C26", "OPTIONS /fhir/metadata", protected},
		{"base", "GET /fhir", protected},
		{"base", "GET /fhir/", protected},
		{"base", "GET /fhir?x", protected},
		{"base", "GET /", absent},
		{"base", "GET /fhirX/metadata", absent},
		{"base", "GET /FHIR/metadata", absent},
		{"base", "GET /%66hir/metadata", absent},
		{"base", "GET /metadata", absent},
		{"base", "GET /other/fhir/metadata", absent},
		{"base", "GET /?x=/fhir/metadata", absent},
		{"own", "GET /livez", absent},
		{"own", "GET /readyz", absent},
		{"own", "GET /metrics", absent},
		{"own", "DELETE /cache", absent},
		{"own", "GET /jwks.json", absent},
		{"own", "GET /debug/pprof/", absent},
	} {
		t.Run(c.id+" "+c.line, func(t *testing.T) {
			// The wrong token must not be asked about where a path is refused.
			asked, upstream := w.as.Introspections(), w.up.count()
			a := w.ask(t, c.line)
			checkPath(t, a, c.want)
			if a.header["Location"] != nil || a.status/100 == 3 {
				t.Errorf("redirects: %v", a.header)
			}
			if a.status != 200 && w.up.count() != upstream {
				t.Errorf("FHIR server got %q", w.up.last(t).line)
			}
			if w.as.Introspections() != asked {
				t.Error("authorization server was asked")
			}
			if c.want == bad || c.want == absent {
				checkPath(t, w.ask(t, c.line, good), c.want)
				if w.up.count() != upstream && a.status != 401 {
					t.Errorf("FHIR server got %q with a token", w.up.last(t).line)
				}
			}
		})
	}
}

// checkPath is checkWant where "-" stands for no challenge.
func checkPath(t *testing.T, a *answer, want string) {
	t.Helper()
	for one := range strings.SplitSeq(want, "|") {
		f := strings.Fields(one)
		if a.status != number(f[0]) {
			continue
		}
		switch {
		case len(f) == 3 && f[2] == "-":
			a.refused(t, a.status, f[1], "")
		case len(f) == 3:
			a.refused(t, a.status, f[1], f[2])
		}
		return
	}
	t.Errorf("status %d, want %s: %v %.200s", a.status, want, a.header, a.body)
}

// C27, C30: what is forwarded is what came, byte for byte.
func TestBlackboxTargetsByteExact(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	many := "/fhir/Patient?a=1"
	for i := range 2000 {
		many += fmt.Sprintf("&a%d=x", i)
	}
	for _, target := range []string{
		"/fhir", "/fhir/", "/fhir?", "/fhir/Patient?", "/fhir/Patient/", "/fhir/Patient?&&", "/fhir/Patient??x=?y/z",
		"/fhir/Observation?_count=1&patient=123;x", "/fhir/Patient?_format=application/fhir+json;fhirVersion=4.0", "/fhir/Patient?patient=%zz",
		"/fhir/Patient?name=100%", "/fhir/Patient?b=2&a=1&b=1", "/fhir/Patient?a=%41&b=%2f&c=%2F&d=+&e=%20", "/fhir/Patient?x=a|b\\c^d`e{f}\"g<h>",
		"/fhir/Patient?code=http://loinc.org|1234-5", "/fhir/ValueSet/$expand?url=http://x%7C1.0", "/fhir/Patient/1/_history/2", "/fhir/Patient/a%20b",
		"/fhir/Patient/a:b@c,d!e'f(g)*h+i=j&k~l", "/fhir/Patient/%41%7e", "/fhir/Patient/%C3%A9", "/fhir/Patient/a..b", "/fhir/Patient/...",
		"/fhir/Patient/.hidden", "/fhir/Patient/%25", "/fhir/Patient/$everything?_since=2020-01-01T00:00:00+01:00", "/fhir/Patient?x=\xc3\xa9",
		"/fhir/Patient?a=../../b//c", "/fhir/Patient?%00", "/fhir/Binary/a%3Ab", "/fhir/Patient?a=b#c", many,
	} {
		name := target[:min(len(target), 60)]
		t.Run(name, func(t *testing.T) {
			a := w.ask(t, "GET "+target, good)
			if a.status != 200 {
				t.Fatalf("status %d", a.status)
			}
			if got := w.up.last(t).target(); got != target {
				t.Errorf("FHIR server got %q", got)
			}
		})
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
		w.ask(t, method+" http://evil.test/fhir/Patient/1?x=1;y", good, "Content-Length: 0").is(t, 200)
		if r := w.up.last(t); r.line != method+" /fhir/Patient/1?x=1;y HTTP/1.1" {
			t.Errorf("FHIR server got %q", r.line)
		}
	}
}

// C29: absurd paths cost nothing.
func TestBlackboxPathLong(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	began := time.Now()
	for _, path := range []string{
		"/fhir" + strings.Repeat("/..", 100_000), "/fhir/" + strings.Repeat("a", 1<<20), "/fhir" + strings.Repeat("/%2e%2e", 4000), "/fhir" + strings.Repeat("/..", 10_000),
	} {
		a := w.ask(t, "GET "+path, good)
		if a.status != 400 && a.status != 414 && a.status != 431 {
			t.Errorf("status %d", a.status)
		}
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if w.up.count() != 0 {
		t.Error("FHIR server got it")
	}
}

func TestBlackboxTenant(t *testing.T) {
	t.Parallel()
	for _, base := range []struct{ name, after string }{{"last segment", ""}, {"inner segment", "/r4"}} {
		t.Run(base.name, func(t *testing.T) {
			up := newUpstream(t)
			w := start(t, env{"UPSTREAM_URL": "http://" + up.address + "/fhir/{tenant}" + base.after, "PUBLIC_PATHS": "metadata, ImplementationGuide"})
			const protected, absent, bad = "401 login none", "404 not-found -", "400 invalid -"
			for _, c := range []struct{ tenant, rest, want string }{
				{"a", "/metadata", "200"},
				{"b", "/ImplementationGuide", "200"},
				{"a", "/.well-known/smart-configuration", protected},
				{"a", "/Patient", protected},
				{"a", "", protected},
				{"", "/metadata", bad},
				{"..", "/metadata", bad},
				{"a%2fr4", "/metadata", bad},
				{"a;b", "/metadata", bad},
			} {
				before := up.count()
				a := w.ask(t, "GET /fhir/"+c.tenant+base.after+c.rest)
				checkPath(t, a, c.want)
				if (a.status == 200) != (up.count() > before) || t.Failed() {
					t.Fatalf("%q %q", c.tenant, c.rest)
				}
			}
			checkPath(t, w.ask(t, "GET /fhir"), absent)
			if base.after != "" {
				for _, path := range []string{"/fhir/a/metadata", "/fhir/r4/metadata", "/fhir/a/b/r4/metadata", "/fhir/a/r4x/metadata", "/fhir/a/metadata/r4"} {
					checkPath(t, w.ask(t, "GET "+path), absent)
				}
			}
			target := "/fhir/tenant-1" + base.after + "/Patient?_x=1"
			w.ask(t, "GET "+target, good).is(t, 200)
			if got := up.last(t).target(); got != target {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestBlackboxRootBase(t *testing.T) {
	t.Parallel()
	for _, slash := range []string{"", "/"} {
		up := newUpstream(t)
		w := start(t, env{"UPSTREAM_URL": "http://" + up.address + slash})
		for _, c := range []struct{ line, want string }{
			{"GET /metadata", "200"},
			{"GET /Patient", "401 login none"},
			{"GET /", "401 login none"},
			{"GET /metrics", "404 not-found -"},
			{"GET /livez", "404 not-found -"},
			{"GET /readyz", "404 not-found -"},
			{"DELETE /cache", "404 not-found -"},
			{"GET /jwks.json", "404 not-found -"},
			{"GET //metadata", "400 invalid -"},
			{"GET http://evil.test", "401 login none|404 not-found -|400 invalid -"},
			{"OPTIONS *", "405 not-supported -"},
		} {
			checkPath(t, w.ask(t, c.line), c.want)
			if t.Failed() {
				t.Fatal(c.line)
			}
		}
		w.ask(t, "GET /Patient/1?_x=1", good).is(t, 200)
		if up.last(t).target() != "/Patient/1?_x=1" {
			t.Errorf("got %q", up.last(t).target())
		}
	}
}

func TestBlackboxMethods(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, c := range []struct{ name, raw, want string }{
		{"D01 OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n\r\n", "405"},
		{"D01 OPTIONS * with preflight headers", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n" + preflightHeaders + "\r\n" + good + "\r\n\r\n", "405"},
		{"GET *", "GET * HTTP/1.1\r\n" + host + "\r\n" + good + "\r\n\r\n", "405|400|404"},
		{"D04 TRACE", request("TRACE /fhir/Patient", good), "405"},
		{"D04 TRACE public", request("TRACE /fhir/metadata"), "405"},
		{"D04 TRACK", request("TRACK /fhir/Patient", good), "405"},
		{"D05 PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "405|400|505"},
		{"D10 get", request("get /fhir/Patient", good), "405"},
		{"D10 Get public", request("Get /fhir/metadata"), "405"},
		{"CONNECT authority", "CONNECT fhir.test:443 HTTP/1.1\r\n" + host + "\r\n" + good + "\r\n\r\n", "405"},
		{"CONNECT path", request("CONNECT /fhir/Patient", good), "405"},
		{"CONNECT public", request("CONNECT /fhir/metadata"), "405"},
		{"LINK", request("LINK /fhir/Patient", good), "405"},
		{"PROPFIND", request("PROPFIND /fhir/Patient", good), "405"},
		{"odd", request("X!#$%&'*+-.^_`|~1 /fhir/Patient", good), "405"},
		{"long", request(strings.Repeat("M", 10_000)+" /fhir/Patient", good), "405|431"},
		{"outside the base", request("TRACE /other"), "405|404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.up.count()
			conn := dial(t, w.data)
			a, err := conn.do(c.raw)
			if err != nil {
				t.Fatal(err)
			}
			checkPath(t, a, c.want)
			if a.status == 405 {
				a.refused(t, 405, "not-supported", "")
				if a.header.Get("Allow") == "" {
					t.Error("405 without Allow") // RFC 9110 §15.5.6
				}
				if more, err := conn.do(request("GET /fhir/metadata")); err == nil {
					t.Errorf("connection lives on: %d", more.status)
				}
			}
			if w.up.count() != before {
				t.Errorf("FHIR server got %q", w.up.last(t).line)
			}
		})
	}
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="method_not_allowed"`, `code="4xx"`); n < 10 {
		t.Errorf("%v counted", n)
	}
	if log := w.stdout.String(); strings.Contains(log, "PROPFIND") || strings.Contains(log, "MMMM") {
		t.Error("a client's method stands in the log")
	}
}

func TestBlackboxVersions(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, c := range []struct{ raw, want string }{
		{"GET /fhir/Patient HTTP/1.0\r\n\r\n", "401|400"},
		{"GET /fhir/Patient HTTP/1.0\r\n" + good + "\r\n\r\n", "200|400"},
		{"GET /fhir/Patient\r\n\r\n", "400|505"},
		{"GET /fhir/Patient HTTP/2.0\r\n" + host + "\r\n\r\n", "505|400"},
		{"GET /fhir/Patient HTTP/1.9\r\n" + host + "\r\n\r\n", "401|400|505"},
		{"GET /fhir/Patient HTTP/1.10\r\n" + host + "\r\n\r\n", "400|505"},
		{"GET /fhir/Patient HTTP/1.1\r\n" + good + "\r\n\r\n", "400"},
		{"GET /fhir/Patient HTTP/1.1\r\n" + host + "\r\nHost: other\r\n" + good + "\r\n\r\n", "400"},
		{"GET /fhir/Patient HTTP/1.1\r\nHost: a/b\r\n" + good + "\r\n\r\n", "400"},
		{"GET /fhir/Patient HTTP/1.1\r\nHost: a\";for=evil\r\n" + good + "\r\n\r\n", "400|200"},
		{"GET  /fhir/Patient HTTP/1.1\r\n" + host + "\r\n\r\n", "400"},
		{"GET /fhir/Patient  HTTP/1.1\r\n" + host + "\r\n\r\n", "400"},
	} {
		a := w.send(t, c.raw)
		if !strings.Contains(c.want, fmt.Sprint(a.status)) {
			t.Errorf("%q: %d, want %s", c.raw, a.status, c.want)
		}
	}
	// D12, B25: a body where none is usual; the host is kept as it came.
	w.send(t, request("GET /fhir/Patient", good, "Content-Length: 3")+"abc").is(t, 200)
	if r := w.up.last(t); r.body != "abc" {
		t.Errorf("body %q", r.body)
	}
	w.send(t, "GET /fhir/Patient HTTP/1.1\r\nHost: other.example:8443\r\n"+good+"\r\n\r\n").is(t, 200)
	r := w.up.last(t)
	r.has(t, "Host", "other.example:8443")
	r.has(t, "X-Forwarded-Host", "other.example:8443")
}

// D13-D16, I18: protocols are never switched.
func TestBlackboxUpgrade(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
	for _, head := range []string{
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
		"Connection: upgrade\r\nUpgrade: TLS/1.0", "Connection: Upgrade\r\nUpgrade: foo, websocket", "Upgrade: h2c", "Connection: Upgrade\r\nUpgrade: \xff",
		"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket",
	} {
		for _, route := range []string{"GET /fhir/Patient", "GET /fhir/metadata"} {
			a := w.ask(t, route, good, head)
			if a.status != 200 && a.status != 400 && a.status != 502 {
				t.Errorf("%s %q: %d", route, head, a.status)
			}
			if w.up.count() == 0 {
				continue
			}
			r := w.up.last(t)
			r.has(t, "Upgrade", "")
			r.has(t, "HTTP2-Settings", "")
			r.has(t, "Connection", "")
		}
		w.up.bytesOn("/fhir/switch", switching+"SECRET", false)
		conn := dial(t, w.data)
		a, err := conn.do(request("GET /fhir/switch", good, head))
		if err != nil || a.status != 502 && a.status != 400 || strings.Contains(a.body, "SECRET") {
			t.Fatal(err, a)
		}
		if a.status == 502 {
			a.refused(t, 502, "transient", "")
		}
	}
	w.ask(t, "GET /fhir/switch", good).refused(t, 502, "transient", "") // unasked
}
