package main

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

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// settings are the configuration in the types that the packages take.
type settings struct {
	*config
	upstream *url.URL
	headers  []proxy.ContextHeader
	trusted  []netip.Prefix
	level    slog.Level
	unread   []fault // what reading the environment found; also in faults
	faults   []fault
}

// validate checks everything that can be checked without opening a file or a
// connection, and sets no default. All faults are in the result, those of
// reading first.
func (c *config) validate(unread []fault) *settings {
	s := &settings{config: c, unread: unread, faults: slices.Clone(unread)}
	s.checkAddresses()
	s.checkUpstream()
	s.checkAuthorizationServer()
	s.checkCredential()
	s.checkPairs()
	s.checkLimits()
	s.checkScopes()
	s.checkHeaders()
	s.checkOperation()
	s.checkAuditLog()
	s.checkScopeEnforcement()
	return s
}

// fault adds one, unless the variable couldn't even be read: then what stands in
// its field isn't what the operator set.
func (s *settings) fault(variable, format string, args ...any) {
	f := fault{variable, fmt.Sprintf(format, args...)}
	if !told(s.unread, variable) && !slices.Contains(s.faults, f) {
		s.faults = append(s.faults, f)
	}
}

func (s *settings) checkAddresses() {
	check := func(variable, address string) {
		_, port, err := net.SplitHostPort(address)
		if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || convErr != nil || n == 0 && port != "0" {
			s.fault(variable, "must be host:port or :port")
		}
	}
	check("SIDECAR_LISTEN_ADDRESS", s.ListenAddress)
	check("SIDECAR_ADMIN_ADDRESS", s.AdminAddress)
	if _, port, _ := net.SplitHostPort(s.ListenAddress); s.ListenAddress == s.AdminAddress && port != "0" {
		s.fault("SIDECAR_ADMIN_ADDRESS", "must differ from SIDECAR_LISTEN_ADDRESS")
	}
}

func (s *settings) checkUpstream() {
	const variable = "SIDECAR_UPSTREAM_URL"
	if s.UpstreamURL == "" {
		s.fault(variable, "is required: the FHIR base URL, such as http://127.0.0.1:8080/fhir")
		return
	}
	u, err := parseURL(s.UpstreamURL)
	if err == nil {
		err = proxy.CheckBase(u.EscapedPath())
	}
	if err == nil && hasQuery(u) {
		err = errors.New("must not have a query")
	}
	if err != nil {
		s.fault(variable, "%v", err)
		return
	}
	s.upstream = u
	_, port, _ := net.SplitHostPort(s.ListenAddress)
	if port != "0" && port == introspection.PortOf(u) && introspection.IsLoopback(u.Hostname()) {
		s.fault(variable, "is the sidecar's own SIDECAR_LISTEN_ADDRESS: requests would go round in circles")
	}
}

func (s *settings) checkPairs() {
	pair := func(certVariable, cert, keyVariable, key string) {
		switch {
		case cert != "" && key == "":
			s.fault(keyVariable, "is required with %s", certVariable)
		case cert == "" && key != "":
			s.fault(certVariable, "is required with %s", keyVariable)
		}
	}
	pair("SIDECAR_TLS_CERT_FILE", s.TLSCertFile, "SIDECAR_TLS_KEY_FILE", s.TLSKeyFile)
	pair("SIDECAR_CLIENT_CERT_FILE", s.ClientCertFile, "SIDECAR_CLIENT_CERT_KEY_FILE", s.ClientCertKeyFile)
}

// Upper limits are far from any sensible value; they catch slipped digits.
const (
	maxEntries        = 10_000_000
	maxTokenBytes     = 1 << 20
	maxIntrospections = 10_000
	maxSkew           = 5 * time.Minute
	maxWait           = 24 * time.Hour
)

func (s *settings) checkLimits() {
	count := func(variable string, value, limit int) {
		if value < 1 || value > limit {
			s.fault(variable, "must be from 1 to %d", limit)
		}
	}
	count("SIDECAR_CACHE_MAX_ENTRIES", s.CacheMaxEntries, maxEntries)
	count("SIDECAR_MAX_TOKEN_BYTES", s.MaxTokenBytes, maxTokenBytes)
	count("SIDECAR_MAX_INTROSPECTIONS", s.MaxIntrospections, maxIntrospections)
	between := func(variable string, value, least, most time.Duration) {
		if value < least || value > most {
			s.fault(variable, "must be from %v to %v", least, most)
		}
	}
	between("SIDECAR_INTROSPECTION_TIMEOUT", s.IntrospectionTimeout, time.Millisecond, maxWait)
	between("SIDECAR_UPSTREAM_HEADER_TIMEOUT", s.UpstreamHeaderTimeout, time.Millisecond, maxWait)
	between("SIDECAR_SHUTDOWN_DELAY", s.ShutdownDelay, 0, maxWait)
	between("SIDECAR_SHUTDOWN_TIMEOUT", s.ShutdownTimeout, 0, maxWait)
	between("SIDECAR_CLOCK_SKEW", s.ClockSkew, 0, maxSkew)
	age := func(variable string, value time.Duration) {
		if value < 0 {
			s.fault(variable, "must not be negative")
		}
	}
	age("SIDECAR_CACHE_MAX_AGE", s.CacheMaxAge)
	age("SIDECAR_CACHE_NO_EXP_AGE", s.CacheNoExpAge)
	age("SIDECAR_CACHE_INACTIVE_AGE", s.CacheInactiveAge)
}

// checkScopes takes blanks between scopes as well as commas, because OAuth itself
// writes them so and no scope has one (RFC 6749 §3.3). A quote would break the
// challenge that names them.
func (s *settings) checkScopes() {
	s.RequiredScopes = strings.Fields(strings.Join(s.RequiredScopes, " "))
	for _, scope := range s.RequiredScopes {
		if strings.ContainsFunc(scope, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
			s.fault("SIDECAR_REQUIRED_SCOPES", "must be scopes separated by commas or blanks, without quotes and backslashes")
		}
	}
}

func (s *settings) checkHeaders() {
	if err := proxy.CheckHeaderPrefix(s.HeaderPrefix); err != nil {
		s.fault("SIDECAR_HEADER_PREFIX", "%v", err)
	}
	wanted := slices.Clone(s.Headers)
	for _, header := range proxy.ContextHeaders() {
		isName := func(name string) bool { return slices.Contains(header.Names, name) }
		if slices.ContainsFunc(wanted, isName) {
			s.headers = append(s.headers, header)
			wanted = slices.DeleteFunc(wanted, isName)
		}
	}
	if len(wanted) > 0 {
		var known []string
		for _, header := range proxy.ContextHeaders() {
			known = append(known, header.Names[0])
		}
		s.fault("SIDECAR_HEADERS", "has a claim that is not one of %s", strings.Join(known, " "))
	}
	if s.UpstreamAuthorization != "forward" && s.UpstreamAuthorization != "strip" {
		s.fault("SIDECAR_UPSTREAM_AUTHORIZATION", "must be forward or strip")
	}
	for _, path := range s.PublicPaths {
		if err := proxy.CheckPublicPath(path); err != nil {
			s.fault("SIDECAR_PUBLIC_PATHS", "%v", err)
		}
	}
}

func (s *settings) checkOperation() {
	for _, cidr := range s.TrustedProxies {
		prefix, err := netip.ParsePrefix(cidr)
		switch {
		case err != nil:
			s.fault("SIDECAR_TRUSTED_PROXIES", "must be CIDRs, such as 10.1.0.0/16")
		case prefix.Addr().Is4In6():
			s.fault("SIDECAR_TRUSTED_PROXIES", "must not write IPv4 addresses as IPv6: they would match nobody")
		case prefix.Bits() == 0:
			s.fault("SIDECAR_TRUSTED_PROXIES", "must not trust every address: anyone could forge X-Forwarded-For")
		default:
			s.trusted = append(s.trusted, prefix.Masked())
		}
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[s.LogLevel]
	if !ok {
		s.fault("SIDECAR_LOG_LEVEL", "must be debug, info, warn or error")
	}
	s.level = level
}

// checkAuditLog refuses what is hardly meant as a file: one of that name would be
// filled where nobody looks for it.
func (s *settings) checkAuditLog() {
	words := []string{"", "-", "off", "on", "no", "none", "true", "false", "stdout", "stderr"}
	if s.AuditLog != "off" && s.AuditLog != "stdout" && slices.Contains(words, strings.ToLower(s.AuditLog)) {
		s.fault("SIDECAR_AUDIT_LOG", "must be off, stdout or a file, such as /var/log/audit.json")
	}
}

func (s *settings) checkScopeEnforcement() {
	if s.ScopeEnforcement != "off" && !s.enforcesScopes() {
		s.fault("SIDECAR_SCOPE_ENFORCEMENT", "must be off or coarse")
	}
}

// enforcesScopes: SMART scopes are held against FHIR interactions.
func (s *settings) enforcesScopes() bool { return s.ScopeEnforcement == "coarse" }
