package app

import (
	"slices"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
)

// claims are kept of every response: what headers carry, and what checks, audit records
// and purging need. All others are never looked at, whatever their type.
func (sc *sidecar) claims(carried []introspection.Claim) introspection.ClaimSet {
	claims := slices.Clone(carried)
	if sc.audit != nil {
		claims = append(claims, introspection.Patient, introspection.User, introspection.TokenID,
			introspection.ClientID, introspection.Subject, introspection.Issuer)
	}
	if sc.settings.AdminTokenFile != "" {
		claims = append(claims, introspection.Patient, introspection.Subject, introspection.ClientID)
	}
	for _, check := range []struct {
		set   bool
		claim introspection.Claim
	}{
		{len(sc.settings.RequiredAudiences) > 0, introspection.Audience},
		{len(sc.settings.RequiredIssuers) > 0, introspection.Issuer},
		{len(sc.settings.RequiredScopes) > 0, introspection.Scope},
		{len(sc.settings.RequiredTokenTypes) > 0, introspection.TokenType},
	} {
		if check.set {
			claims = append(claims, check.claim)
		}
	}
	claims = append(claims, accessClaims(sc.settings)...)
	return introspection.NewClaimSet(claims...)
}

// buildPath wires the way of a request: proxy, cache, client.
func (sc *sidecar) buildPath() error {
	headers, claims, err := contextHeaders(sc.settings)
	if err != nil {
		return err
	}
	if err := sc.buildClient(claims); err != nil {
		return err
	}
	if err := sc.buildCache(); err != nil {
		return err
	}
	return sc.buildProxy(headers)
}

func (sc *sidecar) buildCache() error {
	s := sc.settings
	// The client waits for a place and then calls, each within its timeout.
	var source introspection.Introspector = sc.client
	timeout := 2*s.IntrospectionTimeout + time.Second
	sc.purges = newPurges(sc.registry)
	if sc.replicas != nil {
		if err := sc.buildShared(); err != nil {
			return err
		}
		// Before that it may wait for another replica's call.
		source, timeout = sc.replicas.cache, timeout+s.IntrospectionTimeout
	}
	var err error
	sc.cache, err = cache.New(cache.Config{
		Source:      source,
		Authority:   sc.client.Authority,
		Timeout:     timeout,
		MaxEntries:  s.CacheMaxEntries,
		MaxAge:      s.CacheMaxAge,
		NoExpAge:    s.CacheNoExpAge,
		InactiveAge: s.CacheInactiveAge,
		Logger:      sc.logger,
		Registerer:  sc.registry,
	})
	return err
}

func (sc *sidecar) buildProxy(headers []proxy.ContextHeader) (err error) {
	s := sc.settings
	cfg := proxy.Config{
		Upstream:       s.Upstream,
		UpstreamLimits: upstream.Limits{HeaderTimeout: s.UpstreamHeaderTimeout},
		StallTimeout:   s.StallTimeout,
		Introspector:   sc.cache,
		TokenRef:       sc.cache.TokenRef,
		Policy: policy.Policy{
			Audiences: s.RequiredAudiences, Issuers: s.RequiredIssuers, Scopes: s.RequiredScopes,
			TokenTypes: s.RequiredTokenTypes, ClockSkew: s.ClockSkew,
		},
		PublicURL:     s.PublicBase(),
		CORSOrigins:   s.CORSOrigins,
		AuditQuery:    s.AuditQuery,
		ReservedPaths: admin.Paths(),
		UntrustedHTTPS: func(peer string) {
			sc.logger.Warn("a peer outside SIDECAR_TRUSTED_PROXIES sends X-Forwarded-Proto: https: "+
				"the FHIR server writes links with http unless that peer is trusted", "peer", peer)
		},
		MaxTokenBytes:      s.MaxTokenBytes,
		PublicPaths:        s.PublicPaths,
		Headers:            headers,
		HeaderPrefix:       s.HeaderPrefix,
		StripAuthorization: s.UpstreamAuthorization == "strip",
		TrustedProxies:     s.TrustedPrefixes,
		Logger:             sc.logger,
		Registerer:         sc.registry,
		Tracer:             sc.tracing.Tracer(),
	}
	if sc.audit != nil {
		cfg.Audit = auditTo(sc.audit, s)
	}
	if err := sc.addAccess(&cfg); err != nil {
		return err
	}
	sc.proxy, err = proxy.New(cfg)
	return err
}

// buildClient makes what asks the introspection endpoint. carried are the claims that
// headers carry.
func (sc *sidecar) buildClient(carried []introspection.Claim) (err error) {
	s := sc.settings
	cfg := client.Config{
		Endpoint:      func() string { return sc.endpoints().Introspection },
		Credential:    sc.credential,
		HTTPClient:    sc.httpClient,
		Timeout:       s.IntrospectionTimeout,
		MaxConcurrent: s.MaxIntrospections,
		Decoder:       introspection.Decoder{Claims: sc.claims(carried), Extra: s.Decoder.Extra, Aliases: s.Decoder.Aliases},
		TokenEndpoint: func() string { return sc.endpoints().Token },
		Logger:        sc.logger,
		Registerer:    sc.registry,
		Tracer:        sc.tracing.Tracer(),
	}
	if s.JWTPrecheck {
		cfg.Precheck, err = client.NewPrecheck(client.PrecheckConfig{
			Issuer: s.IssuerURL, JWKS: func() string { return sc.endpoints().JWKS },
			HTTPClient: sc.httpClient, ClockSkew: s.ClockSkew,
		})
		if err != nil {
			return err
		}
	}
	sc.client, err = client.New(cfg)
	return err
}
