package main

import (
	"net"
	"strings"
	"testing"
)

// A fault of each kind ends the program with 2 and a line that names the variable and
// doesn't repeat the value. TestSettings has all faults.
// URLs that are none are M09; a secret in the environment is a fault (L18).
func TestBlackboxConfigFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ variable, value string }{
		{"UPSTREAM_URL", ""},
		{"UPSTREAM_URL", "http://u:CANARY@h/"},
		{"INTROSPECTION_ENDPOINT", "http://as.CANARY/i"},
		{"INTROSPECTION_AUTH", "CANARY"},
		{"BEARER_TOKEN_FILE", "/nowhere/CANARY"},
		{"INTROSPECTION_TIMEOUT", "CANARY"},
		{"CACHE_MAX_ENTRIES", "CANARY"},
		{"HEADER_PREFIX", "X-CANARY\r\n-"},
		{"HEADERS", "CANARY"},
		{"TRUSTED_PROXIES", "CANARY"},
		{"LISTEN_ADDRESS", "CANARY"},
		{"TLS_CERT_FILE", "/nowhere/CANARY"},
		{"CLIENT_SECRET", "CANARY"},
		{"UPSTREEM_URL", "CANARY"},
		{"lower", "CANARY"},
	} {
		t.Run(c.variable+"="+strings.ReplaceAll(c.value, "/", "_"), func(t *testing.T) {
			t.Parallel()
			e := leastEnv(t)
			e[c.variable] = c.value
			code, stdout, stderr := runToEnd(t, e, nil)
			if code != 2 {
				t.Errorf("got exit code %d, want 2: %s", code, stdout)
			}
			name := "SIDECAR_" + c.variable
			if strings.HasSuffix(c.variable, "_CERT_FILE") {
				name = "SIDECAR_TLS"
			}
			if !strings.Contains(stderr, name) {
				t.Errorf("got %s on stderr, want %s in it", stderr, name)
			}
			if strings.Contains(stderr+stdout, "CANARY") {
				t.Errorf("got %s%s, want the value nowhere in it", stderr, stdout)
			}
			if strings.Contains(stdout, "serving") {
				t.Errorf("got %s, want no listener", stdout)
			}
		})
	}
}

// Every fault is told at once, and nothing listens meanwhile.
func TestBlackboxConfigAllFaults(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	defer ln.Close()
	e := env{
		"LISTEN_ADDRESS": ln.Addr().String(), "TYPO": "CANARY", "INTROSPECTION_AUTH": "CANARY", "CACHE_MAX_AGE": "CANARY", "LOG_LEVEL": "CANARY", "TRUSTED_PROXIES": "::/0",
		"CA_FILE": "/nowhere", "TLS_KEY_FILE": "/nowhere",
	}
	code, _, stderr := runToEnd(t, e, nil, "serve")
	if code != 2 {
		t.Errorf("got exit code %d, want 2", code)
	}
	for _, name := range []string{"UPSTREAM_URL", "TYPO", "INTROSPECTION_AUTH", "CACHE_MAX_AGE", "LOG_LEVEL", "TRUSTED_PROXIES", "CA_FILE", "TLS_KEY_FILE", "TLS_CERT_FILE"} {
		n := 0
		for line := range strings.Lines(stderr) {
			if strings.HasPrefix(line, "SIDECAR_"+name+":") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("got %d lines for %s, want 1: %s", n, name, stderr)
		}
	}
	if strings.Contains(stderr, "CANARY") {
		t.Errorf("got %s, want no value in it", stderr)
	}
}

// Files with the wrong content are faults that don't repeat it.
func TestBlackboxConfigSecretFiles(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "\n", "CANARY\ttwo", "CANARY\x00", "CANARY\r\nX: y", "CANARY\xff"} {
		for _, variable := range []string{"BEARER_TOKEN_FILE", "CLIENT_SECRET_FILE", "CLIENT_KEY_FILE", "CA_FILE"} {
			e := leastEnv(t)
			e[variable] = writeFile(t, "f", content)
			switch variable {
			case "CLIENT_SECRET_FILE":
				e["INTROSPECTION_AUTH"], e["CLIENT_ID"] = "client_secret_basic", "c"
			case "CLIENT_KEY_FILE":
				e["INTROSPECTION_AUTH"], e["CLIENT_ID"] = "client_assertion", "c"
			}
			code, stdout, stderr := runToEnd(t, e, nil)
			if code != 2 || !strings.Contains(stderr, "SIDECAR_"+variable) || strings.Contains(stdout+stderr, "CANARY") {
				t.Errorf("%s %q: got exit code %d and %s, want 2 and the variable without its value", variable, content, code, stderr)
			}
		}
	}
}

// Kubernetes sets variables for a Service called sidecar.
func TestBlackboxConfigLinkVariables(t *testing.T) {
	t.Parallel()
	c := spawn(t, leastEnv(t), []string{
		"SIDECAR_SERVICE_HOST=10.0.0.1", "SIDECAR_SERVICE_PORT=80", "SIDECAR_SERVICE_PORT_HTTP=80", "SIDECAR_PORT=tcp://10.0.0.1:80",
		"SIDECAR_PORT_80_TCP=tcp://10.0.0.1:80", "SIDECAR_PORT_80_TCP_PROTO=tcp", "SIDECAR_PORT_80_TCP_PORT=80", "SIDECAR_PORT_80_TCP_ADDR=10.0.0.1",
		"SIDECAR_X_SERVICE_HOST=10.0.0.1", "SIDECARX=1", "OTHER=1",
	})
	c.awaitServing(t)
}

// Settings that look like others, and values that must be taken.
func TestBlackboxConfigTaken(t *testing.T) {
	t.Parallel()
	for _, e := range []env{
		{"INTROSPECTION_ENDPOINT": "http://[::1]:9/i"},
		{"INTROSPECTION_ENDPOINT": "http://localhost:9/i"},
		{"INTROSPECTION_ENDPOINT": "https://as.example/i"},
		{"INTROSPECTION_ENDPOINT": "http://as.example/i", "ALLOW_INSECURE_HTTP": "true"},
		{"UPSTREAM_URL": "https://fhir.example"},
		{"TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8"},
		{"CACHE_MAX_AGE": "10s", "CACHE_NO_EXP_AGE": "0", "CLOCK_SKEW": "0"},
		{"HEADER_PREFIX": "X-Authorization-"},
		{"UPSTREAM_URL": "http://127.0.0.1:9/fhir/{tenant}"},
	} {
		all := leastEnv(t)
		for name, value := range e {
			all[name] = value
		}
		c := spawn(t, all, nil)
		c.awaitServing(t)
	}
}

func TestBlackboxCommands(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := runToEnd(t, nil, nil, "config")
	for _, name := range []string{
		"UPSTREAM_URL", "LISTEN_ADDRESS", "ADMIN_ADDRESS", "INTROSPECTION_ENDPOINT", "ISSUER_URL", "DISCOVERY_ALLOWED_HOSTS", "INTROSPECTION_AUTH",
		"BEARER_TOKEN_FILE", "TOKEN_ENDPOINT", "CLIENT_ID", "CLIENT_SECRET_FILE", "CLIENT_KEY_FILE", "CLIENT_KEY_ID", "CLIENT_ASSERTION_ALG",
		"CLIENT_ASSERTION_AUDIENCE", "TOKEN_SCOPE", "TOKEN_AUTH", "JWKS_URL", "INTROSPECTION_TIMEOUT", "CA_FILE", "CLIENT_CERT_FILE", "CLIENT_CERT_KEY_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE",
		"CACHE_MAX_ENTRIES", "CACHE_MAX_AGE", "CACHE_NO_EXP_AGE", "CACHE_INACTIVE_AGE", "REQUIRED_AUDIENCES", "REQUIRED_ISSUERS", "REQUIRED_SCOPES",
		"REQUIRED_TOKEN_TYPES", "CLOCK_SKEW", "JWT_PRECHECK", "HEADER_PREFIX", "HEADERS", "EXTRA_HEADERS", "CLAIM_ALIASES", "UPSTREAM_AUTHORIZATION", "TRUSTED_PROXIES", "UPSTREAM_HEADER_TIMEOUT",
		"PUBLIC_PATHS", "SCOPE_ENFORCEMENT", "MAX_TOKEN_BYTES", "MAX_INTROSPECTIONS", "SHUTDOWN_DELAY", "SHUTDOWN_TIMEOUT", "AUDIT_LOG", "ADMIN_TOKEN_FILE", "LOG_LEVEL",
		"ALLOW_INSECURE_HTTP",
	} {
		if !strings.Contains(stdout, "| `SIDECAR_"+name+"` |") {
			t.Errorf("got no %s from config, want a row", name)
		}
	}
	if code != 0 || stderr != "" {
		t.Errorf("config: got exit code %d and %s, want 0 and nothing", code, stderr)
	}
	if code, stdout, _ := runToEnd(t, nil, nil, "version"); code != 0 || !strings.Contains(stdout, "go1.") {
		t.Errorf("version: got exit code %d and %s, want 0 and Go's version", code, stdout)
	}
	for _, args := range [][]string{{"CANARY"}, {"serve", "CANARY"}, {"--CANARY"}} {
		if code, stdout, stderr := runToEnd(t, leastEnv(t), nil, args...); code != 2 || stderr == "" || strings.Contains(stdout+stderr, "CANARY") {
			t.Errorf("%v: got exit code %d and %s, want 2 and a text without the argument", args, code, stderr)
		}
	}
	if code, stdout, stderr := runToEnd(t, leastEnv(t), nil, "check"); code != 1 || stdout == "" {
		t.Errorf("check with nothing there: got exit code %d, %q and %q, want 1 and a table", code, stdout, stderr)
	}
	if code, _, stderr := runToEnd(t, env{"TYPO": "x"}, nil, "check"); code != 2 || !strings.Contains(stderr, "SIDECAR_TYPO") {
		t.Errorf("check with bad configuration: got exit code %d and %q, want 2 and the variable", code, stderr)
	}
	// J17: the port is taken.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	defer ln.Close()
	e := leastEnv(t)
	e["LISTEN_ADDRESS"] = ln.Addr().String()
	if code, stdout, stderr := runToEnd(t, e, nil); code != 1 || !strings.Contains(stdout+stderr, "SIDECAR_LISTEN_ADDRESS") {
		t.Errorf("port taken: got exit code %d and %s%s, want 1 and the setting", code, stdout, stderr)
	}
}
