package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Warnings are what may be meant and seldom is. They keep nothing from serving.
func (c *Config) Warnings() []Fault {
	var warnings []Fault
	warn := func(variable, text string) { warnings = append(warnings, Fault{variable, text}) }
	if c.Upstream != nil && c.Upstream.Scheme == "http" && !transport.IsLoopback(c.Upstream.Hostname()) {
		warn("SIDECAR_UPSTREAM_URL", "requests and patients' data cross the network readable: the FHIR server is not on a loopback address, and the URL is http")
	}
	if slices.ContainsFunc(c.TrustedPrefixes, func(p netip.Prefix) bool { return p.Bits() < minTrustedPrefixBits }) {
		warn("SIDECAR_TRUSTED_PROXIES", "covers a very large range; any client in it can forge X-Forwarded-For")
	}
	for _, path := range c.PublicPaths {
		if text := publicWarning(path); text != "" {
			warn("SIDECAR_PUBLIC_PATHS", text)
			break
		}
	}
	if c.IntrospectionAuth == string(credential.AuthClientAssertion) && len(c.RequiredAudiences) == 0 {
		warn("SIDECAR_REQUIRED_AUDIENCES", "is not set: tokens for any audience are let through, among them, where the authorization server calls them active, the assertions by which modules prove who they are")
	}
	for _, variable := range c.ignored() {
		warn(variable, "is set and has no effect with "+c.mode())
	}
	return append(warnings, c.idling...)
}

// minTrustedPrefixBits is the length of the widest prefix that has a good use:
// fc00::/7, all private IPv6.
const minTrustedPrefixBits = 7

// resourceType is what a path segment looks like that names a type (FHIR R4 §2.21.0.1.1).
var resourceType = regexp.MustCompile(`^[A-Z][A-Za-z]*$`)

// publicWarning says why a public path is probably a mistake: without a token nobody should
// read resources, or run operations.
func publicWarning(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded // as the server does
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case strings.HasPrefix(segment, "$"):
			return "names an operation, which anybody may run then without a token"
		case segment == "_history" || segment == "_search":
			return "names resources of any type, which anybody may read then without a token"
		case resourceType.MatchString(segment):
			return "names a resource type, which anybody may read then without a token"
		}
	}
	if path == "*" {
		return "lets anybody read everything without a token"
	}
	return ""
}

// mode is the way of authenticating as settings write it.
func (c *Config) mode() string {
	switch {
	case c.UsesGrant() && c.TokenAuth != "":
		return "SIDECAR_TOKEN_AUTH=" + c.TokenAuth
	case c.UsesGrant() && c.ClientKeyFile != "":
		return "SIDECAR_CLIENT_KEY_FILE"
	case c.UsesGrant() && c.ClientSecretFile != "":
		return "SIDECAR_CLIENT_SECRET_FILE"
	case c.UsesGrant():
		return "SIDECAR_CLIENT_CERT_FILE"
	case c.IntrospectionAuth == string(credential.AuthBearer):
		return "SIDECAR_BEARER_TOKEN_FILE"
	}
	return "SIDECAR_INTROSPECTION_AUTH=" + c.IntrospectionAuth
}

// ignored are the settings of other ways of authenticating than the one in use.
func (c *Config) ignored() (variables []string) {
	auth := credential.Auth(c.IntrospectionAuth)
	file := auth == credential.AuthBearer && c.BearerTokenFile != ""
	proof := auth.Proof()
	if c.UsesGrant() {
		proof = c.GrantAuth().Proof()
	}
	signs, secret := proof == credential.ProofKey, proof == credential.ProofSecret
	for _, s := range []struct {
		variable, value string
		used            bool
	}{
		{"SIDECAR_BEARER_TOKEN_FILE", c.BearerTokenFile, file},
		{"SIDECAR_CLIENT_SECRET_FILE", c.ClientSecretFile, secret},
		{"SIDECAR_CLIENT_KEY_FILE", c.ClientKeyFile, signs},
		{"SIDECAR_CLIENT_KEY_ID", c.ClientKeyID, signs},
		{"SIDECAR_CLIENT_ASSERTION_ALG", c.ClientAssertionAlg, signs},
		{"SIDECAR_CLIENT_ASSERTION_AUDIENCE", c.ClientAssertionAudience, signs},
		{"SIDECAR_TOKEN_ENDPOINT", c.TokenEndpoint, c.NeedsTokenEndpoint()},
		{"SIDECAR_TOKEN_SCOPE", c.TokenScope, c.UsesGrant()},
		{"SIDECAR_TOKEN_AUTH", c.TokenAuth, c.UsesGrant()},
	} {
		if s.value != "" && !s.used {
			variables = append(variables, s.variable)
		}
	}
	return variables
}
