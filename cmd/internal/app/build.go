package app

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/doctor"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/sink"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/tracing"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// options are what build needs beside the settings.
type options struct {
	logger   *slog.Logger
	registry *prometheus.Registry // nil: a new one
	stdout   io.Writer            // for audit records
	build    Build

	// wrap, if there is one, gets between us and those that we ask, and nothing is
	// traced: the calls of a check belong to no client's request.
	wrap func(http.RoundTripper) http.RoundTripper
}

// build assembles the program. It reads files and opens no connection. When the
// settings have faults it only looks for further ones.
func build(s *config.Config, o options) (*sidecar, []config.Fault) {
	sc := &sidecar{settings: s, logger: o.logger, build: o.build, registry: o.registry}
	if sc.registry == nil {
		sc.registry = newRegistry(o.build)
	}
	faults := config.AddFaults(slices.Clone(s.Faults), s.CheckEveryFile())
	faults = config.AddFaults(faults, sc.buildTLS())
	faults = config.AddFaults(faults, sc.buildAdminToken())
	faults = config.AddFaults(faults, sc.buildClients(o.wrap))
	faults = config.AddFaults(faults, sc.buildStore())
	if len(faults) == 0 {
		faults = config.AddFaults(faults, sc.buildDiscovery())
	}
	var err error
	sc.credential, err = credential.New(sc.credentialConfig())
	faults = config.AddFaults(faults, err)
	if len(faults) == 0 {
		faults = config.AddFaults(faults, sc.buildAudit(o.stdout))
	}
	if len(faults) == 0 {
		if o.wrap == nil {
			sc.tracing = tracing.New(o.build.Version, o.logger)
		}
		faults = config.AddFaults(faults, sc.buildPath())
	}
	if len(faults) > 0 {
		return nil, faults
	}
	sc.buildReadiness()
	for _, w := range s.Warnings() {
		sc.logger.Warn(w.Text, "setting", w.Variable)
	}
	return sc, nil
}

// buildReadiness makes what says whether requests should come here.
func (sc *sidecar) buildReadiness() {
	s := sc.settings
	sc.ready = &readiness{client: sc.client, discovery: sc.discovery, logger: sc.logger}
	if port, ok := s.BypassPort(); ok {
		sc.bypass = &bypassGuard{probe: doctor.Bypass{Port: port}, logger: sc.logger}
		sc.registry.MustRegister(sc.bypass.metric())
		if s.BypassGuard == "enforce" {
			sc.ready.bypass = sc.bypass
		}
	}
	sc.registry.MustRegister(sc.ready.metric())
	sc.registry.MustRegister(certificateExpiry(s))
}

func (sc *sidecar) buildAdminToken() (err error) {
	if sc.settings.AdminTokenFile == "" {
		return nil
	}
	file := config.Watch("SIDECAR_ADMIN_TOKEN_FILE", sc.settings.AdminTokenFile)
	sc.adminToken, err = admin.NewToken(file.Read, sc.logger)
	return config.AtFault(file.Name, err)
}

func (sc *sidecar) buildTLS() error {
	s := sc.settings
	if s.TLSCertFile == "" || s.TLSKeyFile == "" {
		return nil
	}
	cert, key := config.Watch("SIDECAR_TLS_CERT_FILE", s.TLSCertFile), config.Watch("SIDECAR_TLS_KEY_FILE", s.TLSKeyFile)
	if err := config.CheckFiles(cert, key); err != nil {
		return err
	}
	pair := &certificate{certFile: cert, keyFile: key, logger: sc.logger}
	if _, err := pair.get(nil); err != nil {
		return config.AtFault(cert.Name, err)
	}
	sc.tls = &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: cipherSuites, GetCertificate: pair.get}
	return nil
}

// cipherSuites are for TLS 1.2: forward secrecy and AEAD only (RFC 9325 §4.2). Go
// would also offer CBC, of which every implementation has leaked by its timing.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// fhirDocumentTimeout is for the FHIR server's own documents: a CapabilityStatement
// can take a server several seconds to make.
const fhirDocumentTimeout = 10 * time.Second

// buildClients makes the two kinds of client. The FHIR server gets neither our
// client certificate nor the authorization server's trust.
func (sc *sidecar) buildClients(wrap func(http.RoundTripper) http.RoundTripper) (err error) {
	s := sc.settings
	agent := "fhir-introspection-sidecar/" + sc.build.Version
	sc.httpClient, err = transport.NewClient(transport.Config{
		CA:            config.Watch("SIDECAR_CA_FILE", s.CAFile),
		ClientCert:    config.Watch("SIDECAR_CLIENT_CERT_FILE", s.ClientCertFile),
		ClientCertKey: config.Watch("SIDECAR_CLIENT_CERT_KEY_FILE", s.ClientCertKeyFile),
		Timeout:       s.IntrospectionTimeout,
		UserAgent:     agent,
		Logger:        sc.logger,
	})
	if err != nil {
		return err
	}
	sc.fhirClient, err = transport.NewClient(transport.Config{
		Timeout: fhirDocumentTimeout, UserAgent: agent, Logger: sc.logger,
	})
	if err != nil || wrap == nil {
		return err
	}
	sc.httpClient.Transport, sc.fhirClient.Transport = wrap(sc.httpClient.Transport), wrap(sc.fhirClient.Transport)
	return nil
}

// buildDiscovery prepares to look for the endpoints that are not set.
func (sc *sidecar) buildDiscovery() (err error) {
	s := sc.settings
	if !s.Discovers() {
		return nil
	}
	cfg := discovery.Config{
		FHIRClient: sc.fhirClient, Issuer: s.IssuerURL, IssuerClient: sc.httpClient,
		AllowedHosts: s.DiscoveryAllowedHosts, AllowInsecureHTTP: s.AllowInsecureHTTP,
		Pinned: pinned(s), NeedsToken: s.NeedsTokenEndpoint(), NeedsJWKS: s.NeedsJWKS(),
		Logger: sc.logger, Registerer: sc.registry,
	}
	if s.AsksFHIRServer() {
		cfg.FHIRBase = s.FHIRBase()
	}
	sc.discovery, err = discovery.New(cfg)
	return err
}

func pinned(s *config.Config) discovery.Endpoints {
	return discovery.Endpoints{Introspection: s.IntrospectionEndpoint, Token: s.TokenEndpoint, JWKS: s.JwksURL}
}

// endpoints are those that are known now.
func (sc *sidecar) endpoints() discovery.Endpoints {
	if sc.discovery != nil {
		return sc.discovery.Endpoints()
	}
	return pinned(sc.settings)
}

func (sc *sidecar) credentialConfig() credential.Config {
	s := sc.settings
	return credential.Config{
		Auth:          credential.Auth(s.IntrospectionAuth),
		BearerToken:   config.Watch("SIDECAR_BEARER_TOKEN_FILE", s.BearerTokenFile),
		TokenEndpoint: func() string { return sc.endpoints().Token },
		TokenAuth:     s.GrantAuth(),
		ClientID:      s.ClientID,
		ClientSecret:  config.Watch("SIDECAR_CLIENT_SECRET_FILE", s.ClientSecretFile),
		ClientKey:     config.Watch("SIDECAR_CLIENT_KEY_FILE", s.ClientKeyFile),
		KeyID:         s.ClientKeyID,
		Algorithm:     s.ClientAssertionAlg,
		Audience:      s.ClientAssertionAudience,
		Issuer:        s.IssuerURL,
		Scope:         s.TokenScope,
		HTTPClient:    sc.httpClient,
		Logger:        sc.logger,
		Registerer:    sc.registry,
	}
}

func (sc *sidecar) buildAudit(stdout io.Writer) (err error) {
	sc.protocolErrors = newProtocolErrors(sc.registry)
	if sc.settings.AuditLog == "off" {
		return nil
	}
	sc.audit, err = sink.NewAuditLog(sink.AuditConfig{
		Target: sc.settings.AuditLog, Stdout: stdout, Encode: auditEncoder(sc.settings), Logger: sc.logger, Registerer: sc.registry,
	})
	if err != nil {
		return config.AtFault("SIDECAR_AUDIT_LOG", err)
	}
	sc.protocolErrors.audit = auditTo(sc.audit, sc.settings)
	return nil
}

// claims are kept of every response: what headers, checks, audit records and purging
// need. All others are never looked at, whatever their type.
func (sc *sidecar) claims() introspection.ClaimSet {
	var claims []introspection.Claim
	for _, header := range sc.settings.ContextHeaders {
		claims = append(claims, header.Claim)
	}
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
	if err := sc.buildClient(); err != nil {
		return err
	}
	if err := sc.buildCache(); err != nil {
		return err
	}
	return sc.buildProxy()
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

func (sc *sidecar) buildProxy() (err error) {
	s := sc.settings
	cfg := proxy.Config{
		Upstream:              s.Upstream,
		UpstreamHeaderTimeout: s.UpstreamHeaderTimeout,
		StallTimeout:          s.StallTimeout,
		Introspector:          sc.cache,
		TokenRef:              sc.cache.TokenRef,
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
		Headers:            slices.Concat(s.ContextHeaders, s.ExtraContext),
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

// buildClient makes what asks the introspection endpoint.
func (sc *sidecar) buildClient() (err error) {
	s := sc.settings
	cfg := client.Config{
		Endpoint:      func() string { return sc.endpoints().Introspection },
		Credential:    sc.credential,
		HTTPClient:    sc.httpClient,
		Timeout:       s.IntrospectionTimeout,
		MaxConcurrent: s.MaxIntrospections,
		Decoder:       introspection.Decoder{Claims: sc.claims(), Extra: s.Decoder.Extra, Aliases: s.Decoder.Aliases},
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
