package app

import (
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// addAccess adds to cfg what decides about requests of accepted tokens, and what
// clients find out about it.
func (sc *sidecar) addAccess(cfg *proxy.Config) (err error) {
	s := sc.settings
	cfg.Policy.IgnorePatientContext = s.PatientContext == "ignore"
	if cfg.Access, err = access(s); err != nil {
		return err
	}
	documents, err := newPublisher(s, sc.discovery, sc.logger)
	if err != nil {
		return err
	}
	if s.ResourceMetadata == "on" {
		cfg.ResourceMetadata = documents.resource
	}
	if s.SMARTConfiguration != "forward" {
		cfg.SMARTConfiguration = documents.smart
		sc.smart = documents.smart
	}
	return nil
}

// access makes what decides about requests of accepted tokens.
func access(s *config.Config) (a policy.Access, err error) {
	a = policy.Access{
		Base: s.UpstreamBase(), PublicBase: s.PublicBase(), Tenant: s.TenantOf,
	}
	if !s.EnforcesScopes() && !s.Guards() {
		return a, nil
	}
	a.Rules, err = smart.New(smart.Config{Operations: s.Operations, Paths: s.PathScopes, Strict: s.ScopeEnforcement == "strict"})
	if err != nil {
		return a, err
	}
	a.Guard, err = policy.NewPatientGuard(s.PatientGuardTypes)
	a.Scopes, a.Patient = modeOf(s.ScopeEnforcement), modeOf(s.PatientGuard)
	return a, err
}

// modeOf reads the word of a setting.
func modeOf(word string) policy.Mode {
	switch word {
	case "report":
		return policy.Report
	case "coarse", "enforce":
		return policy.Enforce
	case "strict":
		return policy.Strict
	}
	return policy.Off
}

// accessClaims are the claims that access needs.
func accessClaims(s *config.Config) (claims []introspection.Claim) {
	if s.PatientContext == "require" {
		claims = append(claims, introspection.Patient, introspection.Scope)
	}
	if s.EnforcesScopes() || s.Guards() {
		claims = append(claims, introspection.Patient, introspection.User, introspection.Scope)
	}
	return append(claims, s.TenantClaims...)
}
