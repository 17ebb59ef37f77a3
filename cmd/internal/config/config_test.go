package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// setenv makes the settings the only ones of this process.
func setenv(t *testing.T, settings map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, Prefix+"_") {
			t.Setenv(name, "") // puts the old value back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatalf("os.Unsetenv: got error %v, want none", err)
			}
		}
	}
	for name, value := range settings {
		t.Setenv(name, value)
	}
}

// rules are the proxy's, in the program as here.
var rules = Rules{
	Base: proxy.CheckBase, PublicPath: proxy.CheckPublicPath, HeaderPrefix: proxy.CheckHeaderPrefix,
	ContextHeaders: func(claims []string) error {
		_, err := proxy.ContextHeadersFor(claims)
		return err
	},
	ExtraHeader: func(name string) error {
		_, err := proxy.ExtraHeader(name, 0)
		return err
	},
}

// configure reads and checks the environment as serve does, files aside.
func configure(t *testing.T, environ map[string]string) *Config {
	t.Helper()
	setenv(t, environ)
	return Load(rules)
}

// leastSettings is the least that serves. Each test changes it.
func leastSettings() map[string]string {
	return map[string]string{
		"SIDECAR_UPSTREAM_URL":           "http://127.0.0.1:8080/fhir",
		"SIDECAR_INTROSPECTION_ENDPOINT": "https://as.example/introspect",
		"SIDECAR_BEARER_TOKEN_FILE":      "/run/secrets/token",
	}
}

func with(base map[string]string, pairs ...string) map[string]string {
	for i := 0; i < len(pairs); i += 2 {
		base[pairs[i]] = pairs[i+1]
	}
	return base
}

// update makes the tests write what they otherwise compare.
var update = flag.Bool("update", false, "rewrite golden files")

func TestConfigStruct(t *testing.T) {
	typ := reflect.TypeFor[Settings]()
	names := Variables()
	if len(names) != typ.NumField() {
		t.Fatalf("got %d variables, want %d, one a field: %v", len(names), typ.NumField(), names)
	}
	for i, name := range names {
		field := typ.Field(i)
		squeezed := strings.ReplaceAll(strings.TrimPrefix(name, Prefix+"_"), "_", "")
		if !strings.HasPrefix(name, Prefix+"_") || !strings.EqualFold(squeezed, field.Name) {
			t.Errorf("variable %d: got %s, want that of field %s", i, name, field.Name)
		}
		// An envconfig tag would read the name without our prefix, too.
		if _, set := field.Tag.Lookup("envconfig"); set {
			t.Errorf("%s: got an envconfig tag, want none", field.Name)
		}
		if _, set := field.Tag.Lookup("required"); set {
			t.Errorf("%s: got a required tag, want none: an empty value satisfies it", field.Name)
		}
		if field.Tag.Get("split_words") != "true" {
			t.Errorf("%s: got no split_words, want it", field.Name)
		}
		// The text stands in a cell of a Markdown table.
		desc := field.Tag.Get("desc")
		if desc == "" || strings.ContainsAny(desc, "|\n<>") || !strings.HasSuffix(desc, ".") {
			t.Errorf("%s: got description %q, want a sentence without Markdown's marks", field.Name, desc)
		}
	}
}

// TestConfigNames pins the variables: renaming one breaks every deployment.
func TestConfigNames(t *testing.T) {
	path, got := filepath.Join("testdata", "variables.golden"), strings.Join(Variables(), "\n")+"\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestConfigDefaults(t *testing.T) {
	setenv(t, nil)
	got, faults := read()
	if len(faults) > 0 {
		t.Fatalf("got faults %v, want none", faults)
	}
	want := &Settings{
		ListenAddress: ":8000", AdminAddress: ":8001", IntrospectionAuth: "bearer",
		IntrospectionTimeout: 2 * time.Second, MaxIntrospections: 64,
		CacheMaxEntries: 50_000, CacheNoExpAge: 30 * time.Second, CacheInactiveAge: 5 * time.Second,
		ClockSkew: 5 * time.Second, ScopeEnforcement: "off", PatientContext: "require", PatientGuard: "off", MaxTokenBytes: 8192, HeaderPrefix: "X-Launch-",
		Headers: []string{
			"patient", "encounter", "user", "fhirContext", "intent", "tenant", "sub", "iss", "client_id", "scope", "exp",
		},
		UpstreamAuthorization: "forward", UpstreamHeaderTimeout: 2 * time.Minute,
		PublicPaths:     []string{"metadata", ".well-known/smart-configuration"},
		ShutdownTimeout: 25 * time.Second, AuditLog: "off", LogLevel: "info",
		SMARTConfiguration: "forward", ResourceMetadata: "off", AuditFormat: "json",
		SharedCachePrefix: "fis", SharedCacheTLS: true, SharedCacheTimeout: 100 * time.Millisecond, SharedCacheOnFailure: "introspect", LogFormat: "json", BypassGuard: "warn", IdleTimeout: 2 * time.Minute, StallTimeout: time.Minute, Http2: true, FastPath: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestConfigPrefix: without the prefix a variable belongs to somebody else.
func TestConfigPrefix(t *testing.T) {
	setenv(t, nil)
	want, _ := read()
	for _, name := range Variables() {
		t.Setenv(strings.TrimPrefix(name, Prefix+"_"), "7")
	}
	if got, faults := read(); len(faults) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v), want no unprefixed variables", got, faults)
	}
}

func TestConfigLists(t *testing.T) {
	for value, want := range map[string][]string{
		"none":            nil,
		" none ,":         nil,
		"a":               {"a"},
		" a , ,b,,\tc\n,": {"a", "b", "c"},
		"a b,c":           {"a b", "c"},
	} {
		setenv(t, map[string]string{"SIDECAR_PUBLIC_PATHS": value})
		if c, faults := read(); len(faults) > 0 || !slices.Equal(c.PublicPaths, want) {
			t.Errorf("%q: %q, want %q; %v", value, c.PublicPaths, want, faults)
		}
	}
}

// TestUnreadable sets every variable that has a type to what it can't hold. One
// line tells it: what a check would say of the zero value is none of it.
func TestUnreadable(t *testing.T) {
	const canary = "zx81canary"
	texts := map[reflect.Type]string{
		reflect.TypeFor[time.Duration](): "must be a duration with a unit, such as 2s or 500ms",
		reflect.TypeFor[int]():           "must be a whole number",
		reflect.TypeFor[bool]():          "must be true or false",
	}
	environ := leastSettings()
	var want []Fault
	for i, name := range Variables() {
		if text := texts[reflect.TypeFor[Settings]().Field(i).Type]; text != "" {
			environ[name] = canary
			want = append(want, Fault{name, text})
		}
	}
	if got := configure(t, environ).Faults; !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, value := range []string{"", " 5s", "1d", "1.5.2s", "99999999999h"} {
		got := configure(t, with(leastSettings(), "SIDECAR_CLOCK_SKEW", value)).Faults
		if !slices.Equal(got, []Fault{{"SIDECAR_CLOCK_SKEW", texts[reflect.TypeFor[time.Duration]()]}}) {
			t.Errorf("%q: got %v, want the duration's fault", value, got)
		}
	}
}

// TestUnknownVariables: a slip is told, a secret in the environment too (L18), and what
// Kubernetes sets for a Service is neither.
func TestUnknownVariables(t *testing.T) {
	for _, tt := range []struct{ entry, want string }{
		{"SIDECAR_TOKEN=zx81canary", "SIDECAR_TOKEN: is not a setting"},
		{"SIDECAR_=zx81canary", "SIDECAR_: is not a setting"},
		{"SIDECAR_lower=zx81canary", "SIDECAR_lower: is not a setting"},
		{"SIDECAR_ADMIN_PORT=9000", "SIDECAR_ADMIN_PORT: is not a setting"},
		{"SIDECAR_PORT=8000", "SIDECAR_PORT: is not a setting"},
		{"SIDECAR_SERVICE_PORT=http", "SIDECAR_SERVICE_PORT: is not a setting"},
		{"SIDECAR_CLIENT_SECRET=zx81canary", "SIDECAR_CLIENT_SECRET: is not a setting; it is read from a file: set SIDECAR_CLIENT_SECRET_FILE to the path of one"},
		{"SIDECAR_LOGLEVEL=debug", "SIDECAR_LOGLEVEL: is not a setting; did you mean SIDECAR_LOG_LEVEL?"},
		{"SIDECAR_UPSTREAM_URI=http://a", "SIDECAR_UPSTREAM_URI: is not a setting; did you mean SIDECAR_UPSTREAM_URL?"},
		{"SIDECAR_CLIENT_KEYS_ID=1", "SIDECAR_CLIENT_KEYS_ID: is not a setting; did you mean SIDECAR_CLIENT_KEY_ID?"},
		{"SIDECAR_HEADER=a", "SIDECAR_HEADER: is not a setting; did you mean SIDECAR_HEADERS?"},
		{"SIDECAR_TLS_CERT_FILES=a", "SIDECAR_TLS_CERT_FILES: is not a setting; did you mean SIDECAR_TLS_CERT_FILE?"},

		// Only the name makes a link variable.
		{"SIDECAR_BEARER_TOKEN=/x_SERVICE_HOST=a", "SIDECAR_BEARER_TOKEN: is not a setting; it is read from a file: set SIDECAR_BEARER_TOKEN_FILE to the path of one"},
		{"SIDECAR_REALM=_PORT=a://", "SIDECAR_REALM: is not a setting"},

		// What Kubernetes sets for Services called sidecar and sidecar-foo.
		{"SIDECAR_SERVICE_HOST=10.0.0.1", ""},
		{"SIDECAR_SERVICE_PORT=8000", ""},
		{"SIDECAR_SERVICE_PORT_HTTP=8000", ""},
		{"SIDECAR_SERVICE_PORT_HTTP_ADMIN=8001", ""},
		{"SIDECAR_PORT=tcp://10.0.0.1:8000", ""},
		{"SIDECAR_PORT_8000_TCP=tcp://10.0.0.1:8000", ""},
		{"SIDECAR_PORT_8000_TCP_PROTO=tcp", ""},
		{"SIDECAR_PORT_8000_TCP_PORT=8000", ""},
		{"SIDECAR_PORT_8000_TCP_ADDR=10.0.0.1", ""},
		{"SIDECAR_PORT_53_UDP_ADDR=10.0.0.1", ""},
		{"SIDECAR_FOO_SERVICE_HOST=10.0.0.1", ""},
		{"SIDECAR_FOO_SERVICE_PORT=8000", ""},
		{"SIDECAR_FOO_BAR_PORT=tcp://10.0.0.1:8000", ""},
		{"SIDECAR_ADMIN_PORT=tcp://10.0.0.1:9000", ""},
		{"SIDECAR_FOO_PORT_8000_TCP_ADDR=10.0.0.1", ""},

		{"SIDECAR_LOG_LEVEL=zx81canary", ""}, // known; its value is another's to check
		{"SIDECARS_LOG_LEVEL=debug", ""},
		{"sidecar_log_level=debug", ""},
		{"ISTIO_SIDECAR_X=1", ""},
	} {
		var want []string
		if tt.want != "" {
			want = []string{tt.want}
		}
		if got := texts(unknownVariables([]string{"HOME=/", tt.entry}, Variables())); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", tt.entry, got, want)
		}
	}
}

// TestSuggestions: one slip in any name, at any place, leads back to it.
func TestSuggestions(t *testing.T) {
	known := Variables()
	for _, name := range known {
		for i := len(Prefix) + 1; i < len(name); i++ {
			slips := [...]string{name[:i] + name[i+1:], name[:i] + "X" + name[i:], name[:i] + "X" + name[i+1:]}
			slip := slips[i%len(slips)] // all three take a minute under the race detector
			if slices.Contains(known, slip) || slices.Contains(known, slip+"_FILE") {
				continue
			}
			if got := suggestion(slip, known); got != "; did you mean "+name+"?" {
				t.Errorf("%s: got suggestion %q, want %s", slip, got, name)
			}
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "abd", 1},
		{"abc", "bc", 1},
		{"abc", "xabc", 1},
		{"ab", "ba", 2},
		{"kitten", "sitting", 3},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// TestConfigTable: what the config command prints can stand in a page.
func TestConfigTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteTable(&b); err != nil {
		t.Fatalf("WriteTable: got error %v, want none", err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if want := 2 + len(Variables()); len(lines) != want {
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	for _, line := range lines {
		if strings.Count(line, "|") != 4 || strings.Contains(line, "<no value>") {
			t.Errorf("got %s, want a row of three cells", line)
		}
	}
	var list bytes.Buffer
	if err := WriteList(&list); err != nil {
		t.Fatalf("WriteList: got error %v, want none", err)
	}
	for _, name := range Variables() {
		if !strings.Contains(list.String(), "  "+name) {
			t.Errorf("-h lacks %s, want it", name)
		}
	}
}

func texts(faults []Fault) (lines []string) {
	for _, f := range faults {
		lines = append(lines, f.String())
	}
	return lines
}
