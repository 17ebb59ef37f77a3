package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Config is the configuration in the types that the packages take.
type Config struct {
	*Settings

	Upstream        *url.URL              // SIDECAR_UPSTREAM_URL; nil when that is at fault
	ExtraNames      []string              // SIDECAR_EXTRA_HEADERS: names without the prefix, in the order of Decoder.Extra
	Decoder         introspection.Decoder // SIDECAR_EXTRA_HEADERS and SIDECAR_CLAIM_ALIASES, without claims
	TrustedPrefixes []netip.Prefix        // SIDECAR_TRUSTED_PROXIES
	Level           slog.Level            // SIDECAR_LOG_LEVEL

	// TenantOf returns the claim that SIDECAR_TENANT_CLAIM names; nil without one.
	// TenantClaims is that claim, where package introspection knows it.
	TenantOf     func(*introspection.Response) string
	TenantClaims []introspection.Claim

	// Faults are what is wrong. Nothing may be served while there are any.
	Faults []Fault

	rules  Rules
	idling []Fault // settings that do nothing beside the others
}

// Rules say of values that are used as they stand whether their user takes them. Each
// returns what is wrong, without the value.
type Rules struct {
	// Base is for the path of SIDECAR_UPSTREAM_URL, PublicPath for each of
	// SIDECAR_PUBLIC_PATHS, and HeaderPrefix for SIDECAR_HEADER_PREFIX.
	Base, PublicPath, HeaderPrefix func(string) error
	// ContextHeaders is for the claims of SIDECAR_HEADERS, and ExtraHeader for each
	// name of SIDECAR_EXTRA_HEADERS.
	ContextHeaders func(claims []string) error
	ExtraHeader    func(name string) error
}

// fault adds one, once.
func (c *Config) fault(variable, format string, args ...any) {
	f := Fault{variable, fmt.Sprintf(format, args...)}
	if !slices.Contains(c.Faults, f) {
		c.Faults = append(c.Faults, f)
	}
}

// check adds what is wrong with a value, if anything is.
func (c *Config) check(variable string, err error) {
	if err != nil {
		c.fault(variable, "%v", err)
	}
}

// idle notes a setting that does nothing while another one is off. It is no fault: who
// tries something out switches it off and on.
func (c *Config) idle(variable string, set bool, needs string) {
	if set {
		c.idling = append(c.idling, Fault{variable, "is set and has no effect: " + needs + " would have to be another"})
	}
}
