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
		"GET /Observation?patient=1": {"let through", "stays with the patient"},
		"GET /Observation?patient=2": {"status 403, insufficient_scope, patient", "leads to another patient", "SIDECAR_PATIENT_GUARD"},
		"GET /Task":                  {"status 403, insufficient_scope, interaction", "this would help: patient/Task.s", "SIDECAR_SCOPE_ENFORCEMENT"},
		"POST /$reindex":             {"status 403, insufficient_scope, operation", "SIDECAR_OPERATIONS"},
		"GET /Observation/5":         {"let through", "the URL doesn't tell"},
		"GET /metadata":              {"public, without looking at a token"},
		"GET /a//b":                  {"status 400, bad_path"},
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

func TestCheckRequestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "-request", "GET /Patient"},
		{"check", "-token-file", "/dev/null", "-request", "Patient"},
		{"check", "-token-file", "/dev/null", "-request", "GET Patient"},
		{"check", "-token-file", "/dev/null", "-request", "GET /Patient HTTP/1.1"},
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
		"warn  public URL", "no answer from http://127.0.0.1:9/.well-known/oauth-protected-resource/fhir",
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
