package main

import (
	"net/url"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// usesGrant reports whether the sidecar gets its own token from a token endpoint.
func (s *settings) usesGrant() bool {
	return introspection.Auth(s.IntrospectionAuth) == introspection.AuthBearer && s.BearerTokenFile == ""
}

// needsTokenEndpoint reports whether a URL for tokens must be known.
func (s *settings) needsTokenEndpoint() bool {
	return s.usesGrant() || s.ClientAssertionAudience == "token"
}

// asksFHIRServer reports whether endpoints are looked for in what the FHIR
// server publishes. A base with {tenant} is no URL that could be asked.
func (s *settings) asksFHIRServer() bool {
	missing := s.IntrospectionEndpoint == "" || s.needsTokenEndpoint() && s.TokenEndpoint == ""
	return missing && s.fhirBase() != "" && (s.IssuerURL != "" || len(s.DiscoveryAllowedHosts) > 0)
}

// discovers reports whether any document must be read.
func (s *settings) discovers() bool {
	missing := s.IntrospectionEndpoint == "" || s.needsTokenEndpoint() && s.TokenEndpoint == ""
	return missing || s.JWTPrecheck
}

// canDiscover reports whether there is a document to read that may be believed.
func (s *settings) canDiscover() bool {
	return s.IssuerURL != "" || s.fhirBase() != "" && len(s.DiscoveryAllowedHosts) > 0
}

// fhirBase is the FHIR server's base without a slash at its end, or "" when it
// has a placeholder.
func (s *settings) fhirBase() string {
	if s.upstream == nil || strings.Contains(s.upstream.Path, "{") {
		return ""
	}
	return strings.TrimRight(s.upstream.String(), "/")
}

func (s *settings) checkAuthorizationServer() {
	s.checkSecureURL("SIDECAR_INTROSPECTION_ENDPOINT", s.IntrospectionEndpoint)
	s.checkSecureURL("SIDECAR_TOKEN_ENDPOINT", s.TokenEndpoint)
	s.checkSecureURL("SIDECAR_ISSUER_URL", s.IssuerURL)
	if u, err := parseURL(s.IssuerURL); err == nil && hasQuery(u) {
		s.fault("SIDECAR_ISSUER_URL", "must not have a query") // RFC 8414 §2
	}
	for _, host := range s.DiscoveryAllowedHosts {
		if u, err := parseURL("https://" + host); err != nil || u.Host != host || strings.ContainsAny(host, "*?/") {
			s.fault("SIDECAR_DISCOVERY_ALLOWED_HOSTS", "must be hosts, such as as.example.org or as.example.org:8443")
		}
	}
	if s.IntrospectionEndpoint == "" && !s.canDiscover() {
		s.fault("SIDECAR_INTROSPECTION_ENDPOINT", "is required, or SIDECAR_ISSUER_URL or SIDECAR_DISCOVERY_ALLOWED_HOSTS to discover it: "+
			"a document that names it says where every token goes, so that it is believed for known hosts only")
	}
	if s.JWTPrecheck && s.IssuerURL == "" {
		s.fault("SIDECAR_ISSUER_URL", "is required with SIDECAR_JWT_PRECHECK=true")
	}
}

func (s *settings) checkCredential() {
	required := func(variable, value string) {
		if value == "" {
			s.fault(variable, "is required with SIDECAR_INTROSPECTION_AUTH=%s", s.IntrospectionAuth)
		}
	}
	switch introspection.Auth(s.IntrospectionAuth) {
	case introspection.AuthBearer:
		s.checkGrant()
	case introspection.AuthClientAssertion:
		required("SIDECAR_CLIENT_ID", s.ClientID)
		required("SIDECAR_CLIENT_KEY_FILE", s.ClientKeyFile)
	case introspection.AuthClientSecretBasic, introspection.AuthClientSecretPost:
		required("SIDECAR_CLIENT_ID", s.ClientID)
		required("SIDECAR_CLIENT_SECRET_FILE", s.ClientSecretFile)
	case introspection.AuthNone:
		if !s.endpointIsLocal() {
			s.fault("SIDECAR_INTROSPECTION_AUTH", "none is for an endpoint on a loopback address only")
		}
	default:
		s.fault("SIDECAR_INTROSPECTION_AUTH", "must be bearer, client_assertion, client_secret_basic, client_secret_post or none")
	}
	s.checkAssertion()
}

// endpointIsLocal reports whether the introspection endpoint, as it is set or
// wherever discovery may find it, is on a loopback address.
func (s *settings) endpointIsLocal() bool {
	places := []string{s.IntrospectionEndpoint}
	if s.IntrospectionEndpoint == "" {
		places = []string{s.IssuerURL}
	}
	if s.IntrospectionEndpoint == "" && len(s.DiscoveryAllowedHosts) > 0 {
		places = nil
		for _, host := range s.DiscoveryAllowedHosts {
			places = append(places, "http://"+host)
		}
	}
	return !slices.ContainsFunc(places, func(place string) bool {
		u, err := url.Parse(place)
		return err != nil || !introspection.IsLoopback(u.Hostname())
	})
}

func (s *settings) checkAssertion() {
	algorithms := []string{"", "RS256", "RS384", "RS512", "PS256", "PS384", "ES256", "ES384", "EdDSA"}
	if !slices.Contains(algorithms, s.ClientAssertionAlg) {
		s.fault("SIDECAR_CLIENT_ASSERTION_ALG", "must be one of %s", strings.Join(algorithms[1:], " "))
	}
	switch {
	case s.ClientAssertionAudience == "token" && s.TokenEndpoint == "" && !s.canDiscover():
		s.fault("SIDECAR_TOKEN_ENDPOINT", "is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=token")
	case s.ClientAssertionAudience == "issuer" && s.IssuerURL == "":
		s.fault("SIDECAR_ISSUER_URL", "is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=issuer")
	case !slices.Contains([]string{"", "introspection", "token", "issuer"}, s.ClientAssertionAudience) && !isAbsolute(s.ClientAssertionAudience):
		s.fault("SIDECAR_CLIENT_ASSERTION_AUDIENCE", "must be introspection, token, issuer or a URL")
	}
}

// isAbsolute reports whether raw has a scheme: a misspelled keyword has none.
func isAbsolute(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.IsAbs()
}

// checkGrant checks what gives the sidecar its own bearer token.
func (s *settings) checkGrant() {
	if s.BearerTokenFile != "" {
		return
	}
	if s.ClientID == "" && s.TokenEndpoint == "" {
		s.fault("SIDECAR_BEARER_TOKEN_FILE", "is required with SIDECAR_INTROSPECTION_AUTH=bearer, or SIDECAR_CLIENT_ID with a secret or key to get a token at SIDECAR_TOKEN_ENDPOINT")
		return
	}
	if s.TokenEndpoint == "" && !s.canDiscover() {
		s.fault("SIDECAR_TOKEN_ENDPOINT", "is required to get a bearer token, or SIDECAR_ISSUER_URL to discover it")
	}
	if s.ClientID == "" {
		s.fault("SIDECAR_CLIENT_ID", "is required to get a bearer token")
	}
	if s.ClientSecretFile == "" && s.ClientKeyFile == "" { // with both, the key counts
		s.fault("SIDECAR_CLIENT_KEY_FILE", "or SIDECAR_CLIENT_SECRET_FILE is required to get a bearer token")
	}
}
