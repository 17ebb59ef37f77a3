package config

import (
	"net/url"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// UsesGrant reports whether the sidecar gets its own token from a token endpoint.
func (c *Config) UsesGrant() bool {
	return credential.Auth(c.IntrospectionAuth) == credential.AuthBearer && c.BearerTokenFile == ""
}

// NeedsTokenEndpoint reports whether a URL for tokens must be known.
func (c *Config) NeedsTokenEndpoint() bool {
	return c.UsesGrant() || c.ClientAssertionAudience == "token"
}

// AsksFHIRServer reports whether endpoints are looked for in what the FHIR
// server publishes. A base with {tenant} is no URL that could be asked.
func (c *Config) AsksFHIRServer() bool {
	missing := c.IntrospectionEndpoint == "" || c.NeedsTokenEndpoint() && c.TokenEndpoint == ""
	return (missing || c.SMARTConfiguration == "fallback") && c.FHIRBase() != "" && (c.IssuerURL != "" || len(c.DiscoveryAllowedHosts) > 0)
}

// Discovers reports whether any document must be read.
func (c *Config) Discovers() bool {
	missing := c.IntrospectionEndpoint == "" || c.NeedsTokenEndpoint() && c.TokenEndpoint == ""
	return missing || c.NeedsJWKS() || c.MakesSMARTConfiguration() || c.SMARTConfiguration == "fallback"
}

// NeedsJWKS reports whether the URL of the issuer's keys must be discovered.
func (c *Config) NeedsJWKS() bool { return c.JWTPrecheck && c.JwksURL == "" }

// GrantAuth is how the client credentials grant authenticates: as is set, else by
// what there is to authenticate with.
func (c *Config) GrantAuth() credential.TokenAuth {
	switch {
	case c.TokenAuth != "":
		return credential.TokenAuth(c.TokenAuth)
	case c.ClientKeyFile != "":
		return credential.TokenAuthPrivateKeyJWT
	case c.ClientSecretFile == "" && c.ClientCertFile != "":
		return credential.TokenAuthTLSClient
	}
	return credential.TokenAuthSecretBasic
}

// canDiscover reports whether there is a document to read that may be believed.
func (c *Config) canDiscover() bool {
	return c.IssuerURL != "" || c.FHIRBase() != "" && len(c.DiscoveryAllowedHosts) > 0
}

// FHIRBase is the FHIR server's base without a slash at its end, or "" when it
// has a placeholder.
func (c *Config) FHIRBase() string {
	if c.Upstream == nil || strings.Contains(c.Upstream.Path, "{") {
		return ""
	}
	return strings.TrimRight(c.Upstream.String(), "/")
}

func (c *Config) checkAuthorizationServer() {
	c.checkSecureURL("SIDECAR_INTROSPECTION_ENDPOINT", c.IntrospectionEndpoint)
	c.checkSecureURL("SIDECAR_TOKEN_ENDPOINT", c.TokenEndpoint)
	c.checkSecureURL("SIDECAR_ISSUER_URL", c.IssuerURL)
	c.checkSecureURL("SIDECAR_JWKS_URL", c.JwksURL)
	if u, err := parseURL(c.IssuerURL); err == nil && hasQuery(u) {
		c.fault("SIDECAR_ISSUER_URL", "must not have a query") // RFC 8414 §2
	}
	for _, host := range c.DiscoveryAllowedHosts {
		if u, err := parseURL("https://" + host); err != nil || u.Host != host || strings.ContainsAny(host, "*?/") {
			c.fault("SIDECAR_DISCOVERY_ALLOWED_HOSTS", "must be hosts, such as as.example.org or as.example.org:8443")
		}
	}
	if c.IntrospectionEndpoint == "" && !c.canDiscover() {
		c.fault("SIDECAR_INTROSPECTION_ENDPOINT", "is required, or SIDECAR_ISSUER_URL or SIDECAR_DISCOVERY_ALLOWED_HOSTS to discover it: "+
			"a document that names it says where every token goes, so that it is believed for known hosts only")
	}
	if c.JWTPrecheck && c.IssuerURL == "" {
		c.fault("SIDECAR_ISSUER_URL", "is required with SIDECAR_JWT_PRECHECK=true")
	}
}

func (c *Config) checkCredential() {
	auth := credential.Auth(c.IntrospectionAuth)
	variable, file := c.ProofFile(auth.Proof())
	required := func(variable, value string) {
		if value == "" {
			c.fault(variable, "is required with SIDECAR_INTROSPECTION_AUTH=%s", c.IntrospectionAuth)
		}
	}
	switch {
	case auth == credential.AuthBearer:
		c.checkGrant()
	case variable != "":
		required("SIDECAR_CLIENT_ID", c.ClientID)
		required(variable, file)
	case auth == credential.AuthNone && !c.endpointIsLocal():
		c.fault("SIDECAR_INTROSPECTION_AUTH", "none is for an endpoint on a loopback address only")
	}
	c.checkAssertion()
}

// ProofFile returns the setting of the file with what a client proves with who it is,
// and its value. Both are "" for what takes no such file.
func (c *Config) ProofFile(proof credential.Proof) (variable, file string) {
	switch proof {
	case credential.ProofSecret:
		return "SIDECAR_CLIENT_SECRET_FILE", c.ClientSecretFile
	case credential.ProofKey:
		return "SIDECAR_CLIENT_KEY_FILE", c.ClientKeyFile
	case credential.ProofCertificate:
		return "SIDECAR_CLIENT_CERT_FILE", c.ClientCertFile
	}
	return "", ""
}

// endpointIsLocal reports whether the introspection endpoint, as it is set or
// wherever discovery may find it, is on a loopback address.
func (c *Config) endpointIsLocal() bool {
	places := []string{c.IntrospectionEndpoint}
	if c.IntrospectionEndpoint == "" {
		places = []string{c.IssuerURL}
	}
	if c.IntrospectionEndpoint == "" && len(c.DiscoveryAllowedHosts) > 0 {
		places = nil
		for _, host := range c.DiscoveryAllowedHosts {
			places = append(places, "http://"+host)
		}
	}
	return !slices.ContainsFunc(places, func(place string) bool {
		u, err := url.Parse(place)
		return err != nil || !transport.IsLoopback(u.Hostname())
	})
}

func (c *Config) checkAssertion() {
	if err := credential.CheckClientID(c.ClientID); c.ClientID != "" && err != nil {
		c.fault("SIDECAR_CLIENT_ID", "%v", err)
	}
	switch {
	case c.ClientAssertionAudience == "token" && c.TokenEndpoint == "" && !c.canDiscover():
		c.fault("SIDECAR_TOKEN_ENDPOINT", "is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=token")
	case c.ClientAssertionAudience == "introspection" && c.UsesGrant():
		c.fault("SIDECAR_CLIENT_ASSERTION_AUDIENCE", "introspection is not where the grant's assertion goes")
	case c.ClientAssertionAudience == "issuer" && c.IssuerURL == "":
		c.fault("SIDECAR_ISSUER_URL", "is required with SIDECAR_CLIENT_ASSERTION_AUDIENCE=issuer")
	case !slices.Contains([]string{"", "introspection", "token", "issuer"}, c.ClientAssertionAudience) && !isAbsolute(c.ClientAssertionAudience):
		c.fault("SIDECAR_CLIENT_ASSERTION_AUDIENCE", "must be introspection, token, issuer or a URL")
	}
}

// isAbsolute reports whether raw has a scheme: a misspelled keyword has none.
func isAbsolute(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.IsAbs()
}

// checkGrant checks what gives the sidecar its own bearer token.
func (c *Config) checkGrant() {
	if c.BearerTokenFile != "" {
		return
	}
	if c.ClientID == "" && c.TokenEndpoint == "" {
		c.fault("SIDECAR_BEARER_TOKEN_FILE", "is required with SIDECAR_INTROSPECTION_AUTH=bearer, or SIDECAR_CLIENT_ID with a secret or key to get a token at SIDECAR_TOKEN_ENDPOINT")
		return
	}
	if c.TokenEndpoint == "" && !c.canDiscover() {
		c.fault("SIDECAR_TOKEN_ENDPOINT", "is required to get a bearer token, or SIDECAR_ISSUER_URL to discover it")
	}
	if c.ClientID == "" {
		c.fault("SIDECAR_CLIENT_ID", "is required to get a bearer token")
	}
	if c.TokenAuth == "" && c.ClientSecretFile == "" && c.ClientKeyFile == "" && c.ClientCertFile == "" {
		c.fault("SIDECAR_CLIENT_KEY_FILE", "or SIDECAR_CLIENT_SECRET_FILE must be set to obtain a bearer token")
		return
	}
	if variable, file := c.ProofFile(c.GrantAuth().Proof()); variable != "" && file == "" {
		c.fault(variable, "is required with SIDECAR_TOKEN_AUTH=%s", c.TokenAuth)
	}
}
