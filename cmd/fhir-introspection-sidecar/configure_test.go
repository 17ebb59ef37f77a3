package main

import (
	"os"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// setenv makes the settings the only ones of this process.
func setenv(t *testing.T, settings map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, config.Prefix+"_") {
			t.Setenv(name, "") // puts the old value back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, value := range settings {
		t.Setenv(name, value)
	}
}

// configure reads and checks the environment as serve does, files aside.
func configure(t *testing.T, environ map[string]string) *config.Config {
	t.Helper()
	setenv(t, environ)
	return config.Load()
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

// grantWith is the client credentials grant in place of a token file.
func grantWith(pairs ...string) []string {
	return append([]string{
		"SIDECAR_BEARER_TOKEN_FILE", "", "SIDECAR_TOKEN_ENDPOINT", "https://as.example/token", "SIDECAR_CLIENT_ID", "fhir-server",
	}, pairs...)
}

func texts(faults []config.Fault) (lines []string) {
	for _, f := range faults {
		lines = append(lines, f.String())
	}
	return lines
}
