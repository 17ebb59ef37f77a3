package main

import (
	"strings"
	"testing"
)

const (
	listed   = "https://app.example.org"
	unlisted = "https://evil.example.org"
)

// cors are the CORS headers of a response: origin, credentials and whether they vary.
func (a *answer) cors() [3]string {
	return [3]string{
		strings.Join(a.header["Access-Control-Allow-Origin"], "|"), strings.Join(a.header["Access-Control-Allow-Credentials"], "|"),
		strings.Join(a.header["Vary"], ", "),
	}
}

// answersCORS has the FHIR server write CORS headers of its own.
func answersCORS(w *world, path string) {
	w.up.bytesOn(path, "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\n"+
		"Access-Control-Expose-Headers: X-Secret\r\nVary: Accept\r\nContent-Length: 2\r\n\r\n{}", true)
}

// Listed origins get the headers on every response, with credentials; nobody else does.
func TestBlackboxCORS(t *testing.T) {
	t.Parallel()
	w := start(t, env{"CORS_ORIGINS": listed + ",http://localhost:3000"})
	answersCORS(w, "/fhir/Patient/1")
	answersCORS(w, "/fhir/metadata")
	answersCORS(w, "/fhir/Patient/2")
	w.up.bytesOn("/fhir/Patient/3", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true)
	for _, c := range []struct {
		request string
		status  int
		header  []string
	}{
		{"GET /fhir/Patient/1", 200, []string{good}},
		{"GET /fhir/metadata", 200, nil},
		{"GET /fhir/Patient/1", 401, nil},
		{"GET /fhir/Patient/1", 401, []string{bearer("unknown")}},
		{"GET /elsewhere", 404, nil},
		{"GET /fhir/a//b", 400, nil},
	} {
		for origin, want := range map[string][2]string{
			listed: {listed, "true"}, "http://localhost:3000": {"http://localhost:3000", "true"},
			unlisted: {}, "null": {}, "": {}, "HTTPS://APP.EXAMPLE.ORG": {}, listed + ".evil": {}, listed + ", " + unlisted: {},
		} {
			header := c.header
			if origin != "" {
				header = append([]string{"Origin: " + origin}, header...)
			}
			a := w.ask(t, c.request, header...)
			a.is(t, c.status)
			got := a.cors()
			if [2]string{got[0], got[1]} != want || !strings.Contains(got[2], "Origin") {
				t.Errorf("%s from %q: got %q, want %q and Vary: Origin", c.request, origin, got, want)
			}
			if strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "X-Secret") || (want[0] != "") != (a.header.Get("Access-Control-Expose-Headers") != "") {
				t.Errorf("%s from %q: exposed %q, want our own list with the origin", c.request, origin, a.header.Get("Access-Control-Expose-Headers"))
			}
		}
	}
	if got := w.ask(t, "GET /fhir/Patient/1", good).cors()[2]; !strings.Contains(got, "Accept") {
		t.Errorf("got Vary %q, want the FHIR server's kept", got)
	}
}

// Preflights are answered here, without a token.
func TestBlackboxCORSPreflight(t *testing.T) {
	t.Parallel()
	w := start(t, env{"CORS_ORIGINS": listed})
	before := w.up.count()
	ask := func(origin string, header ...string) *answer {
		return w.ask(t, "OPTIONS /fhir/Patient/1", append([]string{"Origin: " + origin, "Access-Control-Request-Method: PUT"}, header...)...)
	}
	a := ask(listed, "Access-Control-Request-Headers: authorization,if-match,x-own")
	a.is(t, 204)
	h := a.header
	if a.cors()[0] != listed || a.cors()[1] != "true" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") ||
		h.Get("Access-Control-Allow-Headers") != "authorization,if-match,x-own" || h.Get("Access-Control-Max-Age") == "" || a.body != "" {
		t.Errorf("got %v %q, want what was asked for", h, a.body)
	}
	if got := ask(listed).header.Get("Access-Control-Allow-Headers"); !strings.Contains(got, "Authorization") {
		t.Errorf("got headers %q, want those of a FHIR client", got)
	}
	for _, origin := range []string{unlisted, "null", listed + ":8443"} {
		a := ask(origin, "Access-Control-Request-Headers: authorization")
		a.is(t, 204)
		if a.cors()[0] != "" || a.header["Access-Control-Allow-Methods"] != nil || a.header["Access-Control-Allow-Headers"] != nil {
			t.Errorf("from %s: got %v, want nothing allowed", origin, a.header)
		}
	}
	if got := ask(listed, "Access-Control-Request-Headers: a b,<x>").header.Get("Access-Control-Allow-Headers"); strings.Contains(got, "<") {
		t.Errorf("got headers %q, want field names only", got)
	}
	w.send(t, "OPTIONS /fhir/Patient/1 HTTP/1.1\r\nHost: x\r\nOrigin: "+listed+"\r\nAccess-Control-Request-Method: PUT\r\nContent-Length: 1\r\n\r\nx").
		refused(t, 400, "invalid", "")
	w.ask(t, "OPTIONS /elsewhere", "Origin: "+listed, "Access-Control-Request-Method: GET").refused(t, 404, "not-found", "")
	if got := w.up.count(); got != before {
		t.Errorf("the FHIR server got %d preflights, want none", got-before)
	}
	w.ask(t, "OPTIONS /fhir/Patient/1", "Origin: "+listed, good).is(t, 200) // no preflight: forwarded
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="preflight"`, `code="2xx"`); n != 6 {
		t.Errorf("got %v preflights, want 6", n)
	}
}

// Every origin never comes with credentials, and null is no origin.
func TestBlackboxCORSAny(t *testing.T) {
	t.Parallel()
	w := start(t, env{"CORS_ORIGINS": "*"})
	answersCORS(w, "/fhir/Patient/1")
	for _, c := range []string{good, "X-None: 1"} {
		if got := w.ask(t, "GET /fhir/Patient/1", c, "Origin: "+unlisted).cors(); got[0] != "*" || got[1] != "" {
			t.Errorf("got %q, want * without credentials", got)
		}
		if got := w.ask(t, "GET /fhir/Patient/1", c, "Origin: null").cors(); got[0] != "" || got[1] != "" {
			t.Errorf("got %q for null, want nothing", got)
		}
	}
	a := w.ask(t, "OPTIONS /fhir/Patient/1", "Origin: "+unlisted, "Access-Control-Request-Method: GET")
	if got := a.cors(); a.status != 204 || got[0] != "*" || got[1] != "" {
		t.Errorf("got %d %q, want 204 and * without credentials", a.status, got)
	}
}

// Documents that are served here are open to every page, listed or not, and so are their
// preflights; a listed one gets its credentials too.
func TestBlackboxCORSOfDocuments(t *testing.T) {
	t.Parallel()
	for _, origins := range []string{listed, ""} {
		w := start(t, env{"CORS_ORIGINS": origins, "RESOURCE_METADATA": "on", "PUBLIC_URL": "https://fhir.example.org/fhir"})
		for _, path := range []string{"/.well-known/oauth-protected-resource/fhir", "/fhir/.well-known/oauth-protected-resource"} {
			for _, origin := range []string{listed, unlisted, "null"} {
				want := [2]string{"*", ""}
				if origin == origins {
					want = [2]string{listed, "true"}
				}
				for method, status := range map[string]int{"GET": 200, "OPTIONS": 204} {
					a := w.ask(t, method+" "+path, "Origin: "+origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-own")
					a.is(t, status)
					if got := a.cors(); [2]string{got[0], got[1]} != want {
						t.Errorf("%s %s from %s with %q listed: got %q, want %q", method, path, origin, origins, got, want)
					}
					if allowed := a.header.Get("Access-Control-Allow-Headers"); method == "OPTIONS" && allowed != "x-own" {
						t.Errorf("%s from %s: got headers %q, want x-own", path, origin, allowed)
					}
				}
			}
		}
		if n := w.up.count(); n != 0 {
			t.Errorf("the FHIR server got %d requests, want none", n)
		}
	}
}
