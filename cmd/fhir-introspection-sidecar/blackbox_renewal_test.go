package main

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// credentialMode is one of the ways in which the sidecar authenticates itself.
type credentialMode struct {
	name string
	auth introspectiontest.Auth
	// settings come with the file that holds the secret, if there is one.
	settings func(t *testing.T, as *introspectiontest.Server) (e env, file string)
	// calls are those for a token while every credential is refused; grants the
	// token requests beside them.
	calls, grants int
}

func credentialModes() []credentialMode {
	client := func(t *testing.T, secret string, e env) (env, string) {
		t.Helper()
		file := writeFile(t, "secret", secret)
		all := env{"BEARER_TOKEN_FILE": "", "CLIENT_ID": introspectiontest.DefaultClientID}
		maps.Copy(all, e)
		for name, value := range all {
			all[name] = strings.ReplaceAll(value, "FILE", file)
		}
		return all, file
	}
	const secret = introspectiontest.DefaultClientSecret
	return []credentialMode{
		{"bearer from a file", introspectiontest.BearerToken, func(t *testing.T, _ *introspectiontest.Server) (env, string) {
			t.Helper()
			file := writeFile(t, "bearer", introspectiontest.DefaultBearer)
			return env{"BEARER_TOKEN_FILE": file}, file
		}, 1, 0},
		{"grant with a secret", introspectiontest.BearerToken, func(t *testing.T, as *introspectiontest.Server) (env, string) {
			t.Helper()
			return client(t, secret, env{"TOKEN_ENDPOINT": as.TokenEndpoint(), "CLIENT_SECRET_FILE": "FILE"})
		}, 2, 1},
		{"grant with a key", introspectiontest.BearerToken, func(t *testing.T, as *introspectiontest.Server) (env, string) {
			t.Helper()
			return client(t, ecKey(t).pem, env{"TOKEN_ENDPOINT": as.TokenEndpoint(), "CLIENT_KEY_FILE": "FILE"})
		}, 2, 1},
		{"client_assertion", introspectiontest.ClientAssertion, func(t *testing.T, _ *introspectiontest.Server) (env, string) {
			t.Helper()
			return client(t, ecKey(t).pem, env{"INTROSPECTION_AUTH": "client_assertion", "CLIENT_KEY_FILE": "FILE"})
		}, 2, 0},
		{"client_secret_basic", introspectiontest.ClientSecretBasic, func(t *testing.T, _ *introspectiontest.Server) (env, string) {
			t.Helper()
			return client(t, secret, env{"INTROSPECTION_AUTH": "client_secret_basic", "CLIENT_SECRET_FILE": "FILE"})
		}, 1, 0},
		{"client_secret_post", introspectiontest.ClientSecretPost, func(t *testing.T, _ *introspectiontest.Server) (env, string) {
			t.Helper()
			return client(t, secret, env{"INTROSPECTION_AUTH": "client_secret_post", "CLIENT_SECRET_FILE": "FILE"})
		}, 1, 0},
		{"none", introspectiontest.NoAuth, func(*testing.T, *introspectiontest.Server) (env, string) {
			return env{"BEARER_TOKEN_FILE": "", "INTROSPECTION_AUTH": "none"}, ""
		}, 1, 0},
	}
}

// startMode runs a sidecar that has what it needs to ask.
func (m *credentialMode) start(t *testing.T, more env) (w *world, file string) {
	t.Helper()
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Auth: m.auth})
	e, file := m.settings(t, as)
	maps.Copy(e, more)
	w = startWith(t, as, e)
	eventually(t, "ready", func() bool { return w.get(t, "/readyz").status == 200 })
	return w, file
}

// H04: in every mode a refused credential is renewed once, if it can be, and the
// token is asked about once more; then the client gets 503. What is known already
// is served on, readiness is red, and all is well when the credential is.
func TestBlackboxRenewal(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for probes")
	}
	t.Parallel()
	refuse := introspectiontest.Respond(http.StatusUnauthorized, http.Header{"Content-Type": {"text/html"}}, "Access Denied")
	for _, mode := range credentialModes() {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w, _ := mode.start(t, nil)
			w.ask(t, "GET /fhir/Patient", good).is(t, 200)
			w.as.SetAnswer(refuse)
			calls, grants, began := w.as.IntrospectionsOf("t"), w.as.Grants(), time.Now()
			a := w.ask(t, "GET /fhir/Patient", bearer("t"), "X-Request-Id: caller", "X-Trace-Id: trace")
			a.refused(t, 503, "transient", "")
			n, g := w.as.IntrospectionsOf("t")-calls, w.as.Grants()-grants
			if mode.grants > 0 { // what was refused again is renewed in the background
				g -= int(time.Since(began) / time.Second)
			}
			if n != mode.calls || g > mode.grants {
				t.Errorf("%d introspections, %d token requests, want %d, %d", n, g, mode.calls, mode.grants)
			}
			checkTrace(t, w.as, "t", mode.calls)
			w.ask(t, "GET /fhir/Patient", good).is(t, 200)
			eventually(t, "readiness turns red", func() bool {
				ready := w.get(t, "/readyz")
				return ready.status == 503 && strings.Contains(ready.body, "own credential refused")
			})
			if got := w.get(t, "/livez").status; got != 200 {
				t.Errorf("livez %d, want 200", got)
			}
			if n := w.metric(t, "introspection_sidecar_requests_total", `decision="credential_rejected"`); n != 1 {
				t.Errorf("got %v requests counted as credential_rejected, want 1", n)
			}
			w.as.SetAnswer(nil)
			w.as.AddToken("t", nil)
			w.ask(t, "GET /fhir/Patient", bearer("t")).is(t, 200)
			if ready := w.get(t, "/readyz"); ready.status != 200 {
				t.Errorf("got readiness %d %s, want 200", ready.status, ready.body)
			}
		})
	}
}

// checkTrace: each call for a token has a request id of its own, and refers to the
// request that caused it.
func checkTrace(t *testing.T, as *introspectiontest.Server, token string, calls int) {
	t.Helper()
	ids := map[string]bool{}
	for _, r := range as.Requests() {
		if form, _ := url.ParseQuery(r.Body); form.Get("token") != token {
			continue
		}
		id := r.Header.Get("X-Request-Id")
		if ids[id] || !uuid.MatchString(id) || r.Header.Get("X-Correlation-Id") != "caller" || r.Header.Get("X-Trace-Id") != "trace" {
			t.Errorf("got introspection with %v, want a UUID of its own and the caller's ids", r.Header)
		}
		ids[id] = true
	}
	if len(ids) != calls {
		t.Errorf("got %d request ids in %d calls, want one each", len(ids), calls)
	}
}

// H04: a credential that is refused once, and good when it was renewed, costs the
// client nothing.
func TestBlackboxRenewalHelps(t *testing.T) {
	t.Parallel()
	for _, mode := range credentialModes() {
		if mode.auth == introspectiontest.NoAuth {
			continue // there is nothing to renew
		}
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w, file := mode.start(t, nil)
			var refused atomic.Bool
			w.as.SetAnswerFor("good", func(rw http.ResponseWriter, _ *http.Request, correct map[string]any) {
				if refused.Swap(true) {
					introspectiontest.WriteJSON(rw, http.StatusOK, correct)
					return
				}
				if mode.calls == 1 { // only another file is another credential
					replaceFile(t, file)
				}
				rw.WriteHeader(http.StatusUnauthorized)
			})
			grants := w.as.Grants()
			w.ask(t, "GET /fhir/Patient", good).is(t, 200)
			if n, g := w.as.IntrospectionsOf("good"), w.as.Grants()-grants; n != 2 || g != mode.grants {
				t.Errorf("%d introspections, %d token requests, want 2, %d", n, g, mode.grants)
			}
			if ready := w.get(t, "/readyz"); ready.status != 200 {
				t.Errorf("got readiness %d %s, want 200", ready.status, ready.body)
			}
		})
	}
}

// H13: our token expires while a call is under way, on which many wait. It is
// renewed once, the token is asked about once more, and nobody is refused.
func TestBlackboxRenewalInFlight(t *testing.T) {
	t.Parallel()
	const clients = 20
	for _, mode := range credentialModes() {
		if mode.grants == 0 {
			continue
		}
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w, _ := mode.start(t, env{"INTROSPECTION_TIMEOUT": "30s"})
			var expired atomic.Bool
			answers := w.together(t, clients, "good", func(rw http.ResponseWriter, _ *http.Request, _ map[string]any) {
				expired.Store(true)
				w.as.AcceptBearers()           // the one that came with this call is no longer good
				w.as.SetAnswerFor("good", nil) // what comes with a new one is answered
				rw.WriteHeader(http.StatusUnauthorized)
			})
			for _, a := range answers {
				if a.status != 200 {
					t.Errorf("got status %d, want 200", a.status)
				}
			}
			if n, g := w.as.IntrospectionsOf("good"), w.as.Grants(); n != 2 || g != 2 || !expired.Load() {
				t.Errorf("got %d introspections and %d token requests, want 2 and 2", n, g)
			}
		})
	}
}

// H08: whatever the token endpoint does wrong, it isn't stormed, nowhere followed,
// and not quoted; when it is right again, so is everything.
func TestBlackboxRenewalEndpoint(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	t.Parallel()
	trap := newRawAuthority(t, jsonAnswer(`{"access_token":"trapped","token_type":"Bearer","expires_in":300}`))
	respond := func(status int, media, body string) introspectiontest.Answer {
		return introspectiontest.Respond(status, http.Header{"Content-Type": {media}, "Location": {"http://" + trap.address + "/"}, "Retry-After": {"77"}}, body)
	}
	const page, asJSON = "<html>CANARY</html>", "application/json"
	for name, answer := range map[string]introspectiontest.Answer{
		"400 invalid_client": respond(400, asJSON, `{"error":"invalid_client","error_description":"CANARY"}`),
		"401":                respond(401, asJSON, `{"error":"CANARY"}`),
		"429":                respond(429, "text/plain", "CANARY"),
		"500":                respond(500, "text/html", page),
		"307":                respond(307, "text/html", page),
		"302":                respond(302, "text/html", page),
		"page":               respond(200, "text/html", page),
		"page called JSON":   respond(200, asJSON, page),
		"form":               respond(200, "application/x-www-form-urlencoded", "access_token=CANARY&token_type=Bearer"),
		"no token":           respond(200, asJSON, `{"token_type":"Bearer","CANARY":1}`),
		"token of two lines": respond(200, asJSON, `{"access_token":"CANARY\r\nX: y","token_type":"Bearer"}`),
		"token of no kind":   respond(200, asJSON, `{"access_token":"CANARY","token_type":"mac"}`),
		"expired as it came": respond(200, asJSON, `{"access_token":"CANARY","token_type":"Bearer","expires_in":0}`),
		"endless":            respond(200, asJSON, `{"x":"`+strings.Repeat("CANARY", 100_000)+`"}`),
		"reset":              introspectiontest.Reset(),
		"hangs":              introspectiontest.Hang(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			as := introspectiontest.NewServer(t)
			as.SetGrantAnswer(answer)
			w := startWith(t, as, env{
				"BEARER_TOKEN_FILE": "", "TOKEN_ENDPOINT": as.TokenEndpoint(), "CLIENT_ID": introspectiontest.DefaultClientID,
				"CLIENT_SECRET_FILE": writeFile(t, "s", introspectiontest.DefaultClientSecret), "INTROSPECTION_TIMEOUT": "1s",
			})
			began := time.Now()
			for range 10 {
				a := w.ask(t, "GET /fhir/Patient", good)
				a.refused(t, 503, "transient", "")
				if after := a.header.Get("Retry-After"); name == "429" && after != "77" {
					t.Errorf("got Retry-After %q, want 77", after)
				}
			}
			if n := as.Grants(); n > 2+int(time.Since(began)/time.Second) {
				t.Errorf("got %d token requests in %v, want at most one a second", n, time.Since(began))
			}
			ready := w.get(t, "/readyz")
			if ready.status != 503 || w.get(t, "/livez").status != 200 || as.Introspections() > 0 {
				t.Errorf("got readiness %d and %d introspections, want 503 and none", ready.status, as.Introspections())
			}
			if n := w.metric(t, "introspection_sidecar_credential_renewals_total", `result="failed"`); n < 1 {
				t.Errorf("got %v failures counted, want at least 1", n)
			}
			if text := w.stdout.String() + ready.body; strings.Contains(text, "CANARY") {
				t.Errorf("got %s, want nothing of the endpoint's words", around(text, "CANARY"))
			}
			as.SetGrantAnswer(nil)
			eventually(t, "ready", func() bool { return w.get(t, "/readyz").status == 200 })
			w.ask(t, "GET /fhir/Patient", good).is(t, 200)
		})
	}
	t.Cleanup(func() {
		if trap.conns > 0 {
			t.Errorf("got %d connections by a redirect, want none", trap.conns)
		}
	})
}

// replaceFile puts a file with other bytes, but the same secret, in place.
func replaceFile(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file+".new", slices.Concat(content, []byte("\n")), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Errorf("os.Rename: got error %v, want none", err)
	}
}
