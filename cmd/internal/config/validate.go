package config

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Load reads the environment and checks everything that can be checked without
// opening a file or a connection. All faults are in the result.
func Load(rules Rules) *Config {
	s, unread := read()
	return s.validate(rules, unread)
}

// validate checks the settings and sets no default. The faults of reading come
// first.
func (s *Settings) validate(rules Rules, unread []Fault) *Config {
	c := &Config{Settings: s, Faults: slices.Clone(unread), rules: rules}
	c.checkAddresses()
	c.checkUpstream()
	c.checkAuthorizationServer()
	c.checkCredential()
	c.checkPairs()
	c.checkTags()
	c.checkScopes()
	c.checkHeaders()
	c.checkExtraHeaders()
	c.checkAliases()
	c.checkOperation()
	c.checkAuditLog()
	c.checkOnce()
	c.checkSharedCache()
	c.checkAuditFormat()
	c.checkScopeEnforcement()
	c.checkPublicURL()
	c.checkMetadata()
	c.checkOrigins()
	return c
}

func (c *Config) checkAddresses() {
	check := func(variable, address string) {
		_, port, err := net.SplitHostPort(address)
		if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || convErr != nil || n == 0 && port != "0" {
			c.fault(variable, "must be host:port or :port")
		}
	}
	check("SIDECAR_LISTEN_ADDRESS", c.ListenAddress)
	check("SIDECAR_ADMIN_ADDRESS", c.AdminAddress)
	if _, port, _ := net.SplitHostPort(c.ListenAddress); c.ListenAddress == c.AdminAddress && port != "0" {
		c.fault("SIDECAR_ADMIN_ADDRESS", "must differ from SIDECAR_LISTEN_ADDRESS")
	}
}

func (c *Config) checkUpstream() {
	const variable = "SIDECAR_UPSTREAM_URL"
	if c.UpstreamURL == "" {
		c.fault(variable, "is required: the FHIR base URL, such as http://127.0.0.1:8080/fhir")
		return
	}
	u, err := parseURL(c.UpstreamURL)
	if err == nil {
		err = c.rules.Base(u.EscapedPath())
	}
	if err == nil && hasQuery(u) {
		err = errors.New("must not have a query")
	}
	if err != nil {
		c.fault(variable, "%v", err)
		return
	}
	c.Upstream = u
	_, port, _ := net.SplitHostPort(c.ListenAddress)
	if port != "0" && port == transport.PortOf(u) && transport.IsLoopback(u.Hostname()) {
		c.fault(variable, "is the sidecar's own SIDECAR_LISTEN_ADDRESS: requests would loop")
	}
}

func (c *Config) checkPairs() {
	pair := func(certVariable, cert, keyVariable, key string) {
		switch {
		case cert != "" && key == "":
			c.fault(keyVariable, "is required with %s", certVariable)
		case cert == "" && key != "":
			c.fault(certVariable, "is required with %s", keyVariable)
		}
	}
	pair("SIDECAR_TLS_CERT_FILE", c.TLSCertFile, "SIDECAR_TLS_KEY_FILE", c.TLSKeyFile)
	pair("SIDECAR_CLIENT_CERT_FILE", c.ClientCertFile, "SIDECAR_CLIENT_CERT_KEY_FILE", c.ClientCertKeyFile)
}

// checkTags holds each setting to the range and the choices of its tags.
func (c *Config) checkTags() {
	fields := reflect.ValueOf(c.Settings).Elem()
	for i, s := range Manual() {
		v := fields.Field(i)
		if b := rangeOf(fields.Type().Field(i)); b != (bounds{}) {
			if text := b.fault(v); text != "" {
				c.fault(s.Variable, "%s", text)
			}
		}
		if s.Choices != nil && !slices.Contains(s.Choices, v.String()) && (v.String() != "" || s.Default != "") {
			c.fault(s.Variable, "must be %s", either(s.Choices))
		}
	}
}

// either is a list of choices in words.
func either(choices []string) string {
	last := len(choices) - 1
	return strings.Join(choices[:last], ", ") + " or " + choices[last]
}

// checkScopes takes spaces between scopes as well as commas, because OAuth itself
// writes them so and no scope has one (RFC 6749 §3.3). A quote would break the
// challenge that names them.
func (c *Config) checkScopes() {
	c.RequiredScopes = strings.Fields(strings.Join(c.RequiredScopes, " "))
	for _, scope := range c.RequiredScopes {
		if strings.ContainsFunc(scope, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
			c.fault("SIDECAR_REQUIRED_SCOPES", "must be scopes separated by commas or spaces, without quotes and backslashes")
		}
	}
}

func (c *Config) checkHeaders() {
	c.check("SIDECAR_HEADER_PREFIX", c.rules.HeaderPrefix(c.HeaderPrefix))
	c.check("SIDECAR_HEADERS", c.rules.ContextHeaders(c.Headers))
	for _, path := range c.PublicPaths {
		c.check("SIDECAR_PUBLIC_PATHS", c.rules.PublicPath(path))
	}
}

func (c *Config) checkOperation() {
	for _, cidr := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(cidr)
		switch {
		case err != nil:
			c.fault("SIDECAR_TRUSTED_PROXIES", "must be CIDRs, such as 10.1.0.0/16")
		case prefix.Addr().Is4In6():
			c.fault("SIDECAR_TRUSTED_PROXIES", "must not write IPv4 addresses as IPv6: they would match nobody")
		case prefix.Bits() == 0:
			c.fault("SIDECAR_TRUSTED_PROXIES", "must not trust every address: anyone could forge X-Forwarded-For")
		default:
			c.TrustedPrefixes = append(c.TrustedPrefixes, prefix.Masked())
		}
	}
	if c.AdminTLS && c.TLSCertFile == "" {
		c.fault("SIDECAR_ADMIN_TLS", "needs SIDECAR_TLS_CERT_FILE: the admin listener uses the data listener's certificate")
	}
	_ = c.Level.UnmarshalText([]byte(c.LogLevel)) // one of the choices, or at fault
}

// checkAuditLog rejects values that look like a mode (on, true, stderr), so that a
// typo does not create a file of that name.
func (c *Config) checkAuditLog() {
	words := []string{"", "-", "off", "on", "no", "none", "true", "false", "stdout", "stderr"}
	if c.AuditLog != "off" && c.AuditLog != "stdout" && slices.Contains(words, strings.ToLower(c.AuditLog)) {
		c.fault("SIDECAR_AUDIT_LOG", "must be off, stdout or a file, such as /var/log/audit.json")
	}
}

// Policy names what a token must have besides being active.
func (c *Config) Policy() []string {
	policy := []string{}
	for _, check := range []struct {
		name string
		on   bool
	}{
		{"audience", len(c.RequiredAudiences) > 0},
		{"issuer", len(c.RequiredIssuers) > 0},
		{"scope", len(c.RequiredScopes) > 0},
		{"token_type", len(c.RequiredTokenTypes) > 0},
		{"scope_enforcement=" + c.ScopeEnforcement, c.ScopeEnforcement != "off"},
		{"patient_guard=" + c.PatientGuard, c.PatientGuard != "off"},
		{"tenant", c.TenantClaim != ""},
	} {
		if check.on {
			policy = append(policy, check.name)
		}
	}
	return policy
}

// BypassPort is the FHIR server's port, if it is on loopback and a way around the
// sidecar is to be looked for.
func (c *Config) BypassPort() (port uint16, ok bool) {
	if c.BypassGuard == "off" || c.Upstream == nil || !transport.IsLoopback(c.Upstream.Hostname()) {
		return 0, false
	}
	n, err := strconv.ParseUint(transport.PortOf(c.Upstream), 10, 16)
	return uint16(n), err == nil
}
