package config

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

const tenantPlaceholder = "{tenant}"

// EnforcesScopes reports whether SMART scopes are held against FHIR interactions,
// with or without refusing anything.
func (c *Config) EnforcesScopes() bool { return c.ScopeEnforcement != "off" }

// Guards reports whether requests of tokens that are limited to one patient are
// judged by the patient they lead to.
func (c *Config) Guards() bool { return c.PatientGuard != "off" }

// MakesSMARTConfiguration reports whether one is made of the issuer's metadata.
func (c *Config) MakesSMARTConfiguration() bool {
	return (c.SMARTConfiguration == "serve" || c.SMARTConfiguration == "fallback") && c.SMARTConfigurationFile == ""
}

func (c *Config) checkScopeEnforcement() {
	c.check("SIDECAR_OPERATIONS", smart.CheckOperations(c.Operations))
	c.check("SIDECAR_PATH_SCOPES", smart.CheckPaths(c.PathScopes))
	if !c.EnforcesScopes() {
		c.idle("SIDECAR_OPERATIONS", len(c.Operations) > 0 && !c.Guards(), "SIDECAR_SCOPE_ENFORCEMENT")
		c.idle("SIDECAR_PATH_SCOPES", len(c.PathScopes) > 0 && !c.Guards(), "SIDECAR_SCOPE_ENFORCEMENT")
	}
	_, err := policy.NewPatientGuard(c.PatientGuardTypes)
	c.check("SIDECAR_PATIENT_GUARD_TYPES", err)
	c.idle("SIDECAR_PATIENT_GUARD_TYPES", len(c.PatientGuardTypes) > 0 && !c.Guards(), "SIDECAR_PATIENT_GUARD")
	c.checkTenantClaim()
}

// checkTenantClaim looks for the claim among those that are kept anyway. Any other is a
// member that is kept besides.
func (c *Config) checkTenantClaim() {
	const variable = "SIDECAR_TENANT_CLAIM"
	if c.TenantClaim == "" {
		return
	}
	if !isMember(c.TenantClaim) {
		c.fault(variable, "must be the name of a claim, such as tenant")
		return
	}
	if !strings.Contains(c.UpstreamURL, tenantPlaceholder) {
		c.fault(variable, "needs {tenant} in SIDECAR_UPSTREAM_URL")
	}
	if claim, known := introspection.ClaimNamed(c.TenantClaim); known {
		c.TenantClaims = []introspection.Claim{claim}
		c.TenantOf = func(r *introspection.Response) string { return r.Text(claim) }
		return
	}
	i := slices.Index(c.Decoder.Extra, c.TenantClaim)
	if i < 0 {
		i = len(c.Decoder.Extra)
		c.Decoder.Extra = append(c.Decoder.Extra, c.TenantClaim)
	}
	c.TenantOf = func(r *introspection.Response) string { return r.Extra(i) }
}

// PublicBase is the FHIR base as clients write it, without a slash at its end, or "".
// It may hold {tenant}.
func (c *Config) PublicBase() string { return strings.TrimRight(c.PublicURL, "/") }

// PublicHost is the host in it, or "".
func (c *Config) PublicHost() string {
	u, err := url.Parse(c.PublicBase())
	if err != nil {
		return ""
	}
	return u.Host
}

// UpstreamBase is the FHIR base as the sidecar reaches it, without a slash at its end.
// It may hold {tenant}.
func (c *Config) UpstreamBase() string { return strings.TrimRight(c.UpstreamURL, "/") }

func (c *Config) checkPublicURL() {
	const variable = "SIDECAR_PUBLIC_URL"
	if c.PublicURL == "" {
		if c.ResourceMetadata == "on" {
			c.fault(variable, "is required with SIDECAR_RESOURCE_METADATA=on: what is protected can't be told from a request")
		}
		return
	}
	u, err := parseURL(strings.Replace(c.PublicURL, tenantPlaceholder, "tenant", 1))
	switch {
	case err != nil:
	case u.Scheme != "https" && !transport.IsLoopback(u.Hostname()):
		err = errors.New("must be https, or http to a loopback address")
	case hasQuery(u):
		err = errors.New("must not have a query")
	case strings.ContainsAny(u.Path, "{}\"\\ ") || u.RawPath != "" || strings.Contains(u.Path, "//"):
		err = errors.New("must have a plain path, with no placeholder but {tenant}")
	case strings.Contains(c.PublicURL, tenantPlaceholder) != strings.Contains(c.UpstreamURL, tenantPlaceholder):
		err = errors.New("must have {tenant} exactly when SIDECAR_UPSTREAM_URL has it")
	}
	if err != nil {
		c.fault(variable, "%v", err)
	}
}

func (c *Config) checkMetadata() {
	if (c.MakesSMARTConfiguration() || c.SMARTConfiguration == "fallback") && c.IssuerURL == "" {
		c.fault("SIDECAR_ISSUER_URL", "is required with SIDECAR_SMART_CONFIGURATION=%s: the document is made of the issuer's metadata", c.SMARTConfiguration)
	}
	if c.SMARTConfiguration == "fallback" && c.FHIRBase() == "" && c.Upstream != nil {
		c.fault("SIDECAR_SMART_CONFIGURATION", "fallback can't look at what the FHIR server has while SIDECAR_UPSTREAM_URL has {tenant}; serve can do without")
	}
	c.SMARTScopes = strings.Fields(strings.Join(c.SMARTScopes, " "))
	if c.ResourceDocumentation != "" {
		if _, err := parseURL(c.ResourceDocumentation); err != nil {
			c.fault("SIDECAR_RESOURCE_DOCUMENTATION", "%v", err)
		}
	}
	forwards := c.SMARTConfiguration == "forward"
	c.idle("SIDECAR_SMART_CONFIGURATION_FILE", c.SMARTConfigurationFile != "" && forwards, "SIDECAR_SMART_CONFIGURATION")
	c.idle("SIDECAR_SMART_CAPABILITIES", len(c.SMARTCapabilities) > 0 && forwards, "SIDECAR_SMART_CONFIGURATION")
	c.idle("SIDECAR_SMART_SCOPES", len(c.SMARTScopes) > 0 && forwards && c.ResourceMetadata == "off", "SIDECAR_SMART_CONFIGURATION")
	c.idle("SIDECAR_RESOURCE_NAME", c.ResourceName != "" && c.ResourceMetadata == "off", "SIDECAR_RESOURCE_METADATA")
	c.idle("SIDECAR_RESOURCE_DOCUMENTATION", c.ResourceDocumentation != "" && c.ResourceMetadata == "off", "SIDECAR_RESOURCE_METADATA")
}

// checkOrigins takes origins as browsers send them (RFC 6454 §6.2): in lower case,
// without the scheme's own port and without a path.
func (c *Config) checkOrigins() {
	const variable = "SIDECAR_CORS_ORIGINS"
	for i, origin := range c.CORSOrigins {
		if origin == "*" {
			if len(c.CORSOrigins) > 1 {
				c.fault(variable, "must be * alone, or origins")
			}
			continue
		}
		u, err := parseURL(origin)
		switch {
		case err != nil || u.Path != "" && u.Path != "/" || hasQuery(u) || strings.Contains(origin, "*"):
			c.fault(variable, "must be origins, such as https://app.example.org, or *")
		case strings.ContainsFunc(origin, func(r rune) bool { return r > unicode.MaxASCII }):
			c.fault(variable, "must have hosts as browsers send them, in ASCII: xn--…")
		default:
			c.CORSOrigins[i] = originOf(u)
		}
	}
}

func originOf(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		host = "[" + ip.String() + "]"
	}
	if port := u.Port(); port != "" && port != map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		host += ":" + port
	}
	return u.Scheme + "://" + host
}

// checkAuditFormat refuses what would change nothing.
func (c *Config) checkAuditFormat() {
	off := c.AuditLog == "off"
	c.idle("SIDECAR_AUDIT_FORMAT", off && c.AuditFormat != "json", "SIDECAR_AUDIT_LOG")
	c.idle("SIDECAR_AUDIT_QUERY", off && c.AuditQuery, "SIDECAR_AUDIT_LOG")
	c.idle("SIDECAR_AUDIT_OBSERVER", c.AuditObserver != "" && (off || c.AuditFormat == "json"), "SIDECAR_AUDIT_FORMAT")
}
