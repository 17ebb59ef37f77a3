package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// H12: what the sidecar authenticates itself with goes to the authorization server
// and nowhere else: to no client, to no FHIR server, to no log, metric or page, not
// into arguments or environment, and not into a dump of a crash.
func TestBlackboxOwnSecrets(t *testing.T) {
	t.Parallel()
	for _, mode := range credentialModes() {
		if mode.auth == introspectiontest.NoAuth {
			continue
		}
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w, file := mode.start(t, env{"LOG_LEVEL": "debug", "AUDIT_LOG": "stdout", "CACHE_INACTIVE_AGE": "0"})
			sinks := map[string]string{}
			for i, answer := range []introspectiontest.Answer{
				nil, introspectiontest.Respond(http.StatusUnauthorized, nil, ""), introspectiontest.Respond(http.StatusInternalServerError, nil, ""),
				introspectiontest.Respond(http.StatusOK, nil, "{"), introspectiontest.Reset(), introspectiontest.Respond(http.StatusFound, http.Header{"Location": {"/"}}, ""),
				func(rw http.ResponseWriter, r *http.Request, _ map[string]any) { // repeats our credential
					rw.Header().Set("X-Echo", r.Header.Get("Authorization"))
					introspectiontest.WriteJSON(rw, http.StatusBadRequest, map[string]any{"error": r.Header.Get("Authorization")})
				},
			} {
				w.as.SetAnswer(answer)
				for _, token := range []string{"good", fmt.Sprint("other", i)} {
					a := w.ask(t, "GET /fhir/Patient", bearer(token))
					sinks[fmt.Sprint("answer ", i, token)] = fmt.Sprint(a.header, a.body)
				}
			}
			for _, path := range []string{"/livez", "/readyz", "/metrics", "/jwks.json", "/config", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/debug/vars", "/"} {
				a := w.get(t, path)
				sinks["admin "+path] = fmt.Sprint(a.header, a.body)
			}
			for _, r := range w.up.all() {
				sinks["FHIR server"] += r.head + r.body
			}
			for _, name := range []string{"cmdline", "environ"} {
				content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", w.cmd.Process.Pid, name))
				if err != nil && !os.IsNotExist(err) {
					t.Errorf("os.ReadFile: got error %v, want none", err)
				}
				sinks[name] = string(content)
			}
			for _, command := range []string{"check", "config", "version"} {
				_, stdout, stderr := runToEnd(t, nil, w.cmd.Env, command)
				sinks[command] = stdout + stderr
			}
			w.anyExit = true
			w.signal(syscall.SIGQUIT)
			w.wait(t)
			sinks["log"], sinks["dump"] = w.stdout.String(), w.stderr.String()
			if !strings.Contains(sinks["dump"], "goroutine ") || len(w.logs("request")) < 10 || !strings.Contains(sinks["check"], "introspection") {
				t.Errorf("got %s and %s, want a dump, log lines and a check, or this proves nothing", sinks["dump"], sinks["check"])
			}
			secrets := ownSecrets(t, w.as, file)
			for sink, text := range sinks {
				for _, secret := range secrets {
					if strings.Contains(text, secret) {
						t.Errorf("%s has %.20q, want no secret: %.300s", sink, secret, around(text, secret))
					}
				}
			}
		})
	}
}

// ownSecrets are the credentials that the authorization server got, and what they
// were made of.
func ownSecrets(t *testing.T, as *introspectiontest.Server, file string) (secrets []string) {
	t.Helper()
	for _, r := range as.Requests() {
		if _, credential, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
			plain, _ := base64.StdEncoding.DecodeString(credential)
			secrets = append(secrets, credential, string(plain))
		}
		form, _ := url.ParseQuery(r.Body)
		secrets = append(secrets, form.Get("client_secret"), form.Get("client_assertion"))
	}
	for line := range strings.Lines(readFile(t, file)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") {
			secrets = append(secrets, line)
		}
	}
	found := secrets[:0]
	for _, secret := range secrets {
		if len(secret) >= 16 {
			found = append(found, secret)
		}
	}
	if len(found) < 5 {
		t.Errorf("got %d credentials, want at least 5, or this proves nothing", len(found))
	}
	return found
}
