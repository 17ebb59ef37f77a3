package main

import (
	"strconv"
	"strings"
	"testing"
)

// checkPath checks "status code oauth", where "-" stands for no challenge; several
// with | between.
func checkPath(t *testing.T, a *answer, want string) {
	t.Helper()
	for one := range strings.SplitSeq(want, "|") {
		f := strings.Fields(one)
		if strconv.Itoa(a.status) != f[0] {
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
					t.Fatalf("%q %q: got %d requests at the FHIR server, want one with 200 only", c.tenant, c.rest, up.count()-before)
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
				t.Errorf("got target %q, want %q", got, target)
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
				t.Fatalf("%s: want %v", c.line, c.want)
			}
		}
		w.ask(t, "GET /Patient/1?_x=1", good).is(t, 200)
		if up.last(t).target() != "/Patient/1?_x=1" {
			t.Errorf("got target %q, want that of the request", up.last(t).target())
		}
	}
}
