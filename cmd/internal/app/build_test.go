package app

import (
	"bytes"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// TestBuildFaults: what is wrong inside files is told along with everything
// else, once, and with the variable that the operator has to look at.
func TestBuildFaults(t *testing.T) {
	const canary = "zx81canary"
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	cert, key := newPair(t, "one.test")
	_, otherKey := newPair(t, "two.test")
	for name, content := range map[string]string{
		"token": canary, "secret": canary + "\n", "blank": canary + " " + canary, "empty": "\n", "garbage": canary,
		"cert": cert, "key": key, "otherkey": otherKey,
	} {
		put(t, path(name), content, time.Hour)
	}
	const (
		unreadable = ": file can't be read: no such file or directory"
		mismatch   = ": certificate and key can't be read, or don't belong together"
	)
	grant := func(pairs ...string) []string {
		return append(grantWith("SIDECAR_CLIENT_SECRET_FILE", path("secret")), pairs...)
	}
	for _, tt := range []struct {
		name  string
		pairs []string
		want  []string
	}{
		{"nothing", nil, nil},
		{"grant", grant(), nil},
		{"TLS", []string{"SIDECAR_TLS_CERT_FILE", path("cert"), "SIDECAR_TLS_KEY_FILE", path("key")}, nil},
		{"mTLS", []string{"SIDECAR_CLIENT_CERT_FILE", path("cert"), "SIDECAR_CLIENT_CERT_KEY_FILE", path("key"), "SIDECAR_CA_FILE", path("cert")}, nil},
		{"no token file", []string{"SIDECAR_BEARER_TOKEN_FILE", path(canary)}, []string{"SIDECAR_BEARER_TOKEN_FILE" + unreadable}},
		{"empty token", []string{"SIDECAR_BEARER_TOKEN_FILE", path("empty")}, []string{"SIDECAR_BEARER_TOKEN_FILE: is empty"}},
		{
			"token with a blank",
			[]string{"SIDECAR_BEARER_TOKEN_FILE", path("blank")},
			[]string{"SIDECAR_BEARER_TOKEN_FILE: holds a space, a line break, a control or a non-ASCII character"},
		},
		{
			"only the TLS key is missing",
			[]string{"SIDECAR_TLS_CERT_FILE", path("cert"), "SIDECAR_TLS_KEY_FILE", path(canary)},
			[]string{"SIDECAR_TLS_KEY_FILE" + unreadable},
		},
		{
			"both TLS files are missing",
			[]string{"SIDECAR_TLS_CERT_FILE", path(canary), "SIDECAR_TLS_KEY_FILE", path(canary)},
			[]string{"SIDECAR_TLS_CERT_FILE" + unreadable, "SIDECAR_TLS_KEY_FILE" + unreadable},
		},
		{
			"another TLS key",
			[]string{"SIDECAR_TLS_CERT_FILE", path("cert"), "SIDECAR_TLS_KEY_FILE", path("otherkey")},
			[]string{"SIDECAR_TLS_CERT_FILE" + mismatch},
		},
		{
			"only the client key is missing",
			[]string{"SIDECAR_CLIENT_CERT_FILE", path("cert"), "SIDECAR_CLIENT_CERT_KEY_FILE", path(canary)},
			[]string{"SIDECAR_CLIENT_CERT_KEY_FILE" + unreadable},
		},
		{
			"another client key",
			[]string{"SIDECAR_CLIENT_CERT_FILE", path("cert"), "SIDECAR_CLIENT_CERT_KEY_FILE", path("otherkey")},
			[]string{"SIDECAR_CLIENT_CERT_FILE" + mismatch},
		},
		{"half a client pair", []string{"SIDECAR_CLIENT_CERT_KEY_FILE", path("key")}, []string{"SIDECAR_CLIENT_CERT_FILE: is required with SIDECAR_CLIENT_CERT_KEY_FILE"}},
		{
			"bad CA, with a grant that would use it",
			grant("SIDECAR_CA_FILE", path("garbage")),
			[]string{"SIDECAR_CA_FILE: doesn't hold PEM certificates only"},
		},
		{
			"bad timeout, with a grant that would use it",
			grant("SIDECAR_INTROSPECTION_TIMEOUT", "0"),
			[]string{"SIDECAR_INTROSPECTION_TIMEOUT: must be from 1ms to 24h"},
		},
		{"grant without secret and key", grantWith(), []string{"SIDECAR_CLIENT_KEY_FILE: or SIDECAR_CLIENT_SECRET_FILE must be set to obtain a bearer token"}},
		{
			"introspection's audience in the grant",
			append(grantWith("SIDECAR_CLIENT_KEY_FILE", path("key")), "SIDECAR_CLIENT_ASSERTION_AUDIENCE", "introspection"),
			[]string{"SIDECAR_CLIENT_ASSERTION_AUDIENCE: introspection is not where the grant's assertion goes"},
		},
		{
			"no issuer for the audience",
			append(grantWith("SIDECAR_CLIENT_KEY_FILE", path("key")), "SIDECAR_CLIENT_ASSERTION_AUDIENCE", "issuer"),
			[]string{"SIDECAR_ISSUER_URL: is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=issuer"},
		},
		{
			"key and algorithm",
			[]string{
				"SIDECAR_INTROSPECTION_AUTH", "client_assertion", "SIDECAR_CLIENT_ID", "a",
				"SIDECAR_CLIENT_KEY_FILE", path("key"), "SIDECAR_CLIENT_ASSERTION_ALG", "RS256",
			},
			[]string{"SIDECAR_CLIENT_KEY_FILE: is an EC key on P-256, which can't sign with the RS256 of SIDECAR_CLIENT_ASSERTION_ALG; it can with ES256"},
		},
		{
			"unknown algorithm",
			[]string{
				"SIDECAR_INTROSPECTION_AUTH", "client_assertion", "SIDECAR_CLIENT_ID", "a",
				"SIDECAR_CLIENT_KEY_FILE", path("garbage"), "SIDECAR_CLIENT_ASSERTION_ALG", "HS256",
			},
			[]string{"SIDECAR_CLIENT_ASSERTION_ALG: must be RS256, RS384, RS512, PS256, PS384, ES256, ES384 or EdDSA"},
		},
		{
			"client id",
			[]string{"SIDECAR_INTROSPECTION_AUTH", "client_secret_post", "SIDECAR_CLIENT_ID", canary + "é", "SIDECAR_CLIENT_SECRET_FILE", path("secret")},
			[]string{"SIDECAR_CLIENT_ID: holds a line break, a control or a non-ASCII character, or a space at an end"},
		},
		{
			"a setting, a missing file and the inside of three",
			[]string{
				"SIDECAR_LOG_LEVEL", canary, "SIDECAR_INTROSPECTION_AUTH", "client_assertion",
				"SIDECAR_CLIENT_KEY_FILE", path("garbage"), "SIDECAR_CA_FILE", path("garbage"), "SIDECAR_BEARER_TOKEN_FILE", path(canary),
				"SIDECAR_TLS_CERT_FILE", path("garbage"), "SIDECAR_TLS_KEY_FILE", path("key"),
			},
			[]string{
				"SIDECAR_CLIENT_ID: is required with SIDECAR_INTROSPECTION_AUTH=client_assertion",
				"SIDECAR_LOG_LEVEL: must be debug, info, warn or error",
				"SIDECAR_BEARER_TOKEN_FILE" + unreadable,
				"SIDECAR_TLS_CERT_FILE" + mismatch,
				"SIDECAR_CA_FILE: doesn't hold PEM certificates only",
				"SIDECAR_CLIENT_KEY_FILE: is neither a PEM nor a JWK private key",
			},
		},
		{
			"extra header with the name of another",
			[]string{"SIDECAR_EXTRA_HEADERS", "Token-Id=" + canary},
			[]string{"SIDECAR_EXTRA_HEADERS: has the name of a header of SIDECAR_HEADERS"},
		},
		{
			"extra header with no name",
			[]string{"SIDECAR_EXTRA_HEADERS", "Org_1=" + canary},
			[]string{"SIDECAR_EXTRA_HEADERS: must be Name=claim, the name of letters, digits and single dashes, such as Organization=organization"},
		},
		{
			"unknown header",
			[]string{"SIDECAR_HEADERS", "patient," + canary},
			[]string{"SIDECAR_HEADERS: has a claim that is not one of patient encounter user sub iss client_id exp intent tenant username jti resource definition aud fhirContext scope"},
		},
		{"no FHIR base", []string{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:8080/a//b"}, []string{"SIDECAR_UPSTREAM_URL: path must not have dot segments, empty segments, parameters or encoded separators"}},
		{"no prefix", []string{"SIDECAR_HEADER_PREFIX", "X-"}, []string{"SIDECAR_HEADER_PREFIX: would take in the header X-Content-Type-Options"}},
		{"no public path", []string{"SIDECAR_PUBLIC_PATHS", "a/../b"}, []string{"SIDECAR_PUBLIC_PATHS: must not have dot segments, empty segments, parameters or encoded separators"}},
		{"unknown auth", []string{"SIDECAR_INTROSPECTION_AUTH", canary}, []string{"SIDECAR_INTROSPECTION_AUTH: must be bearer, client_assertion, client_secret_basic, client_secret_post, tls_client_auth or none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			environ := with(with(leastSettings(), "SIDECAR_BEARER_TOKEN_FILE", path("token")), tt.pairs...)
			sc, faults := build(configure(t, environ), options{logger: discard, stdout: io.Discard})
			if got := texts(faults); !slices.Equal(got, tt.want) {
				t.Errorf("faults:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if strings.Contains(strings.Join(texts(faults), "\n"), canary) {
				t.Errorf("got %q, want nothing of a setting's or a file's content", texts(faults))
			}
			if (sc == nil) != (len(faults) > 0) {
				t.Errorf("got sidecar %v beside %d faults, want one or the other", sc, len(faults))
			}
			if sc != nil {
				sc.cache.Close()
			}
		})
	}
}

// TestSecretFiles: a file that holds something else is at fault, and what it holds is
// told to nobody.
func TestSecretFiles(t *testing.T) {
	const canary = "zx81canary"
	for _, content := range []string{"", "\n", canary + "\ttwo", canary + "\x00", canary + "\r\nX: y", canary + "\xff"} {
		for variable, beside := range map[string][]string{
			"SIDECAR_BEARER_TOKEN_FILE":  nil,
			"SIDECAR_CLIENT_SECRET_FILE": {"SIDECAR_INTROSPECTION_AUTH", "client_secret_basic", "SIDECAR_CLIENT_ID", "c"},
			"SIDECAR_CLIENT_KEY_FILE":    {"SIDECAR_INTROSPECTION_AUTH", "client_assertion", "SIDECAR_CLIENT_ID", "c"},
			"SIDECAR_CA_FILE":            nil,
		} {
			environ := with(with(leastSettings(), "SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", "token")), beside...)
			environ = with(environ, variable, writeFile(t, "file", content))
			sc, faults := build(configure(t, environ), options{logger: discard, stdout: io.Discard})
			got := texts(faults)
			if sc != nil || len(got) != 1 || !strings.HasPrefix(got[0], variable+": ") {
				t.Errorf("%s %q: got faults %q, want one, of the variable", variable, content, got)
			}
			if strings.Contains(strings.Join(got, "\n"), canary) {
				t.Errorf("%s %q: got %q, want nothing of the content", variable, content, got)
			}
		}
	}
}

// TestBuildTakes: values that look like faults and are none.
func TestBuildTakes(t *testing.T) {
	for _, pairs := range [][]string{
		{"SIDECAR_INTROSPECTION_ENDPOINT", "http://[::1]:9/i"},
		{"SIDECAR_INTROSPECTION_ENDPOINT", "http://localhost:9/i"},
		{"SIDECAR_INTROSPECTION_ENDPOINT", "https://as.example/i"},
		{"SIDECAR_INTROSPECTION_ENDPOINT", "http://as.example/i", "SIDECAR_ALLOW_INSECURE_HTTP", "true"},
		{"SIDECAR_UPSTREAM_URL", "https://fhir.example"},
		{"SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8"},
		{"SIDECAR_CACHE_MAX_AGE", "10s", "SIDECAR_CACHE_NO_EXP_AGE", "0", "SIDECAR_CLOCK_SKEW", "0"},
		{"SIDECAR_HEADER_PREFIX", "X-Authorization-"},
		{"SIDECAR_UPSTREAM_URL", "http://127.0.0.1:9/fhir/{tenant}"},
	} {
		environ := with(with(leastSettings(), "SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", "token")), pairs...)
		sc, faults := build(configure(t, environ), options{logger: discard, stdout: io.Discard})
		if len(faults) > 0 {
			t.Errorf("%v: got faults %v, want none", pairs, faults)
			continue
		}
		sc.cache.Close()
	}
}

// TestEveryFaultAtOnce: an operator mends everything in one go, in an order that
// stays the same from one attempt to the next.
func TestEveryFaultAtOnce(t *testing.T) {
	const canary = "zx81canary"
	environ := map[string]string{"SIDECAR_UNHEARD_OF": canary, "SIDECAR_ADMIN_PORT": canary}
	want := []string{"SIDECAR_ADMIN_PORT", "SIDECAR_UNHEARD_OF"}
	for _, name := range config.Variables() {
		switch name {
		case "SIDECAR_CLIENT_ID", "SIDECAR_CLIENT_KEY_ID", "SIDECAR_TOKEN_SCOPE",
			"SIDECAR_REQUIRED_AUDIENCES", "SIDECAR_REQUIRED_ISSUERS", "SIDECAR_REQUIRED_TOKEN_TYPES",
			"SIDECAR_SHARED_CACHE_USERNAME", "SIDECAR_SHARED_CACHE_SENTINEL_USERNAME", "SIDECAR_SHARED_CACHE_SENTINEL_MASTER",
			"SIDECAR_SMART_CAPABILITIES", "SIDECAR_SMART_SCOPES", "SIDECAR_RESOURCE_NAME", "SIDECAR_AUDIT_OBSERVER",
			"SIDECAR_AUDIT_LOG": // opened once all else is right
			continue // any text will do for these
		case "SIDECAR_REQUIRED_SCOPES":
			environ[name] = canary + ` "a b"`
		case "SIDECAR_PUBLIC_PATHS":
			environ[name] = "/" + canary
		case "SIDECAR_SHARED_CACHE_PREFIX":
			environ[name] = canary + ":"
		case "SIDECAR_DISCOVERY_ALLOWED_HOSTS":
			environ[name] = "https://" + canary
		case "SIDECAR_UPSTREAM_URL":
			environ[name] = "http://user:" + canary + "@127.0.0.1/fhir"
		case "SIDECAR_INTROSPECTION_ENDPOINT":
			environ[name] = "https://" + canary + ".example/introspect#" + canary
		default:
			environ[name] = canary
		}
		want = append(want, name)
	}
	environ["SIDECAR_TLS_CERT_FILE"], environ["SIDECAR_CLIENT_CERT_FILE"] = "", ""
	for range 3 {
		s := configure(t, environ)
		_, faults := build(s, options{logger: discard, stdout: io.Discard})
		got := map[string]bool{}
		for _, f := range faults {
			got[f.Variable] = true
			if strings.Contains(f.String(), canary) {
				t.Errorf("got %q, want nothing of the value", f)
			}
			if strings.ContainsAny(f.String(), "\r\n") {
				t.Errorf("got %q, want one line", f)
			}
		}
		for _, name := range want {
			if !got[name] {
				t.Errorf("got no fault of %s, want one", name)
			}
		}
		_, again := build(configure(t, environ), options{logger: discard, stdout: io.Discard})
		if !slices.Equal(faults, again) {
			t.Errorf("got another order, want the same:\n%v\n%v", faults, again)
		}
	}
}

// TestAdminTokenWarning: a token that is short enough to be guessed is warned about.
func TestAdminTokenWarning(t *testing.T) {
	for content, want := range map[string]int{"sixteen-and-more\n": 0, "fifteen-or-less\n": 1} {
		var log bytes.Buffer
		environ := with(leastSettings(), "SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", "token"), "SIDECAR_ADMIN_TOKEN_FILE", writeFile(t, "admin", content))
		sc, faults := build(configure(t, environ), options{logger: slog.New(slog.NewJSONHandler(&log, nil)), stdout: io.Discard})
		if len(faults) > 0 {
			t.Fatalf("got faults %v, want none", faults)
		}
		sc.cache.Close()
		if got := strings.Count(log.String(), `"setting":"SIDECAR_ADMIN_TOKEN_FILE"`); got != want {
			t.Errorf("%q: got %d warnings, want %d: %s", content, got, want, &log)
		}
	}
}
