package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// Config is the configuration in the types that the packages take.
type Config struct {
	*Settings

	Upstream        *url.URL              // SIDECAR_UPSTREAM_URL; nil when that is at fault
	ContextHeaders  []proxy.ContextHeader // SIDECAR_HEADERS
	TrustedPrefixes []netip.Prefix        // SIDECAR_TRUSTED_PROXIES
	Level           slog.Level            // SIDECAR_LOG_LEVEL

	// Faults are what is wrong. Nothing may be served while there are any.
	Faults []Fault

	unread []Fault // what reading the environment found; also in Faults
}

// Load reads the environment and checks everything that can be checked without
// opening a file or a connection. All faults are in the result.
func Load() *Config {
	s, unread := read()
	return s.validate(unread)
}

// validate checks the settings and sets no default. The faults of reading come
// first.
func (s *Settings) validate(unread []Fault) *Config {
	c := &Config{Settings: s, unread: unread, Faults: slices.Clone(unread)}
	c.checkAddresses()
	c.checkUpstream()
	c.checkAuthorizationServer()
	c.checkCredential()
	c.checkPairs()
	c.checkLimits()
	c.checkScopes()
	c.checkHeaders()
	c.checkOperation()
	c.checkAuditLog()
	c.checkScopeEnforcement()
	return c
}

// fault adds one, unless the variable couldn't even be read: then what stands in
// its field isn't what the operator set.
func (c *Config) fault(variable, format string, args ...any) {
	f := Fault{variable, fmt.Sprintf(format, args...)}
	if !hasFault(c.unread, variable) && !slices.Contains(c.Faults, f) {
		c.Faults = append(c.Faults, f)
	}
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
		err = proxy.CheckBase(u.EscapedPath())
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
		c.fault(variable, "is the sidecar's own SIDECAR_LISTEN_ADDRESS: requests would go round in circles")
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

// Upper limits are far from any sensible value; they catch slipped digits.
const (
	maxEntries        = 10_000_000
	maxTokenBytes     = 1 << 20
	maxIntrospections = 10_000
	maxSkew           = 5 * time.Minute
	maxWait           = 24 * time.Hour
)

func (c *Config) checkLimits() {
	count := func(variable string, value, limit int) {
		if value < 1 || value > limit {
			c.fault(variable, "must be from 1 to %d", limit)
		}
	}
	count("SIDECAR_CACHE_MAX_ENTRIES", c.CacheMaxEntries, maxEntries)
	count("SIDECAR_MAX_TOKEN_BYTES", c.MaxTokenBytes, maxTokenBytes)
	count("SIDECAR_MAX_INTROSPECTIONS", c.MaxIntrospections, maxIntrospections)
	between := func(variable string, value, least, most time.Duration) {
		if value < least || value > most {
			c.fault(variable, "must be from %v to %v", least, most)
		}
	}
	between("SIDECAR_INTROSPECTION_TIMEOUT", c.IntrospectionTimeout, time.Millisecond, maxWait)
	between("SIDECAR_UPSTREAM_HEADER_TIMEOUT", c.UpstreamHeaderTimeout, time.Millisecond, maxWait)
	between("SIDECAR_SHUTDOWN_DELAY", c.ShutdownDelay, 0, maxWait)
	between("SIDECAR_SHUTDOWN_TIMEOUT", c.ShutdownTimeout, 0, maxWait)
	between("SIDECAR_CLOCK_SKEW", c.ClockSkew, 0, maxSkew)
	age := func(variable string, value time.Duration) {
		if value < 0 {
			c.fault(variable, "must not be negative")
		}
	}
	age("SIDECAR_CACHE_MAX_AGE", c.CacheMaxAge)
	age("SIDECAR_CACHE_NO_EXP_AGE", c.CacheNoExpAge)
	age("SIDECAR_CACHE_INACTIVE_AGE", c.CacheInactiveAge)
}

// checkScopes takes blanks between scopes as well as commas, because OAuth itself
// writes them so and no scope has one (RFC 6749 §3.3). A quote would break the
// challenge that names them.
func (c *Config) checkScopes() {
	c.RequiredScopes = strings.Fields(strings.Join(c.RequiredScopes, " "))
	for _, scope := range c.RequiredScopes {
		if strings.ContainsFunc(scope, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
			c.fault("SIDECAR_REQUIRED_SCOPES", "must be scopes separated by commas or blanks, without quotes and backslashes")
		}
	}
}

func (c *Config) checkHeaders() {
	if err := proxy.CheckHeaderPrefix(c.HeaderPrefix); err != nil {
		c.fault("SIDECAR_HEADER_PREFIX", "%v", err)
	}
	wanted := slices.Clone(c.Headers)
	for _, header := range proxy.ContextHeaders() {
		isName := func(name string) bool { return slices.Contains(header.Names, name) }
		if slices.ContainsFunc(wanted, isName) {
			c.ContextHeaders = append(c.ContextHeaders, header)
			wanted = slices.DeleteFunc(wanted, isName)
		}
	}
	if len(wanted) > 0 {
		var known []string
		for _, header := range proxy.ContextHeaders() {
			known = append(known, header.Names[0])
		}
		c.fault("SIDECAR_HEADERS", "has a claim that is not one of %s", strings.Join(known, " "))
	}
	if c.UpstreamAuthorization != "forward" && c.UpstreamAuthorization != "strip" {
		c.fault("SIDECAR_UPSTREAM_AUTHORIZATION", "must be forward or strip")
	}
	for _, path := range c.PublicPaths {
		if err := proxy.CheckPublicPath(path); err != nil {
			c.fault("SIDECAR_PUBLIC_PATHS", "%v", err)
		}
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
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[c.LogLevel]
	if !ok {
		c.fault("SIDECAR_LOG_LEVEL", "must be debug, info, warn or error")
	}
	c.Level = level
}

// checkAuditLog refuses what is hardly meant as a file: one of that name would be
// filled where nobody looks for it.
func (c *Config) checkAuditLog() {
	words := []string{"", "-", "off", "on", "no", "none", "true", "false", "stdout", "stderr"}
	if c.AuditLog != "off" && c.AuditLog != "stdout" && slices.Contains(words, strings.ToLower(c.AuditLog)) {
		c.fault("SIDECAR_AUDIT_LOG", "must be off, stdout or a file, such as /var/log/audit.json")
	}
}

func (c *Config) checkScopeEnforcement() {
	if c.ScopeEnforcement != "off" && !c.EnforcesScopes() {
		c.fault("SIDECAR_SCOPE_ENFORCEMENT", "must be off or coarse")
	}
}

// EnforcesScopes reports whether SMART scopes are held against FHIR interactions.
func (c *Config) EnforcesScopes() bool { return c.ScopeEnforcement == "coarse" }
