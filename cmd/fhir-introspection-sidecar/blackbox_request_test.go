package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// checkEnv is a sidecar that isn't running, with a FHIR server and an authorization
// server that knows one token, in the file.
func checkEnv(t *testing.T, all claims) (e env, as *introspectiontest.Server, file string) {
	t.Helper()
	fhir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/fhir/metadata" {
			http.NotFound(w, r)
			return
		}
		introspectiontest.WriteJSON(w, 200, map[string]any{"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
	}))
	t.Cleanup(fhir.Close)
	as = introspectiontest.NewServer(t)
	as.AddToken("tried-token", all)
	e = leastEnv(t)
	e["UPSTREAM_URL"], e["INTROSPECTION_ENDPOINT"] = fhir.URL+"/fhir", as.Endpoint()
	e["BEARER_TOKEN_FILE"] = writeFile(t, "bearer", introspectiontest.DefaultBearer)
	return e, as, writeFile(t, "token", "tried-token\n")
}

// check shows what would become of a request, and why.
func TestCheckRequest(t *testing.T) {
	t.Parallel()
	all := claims{"scope": "patient/Observation.rs", "patient": "1", "exp": 4102444800}
	for request, want := range map[string][]string{
		"GET /Observation?patient=1":      {"let through", "stays with the patient"},
		"GET /Observation?patient=2":      {"status 403, insufficient_scope, patient", "leads to another patient", "SIDECAR_PATIENT_GUARD"},
		"GET /Task":                       {"status 403, insufficient_scope, interaction", "this would help: patient/Task.s", "SIDECAR_SCOPE_ENFORCEMENT"},
		"POST /$reindex":                  {"status 403, insufficient_scope, operation", "SIDECAR_OPERATIONS"},
		"GET /Observation/5":              {"let through", "the URL doesn't tell"},
		"GET /metadata":                   {"public, without looking at a token"},
		"GET /a//b":                       {"status 400, bad_path", "read such a path differently"},
		"FOO /Task":                       {"status 405, method_not_allowed", "no such method"},
		"GET /documents/1":                {"status 403, insufficient_scope, interaction", "FHIR knows no such path", "SIDECAR_PATH_SCOPES"},
		"GET /fhir/Observation?patient=1": {"GET /fhir/Observation?patient=1 (stays with the patient): let through"},
		"GET https://fhir.example.org/fhir/Observation?patient=1":  {"GET /fhir/Observation?patient=1 (stays with the patient): let through"},
		"GET https://fhir.example.org/other/Observation?patient=1": {"status 404, not_found", "SIDECAR_UPSTREAM_URL"},
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			e, _, file := checkEnv(t, all)
			e["SCOPE_ENFORCEMENT"], e["PATIENT_GUARD"] = "coarse", "enforce"
			code, stdout, stderr := runToEnd(t, e, nil, "check", "-token-file", file, "-request", request)
			if refused := strings.Contains(want[0], "status"); (code == 1) != refused {
				t.Errorf("got exit code %d, want 1 only for what is refused: %s%s", code, stdout, stderr)
			}
			for _, part := range want {
				if !strings.Contains(stdout, part) {
					t.Errorf("got %s, want %q in it", stdout, part)
				}
			}
		})
	}
}

// A token that isn't accepted makes it 401, whatever is asked for, and check says what it
// found instead of what it wanted.
func TestCheckRequestOfUnacceptedTokens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims claims
		want   []string
	}{
		"unknown": {nil, []string{"calls it inactive", "status 401, invalid_token, inactive", "whatever is asked for"}},
		"refresh": {claims{"scope": "user/*.rs", "token_use": "refresh_token"}, []string{"no access token: a refresh token", "status 401, invalid_token, kind"}},
		"bound":   {claims{"scope": "user/*.rs", "cnf": map[string]any{"jkt": "x"}}, []string{"bound to its sender (cnf)", "status 401, invalid_token, bound"}},
		"early":   {claims{"scope": "user/*.rs", "nbf": 4102444800}, []string{"nbf or iat is still to come", "status 401, invalid_token, not_yet"}},
		"lost":    {claims{"scope": "patient/*.rs"}, []string{"no patient that they are limited to", "status 403, insufficient_scope, patient_context", "SIDECAR_CLAIM_ALIASES", "this would help: launch/patient"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, _, file := checkEnv(t, c.claims)
			if c.claims == nil {
				file = writeFile(t, "token", "nobody-knows-it")
			}
			code, stdout, _ := runToEnd(t, e, nil, "check", "-token-file", file, "-request", "GET /Observation")
			for _, part := range c.want {
				if code != 1 || !strings.Contains(stdout, part) {
					t.Errorf("got %d %s, want 1 and %q in it", code, stdout, part)
				}
			}
			if strings.Contains(stdout, "likely cause: ;") {
				t.Errorf("got %s, want a cause", stdout)
			}
		})
	}
}

// Several requests are asked about with one introspection.
func TestCheckSeveralRequests(t *testing.T) {
	t.Parallel()
	e, as, file := checkEnv(t, claims{"scope": "user/Observation.rs"})
	e["SCOPE_ENFORCEMENT"] = "coarse"
	code, stdout, _ := runToEnd(t, e, nil, "check", "-token-file", file, "-request", "GET /Task", "-request", "GET /Observation")
	if !strings.Contains(stdout, "GET /fhir/Task: status 403") || !strings.Contains(stdout, "GET /fhir/Observation: let through") || code != 1 {
		t.Errorf("got %d %s, want both requests, one of them refused", code, stdout)
	}
	if n := as.Introspections(); n != 2 {
		t.Errorf("got %d introspections, want one of a random token and one of ours", n)
	}
}

func TestCheckRequestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "-request", "GET /Patient"},
		{"check", "-token-file", "/dev/null", "-request", "Patient"},
		{"check", "-token-file", "/dev/null", "-request", "GET Patient"},
		{"check", "-token-file", "/dev/null", "-request", "GET /Patient HTTP/1.1"},
		{"check", "-token-file", "/dev/null", "-request", "Patient", "-request", "GET /Patient"},
		{"check", "-token-file", "/dev/null", "-request", ""},
	} {
		if code, _, stderr := runToEnd(t, leastEnv(t), nil, args...); code != 2 || !strings.Contains(stderr, "-request takes") {
			t.Errorf("%q: got %d %s, want 2 and what -request takes", args, code, stderr)
		}
	}
}

// check tells what clients would find, and never fails for a name that leads nowhere
// from here.
func TestCheckPublished(t *testing.T) {
	t.Parallel()
	e, as, _ := checkEnv(t, nil)
	e["PUBLIC_URL"], e["RESOURCE_METADATA"] = "http://127.0.0.1:9/fhir", "on"
	e["SMART_CONFIGURATION"], e["ISSUER_URL"] = "serve", as.URL
	code, stdout, _ := runToEnd(t, e, nil, "check")
	for _, want := range []string{
		"warn  public URL", "no response from http://127.0.0.1:9/.well-known/oauth-protected-resource/fhir",
		"warn  SMART configuration", "doesn't name S256",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("got %d %s, want %q in it", code, stdout, want)
		}
	}
	if code != 0 {
		t.Errorf("got exit code %d, want 0: these are warnings", code)
	}
}
