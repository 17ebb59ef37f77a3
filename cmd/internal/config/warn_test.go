package config

import (
	"slices"
	"strings"
	"testing"
)

// TestWarnings: what may be meant, but seldom is, gets a warning that names the setting.
func TestWarnings(t *testing.T) {
	key := []string{"SIDECAR_CLIENT_KEY_FILE", "/k"}
	assertion := []string{"SIDECAR_BEARER_TOKEN_FILE", "", "SIDECAR_INTROSPECTION_AUTH", "client_assertion", "SIDECAR_CLIENT_ID", "c", "SIDECAR_CLIENT_KEY_FILE", "/k"}
	secret := []string{"SIDECAR_BEARER_TOKEN_FILE", "", "SIDECAR_INTROSPECTION_AUTH", "client_secret_post", "SIDECAR_CLIENT_ID", "c", "SIDECAR_CLIENT_SECRET_FILE", "/s"}
	for _, tt := range []struct {
		pairs []string
		want  string // the settings, separated by spaces
	}{
		{nil, ""},
		{[]string{"SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8,fc00::/7,fe80::/10,100.64.0.0/10"}, ""},
		{[]string{"SIDECAR_TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/1,128.0.0.0/1"}, "SIDECAR_TRUSTED_PROXIES"},
		{[]string{"SIDECAR_TRUSTED_PROXIES", "192.0.0.0/6"}, "SIDECAR_TRUSTED_PROXIES"},
		{[]string{"SIDECAR_TRUSTED_PROXIES", "2000::/3"}, "SIDECAR_TRUSTED_PROXIES"},

		{[]string{"SIDECAR_UPSTREAM_URL", "http://fhir.internal/fhir"}, "SIDECAR_UPSTREAM_URL"},
		{[]string{"SIDECAR_UPSTREAM_URL", "http://10.0.0.7/fhir"}, "SIDECAR_UPSTREAM_URL"},
		{[]string{"SIDECAR_UPSTREAM_URL", "https://fhir.internal/fhir"}, ""},
		{[]string{"SIDECAR_UPSTREAM_URL", "http://[::1]/fhir"}, ""},

		{[]string{"SIDECAR_PUBLIC_PATHS", "metadata,.well-known/smart-configuration,swagger-ui/index.html"}, ""},
		{[]string{"SIDECAR_PUBLIC_PATHS", "metadata,Patient"}, "SIDECAR_PUBLIC_PATHS"},
		{[]string{"SIDECAR_PUBLIC_PATHS", "Organization/1"}, "SIDECAR_PUBLIC_PATHS"},
		{[]string{"SIDECAR_PUBLIC_PATHS", "$versions"}, "SIDECAR_PUBLIC_PATHS"},
		{[]string{"SIDECAR_PUBLIC_PATHS", "%24versions"}, "SIDECAR_PUBLIC_PATHS"},
		{[]string{"SIDECAR_PUBLIC_PATHS", "%50atient/*"}, "SIDECAR_PUBLIC_PATHS"},
		{[]string{"SIDECAR_PUBLIC_PATHS", "_history"}, "SIDECAR_PUBLIC_PATHS"},
		{[]string{"SIDECAR_PUBLIC_PATHS", "DEFAULT1/metadata"}, ""},

		{assertion, "SIDECAR_REQUIRED_AUDIENCES"},
		{append(slices.Clone(assertion), "SIDECAR_REQUIRED_AUDIENCES", "https://fhir.example"), ""},

		{key, "SIDECAR_CLIENT_KEY_FILE"},
		{append(key, "SIDECAR_CLIENT_KEY_ID", "1", "SIDECAR_CLIENT_SECRET_FILE", "/s"), "SIDECAR_CLIENT_SECRET_FILE SIDECAR_CLIENT_KEY_FILE SIDECAR_CLIENT_KEY_ID"},
		{grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s", "SIDECAR_TOKEN_SCOPE", "a"), ""},
		{grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s", "SIDECAR_CLIENT_KEY_FILE", "/k", "SIDECAR_TOKEN_AUTH", "client_secret_post"), "SIDECAR_CLIENT_KEY_FILE"},
		{grantWith("SIDECAR_CLIENT_CERT_FILE", "/c", "SIDECAR_CLIENT_CERT_KEY_FILE", "/k", "SIDECAR_CLIENT_SECRET_FILE", "/s", "SIDECAR_TOKEN_AUTH", "tls_client_auth"), "SIDECAR_CLIENT_SECRET_FILE"},
		{[]string{"SIDECAR_TOKEN_AUTH", "client_secret_post"}, "SIDECAR_TOKEN_AUTH"},
		{grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s", "SIDECAR_CLIENT_KEY_FILE", "/k", "SIDECAR_CLIENT_ASSERTION_ALG", "RS256"), "SIDECAR_CLIENT_SECRET_FILE"},
		{grantWith("SIDECAR_CLIENT_SECRET_FILE", "/s", "SIDECAR_CLIENT_ASSERTION_ALG", "RS256"), "SIDECAR_CLIENT_ASSERTION_ALG"},
		{append(slices.Clone(secret), "SIDECAR_BEARER_TOKEN_FILE", "/t", "SIDECAR_TOKEN_ENDPOINT", "https://as.example/t"), "SIDECAR_BEARER_TOKEN_FILE SIDECAR_TOKEN_ENDPOINT"},
		{append(slices.Clone(secret), "SIDECAR_CLIENT_ASSERTION_AUDIENCE", "introspection", "SIDECAR_TOKEN_SCOPE", "a"), "SIDECAR_CLIENT_ASSERTION_AUDIENCE SIDECAR_TOKEN_SCOPE"},
	} {
		c := configure(t, with(leastSettings(), tt.pairs...))
		var got []string
		for _, w := range c.Warnings() {
			got = append(got, w.Variable)
		}
		if strings.Join(got, " ") != tt.want || len(c.Faults) > 0 {
			t.Errorf("%q: got warnings %q and faults %v, want warnings %q", tt.pairs, got, c.Faults, tt.want)
		}
	}
}

// TestTags: what the tags say is what the code takes from them.
func TestTags(t *testing.T) {
	for _, s := range Manual() {
		if s.Choices != nil && s.Default != "" && !slices.Contains(s.Choices, s.Default) {
			t.Errorf("%s: default %q, want one of %q", s.Variable, s.Default, s.Choices)
		}
	}
	if got := texts(configure(t, leastSettings()).Faults); got != nil {
		t.Errorf("defaults: got faults %q, want none", got)
	}
}
