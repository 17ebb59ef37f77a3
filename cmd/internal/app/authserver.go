package app

import (
	"crypto/tls"
	"net/http"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

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
		NeedsMetadata: s.MakesSMARTConfiguration(), NeedsSMART: s.SMARTConfiguration == "fallback",
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
