package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

const (
	// readHeaderTimeout cuts connections that trickle a header.
	readHeaderTimeout = 10 * time.Second

	// idleTimeout is above that of common load balancers (60 s), so that it is
	// they who close a connection and know about it.
	idleTimeout = 120 * time.Second

	// headerRoom is what a request's header may take beside its token.
	headerRoom = 32 << 10

	// adminTimeout bounds everything on the admin listener.
	adminTimeout = 30 * time.Second

	// maxStreams is the number of concurrent HTTP/2 streams of a client.
	maxStreams = 250
)

// sidecar is the assembled program.
type sidecar struct {
	settings   *settings
	logger     *slog.Logger
	credential *introspection.Credential
	client     *introspection.Client
	cache      *cache.Cache
	proxy      *proxy.Proxy
	tls        *tls.Config // nil: plain HTTP
	registry   *prometheus.Registry
	draining   atomic.Bool
}

// build assembles the program. It reads files and opens no connection. When the
// settings have faults it only looks for further ones.
func build(s *settings, logger *slog.Logger) (*sidecar, []fault) {
	sc := &sidecar{settings: s, logger: logger, registry: newRegistry()}
	faults := append(slices.Clone(s.faults), s.checkFiles()...)
	faults = addFaults(faults, sc.buildTLS())
	httpClient, err := introspection.NewHTTPClient(s.transportConfig(logger))
	faults = addFaults(faults, err)
	sc.credential, err = introspection.NewCredential(s.credentialConfig(httpClient, logger, sc.registry))
	faults = addFaults(faults, err)
	if len(faults) == 0 {
		faults = addFaults(faults, sc.buildPath(httpClient))
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return sc, nil
}

// checkFiles reads the files that are set, so that one that can't be read is
// told with its own variable.
func (s *settings) checkFiles() (faults []fault) {
	check := func(variable, path string) {
		if path == "" {
			return
		}
		if _, err := watch(path)(true); err != nil {
			faults = append(faults, fault{variable, err.Error()})
		}
	}
	check("SIDECAR_BEARER_TOKEN_FILE", s.BearerTokenFile)
	check("SIDECAR_CLIENT_SECRET_FILE", s.ClientSecretFile)
	check("SIDECAR_CLIENT_KEY_FILE", s.ClientKeyFile)
	check("SIDECAR_CA_FILE", s.CAFile)
	check("SIDECAR_CLIENT_CERT_FILE", s.ClientCertFile)
	check("SIDECAR_CLIENT_CERT_KEY_FILE", s.ClientCertKeyFile)
	check("SIDECAR_TLS_CERT_FILE", s.TLSCertFile)
	check("SIDECAR_TLS_KEY_FILE", s.TLSKeyFile)
	return faults
}

func (sc *sidecar) buildTLS() error {
	s := sc.settings
	if s.TLSCertFile == "" || s.TLSKeyFile == "" {
		return nil
	}
	pair := &certificate{certFile: watch(s.TLSCertFile), keyFile: watch(s.TLSKeyFile)}
	if _, err := pair.get(nil); err != nil {
		return &introspection.FieldError{Field: "TLSCert", Err: err}
	}
	sc.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	return nil
}

func (s *settings) transportConfig(logger *slog.Logger) introspection.TransportConfig {
	v, _ := buildInfo()
	return introspection.TransportConfig{
		CA:            watch(s.CAFile),
		ClientCert:    watch(s.ClientCertFile),
		ClientCertKey: watch(s.ClientCertKeyFile),
		Timeout:       s.IntrospectionTimeout,
		UserAgent:     "fhir-introspection-sidecar/" + v,
		Logger:        logger,
	}
}

func (s *settings) credentialConfig(client *http.Client, logger *slog.Logger, registry *prometheus.Registry) introspection.CredentialConfig {
	return introspection.CredentialConfig{
		Auth:          introspection.Auth(s.IntrospectionAuth),
		BearerToken:   watch(s.BearerTokenFile),
		TokenEndpoint: func() string { return s.TokenEndpoint },
		ClientID:      s.ClientID,
		ClientSecret:  watch(s.ClientSecretFile),
		ClientKey:     watch(s.ClientKeyFile),
		KeyID:         s.ClientKeyID,
		Algorithm:     s.ClientAssertionAlg,
		Audience:      s.ClientAssertionAudience,
		Issuer:        s.IssuerURL,
		Scope:         s.TokenScope,
		HTTPClient:    client,
		Logger:        logger,
		Registerer:    registry,
	}
}

// buildPath wires the way of a request: proxy, cache, client.
func (sc *sidecar) buildPath(httpClient *http.Client) (err error) {
	s := sc.settings
	var claims []introspection.Claim
	for _, header := range s.headers {
		claims = append(claims, header.Claim)
	}
	sc.client, err = introspection.NewClient(introspection.ClientConfig{
		Endpoint:      func() string { return s.IntrospectionEndpoint },
		Credential:    sc.credential,
		HTTPClient:    httpClient,
		Timeout:       s.IntrospectionTimeout,
		MaxConcurrent: s.MaxIntrospections,
		Claims:        introspection.NewClaimSet(claims...),
		Registerer:    sc.registry,
	})
	if err != nil {
		return err
	}
	sc.cache, err = cache.New(cache.Config{
		Source:    sc.client,
		Authority: sc.client.Authority,
		// The client waits for a place and then calls, each within its timeout.
		Timeout:     2*s.IntrospectionTimeout + time.Second,
		MaxEntries:  s.CacheMaxEntries,
		MaxAge:      s.CacheMaxAge,
		NoExpAge:    s.CacheNoExpAge,
		InactiveAge: s.CacheInactiveAge,
		Logger:      sc.logger,
		Registerer:  sc.registry,
	})
	if err != nil {
		return err
	}
	sc.proxy, err = proxy.New(proxy.Config{
		Upstream:              s.upstream,
		UpstreamHeaderTimeout: s.UpstreamHeaderTimeout,
		Introspector:          sc.cache,
		TokenRef:              sc.cache.TokenRef,
		Policy: proxy.Policy{
			Audiences: s.RequiredAudiences, Issuers: s.RequiredIssuers, Scopes: s.RequiredScopes,
			TokenTypes: s.RequiredTokenTypes, ClockSkew: s.ClockSkew,
		},
		MaxTokenBytes:      s.MaxTokenBytes,
		PublicPaths:        s.PublicPaths,
		Headers:            s.headers,
		HeaderPrefix:       s.HeaderPrefix,
		StripAuthorization: s.UpstreamAuthorization == "strip",
		TrustedProxies:     s.trusted,
		Logger:             sc.logger,
		Registerer:         sc.registry,
	})
	return err
}

// serve listens, runs until ctx ends, drains and ends. It returns an error when
// something failed, or when requests had to be cut off.
func (sc *sidecar) serve(ctx context.Context) error {
	data, err := net.Listen("tcp", sc.settings.ListenAddress)
	if err != nil {
		return fmt.Errorf("SIDECAR_LISTEN_ADDRESS: %w", err)
	}
	admin, err := net.Listen("tcp", sc.settings.AdminAddress)
	if err != nil {
		return errors.Join(fmt.Errorf("SIDECAR_ADMIN_ADDRESS: %w", err), data.Close())
	}
	dataServer, adminServer := sc.dataServer(), sc.adminServer()
	// The loops outlive the signal: requests in flight still need a credential.
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	group, failed := errgroup.WithContext(ctx)
	group.Go(func() error { return sc.credential.Run(loops) })
	group.Go(func() error { return sc.client.Run(loops) })
	group.Go(func() error { return ended(adminServer.Serve(admin)) })
	group.Go(func() error {
		if sc.tls != nil {
			return ended(dataServer.ServeTLS(data, "", ""))
		}
		return ended(dataServer.Serve(data))
	})
	group.Go(func() error {
		<-failed.Done() // by the signal or by a server
		err := sc.drain(ctx, dataServer)
		stopLoops()
		return errors.Join(err, adminServer.Close())
	})
	v, c := buildInfo()
	sc.logger.Info("serving", "version", v, "commit", c,
		"listen_address", data.Addr().String(), "admin_address", admin.Addr().String(), "tls", sc.tls != nil)
	err = group.Wait()
	sc.cache.Close()
	sc.proxy.CloseIdleConnections()
	if err == nil {
		sc.logger.Info("drained")
	}
	return err
}

// ended hides the error that says a server was told to stop.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain lets requests finish: first readiness goes red and clients are asked to
// leave their connections, while the delay gives load balancers time to see it;
// then the listener closes and what is in flight gets the timeout.
func (sc *sidecar) drain(ctx context.Context, server *http.Server) error {
	sc.draining.Store(true)
	sc.proxy.Drain()
	sc.logger.Info("draining", "delay", sc.settings.ShutdownDelay.String(), "timeout", sc.settings.ShutdownTimeout.String())
	if ctx.Err() != nil { // asked to end, not failed
		time.Sleep(sc.settings.ShutdownDelay)
	}
	timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), sc.settings.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(timeout); err != nil {
		_ = server.Close()
		return fmt.Errorf("requests were cut off after SIDECAR_SHUTDOWN_TIMEOUT: %w", err)
	}
	return nil
}

func (sc *sidecar) dataServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(sc.tls != nil)
	return &http.Server{
		Handler:           sc.proxy,
		TLSConfig:         sc.tls,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		// No ReadTimeout and no WriteTimeout: uploads and event streams may take
		// as long as they move.
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: headerRoom + sc.settings.MaxTokenBytes,
		ErrorLog:       slog.NewLogLogger(sc.logger.Handler(), slog.LevelDebug),
		// OPTIONS * is ours to refuse and to count.
		DisableGeneralOptionsHandler: true,
	}
}
