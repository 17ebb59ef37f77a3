package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/shared"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// replicas is what this sidecar has in common with others.
type replicas struct {
	secrets *transport.Watched[shared.Secrets]
	store   *valkey.Store
	cache   *shared.Cache
}

// buildStore prepares the store that replicas share: its files are read, nothing is
// connected.
func (sc *sidecar) buildStore() (err error) {
	s := sc.settings
	if !s.SharesCache() || s.SharedCacheKeyFile == "" {
		return nil
	}
	r := &replicas{secrets: &transport.Watched[shared.Secrets]{
		File: config.Watch("SIDECAR_SHARED_CACHE_KEY_FILE", s.SharedCacheKeyFile), Parse: shared.ParseSecrets, Logger: sc.logger,
	}}
	password := config.Watch("SIDECAR_SHARED_CACHE_PASSWORD_FILE", s.SharedCachePasswordFile)
	sentinel := config.Watch("SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE", s.SharedCacheSentinelPasswordFile)
	if _, _, err = r.secrets.Load(true); err != nil {
		return err
	}
	cfg := valkey.Config{
		Addresses: s.SharedCacheAddresses, SentinelMaster: s.SharedCacheSentinelMaster, Cluster: s.SharedCacheCluster,
		Credentials:         account(s.SharedCacheUsername, password),
		SentinelCredentials: account(s.SharedCacheSentinelUsername, sentinel),
	}
	if s.SharedCacheTLS {
		current, err := transport.NewTLS(transport.TLSFiles{
			CA:            config.Watch("SIDECAR_SHARED_CACHE_CA_FILE", s.SharedCacheCAFile),
			ClientCert:    config.Watch("SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE", s.SharedCacheClientCertFile),
			ClientCertKey: config.Watch("SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE", s.SharedCacheClientCertKeyFile),
			Logger:        sc.logger,
		})
		if err != nil {
			return err
		}
		cfg.TLS = func() (*tls.Config, error) { return current(), nil }
	}
	if r.store, err = valkey.New(cfg); err != nil {
		return err
	}
	sc.replicas = r
	return nil
}

// account reads the password at each connect. A line's end is not part of it.
func account(user string, file *transport.File) func() (string, string, error) {
	if file == nil {
		return nil
	}
	return func() (string, string, error) {
		password, err := file.Read(true)
		return user, string(bytes.TrimRight(password, "\r\n")), err
	}
}

// buildShared puts the shared cache between the cache in memory and the client.
func (sc *sidecar) buildShared() (err error) {
	s, r := sc.settings, sc.replicas
	r.cache, err = shared.New(shared.Config{
		Source: shared.Source{
			Refuse: sc.client.Refuse, Ask: sc.client.Ask, Decode: sc.client.Decode,
			Authority: sc.client.Authority, Timeout: s.IntrospectionTimeout,
		},
		Store: r.store, Sharded: s.SharedCacheCluster,
		Secrets: func() shared.Secrets {
			secrets, _, _ := r.secrets.Load(false) // logged there; the last good ones stay
			return secrets
		},
		Prefix: s.SharedCachePrefix, OperationTimeout: s.SharedCacheTimeout,
		Refuse: s.SharedCacheOnFailure == "refuse", Once: s.IntrospectionOnce,
		MaxAge: s.CacheMaxAge, NoExpAge: s.CacheNoExpAge, InactiveAge: s.CacheInactiveAge, ClockSkew: s.ClockSkew,
		Purge:  sc.purgeHere,
		Logger: sc.logger, Registerer: sc.registry,
	})
	return err
}

// share lets replicas share until the returned function was called, which waits
// for what is still to be written.
func (sc *sidecar) share() (stop func()) {
	if sc.replicas == nil {
		return func() {}
	}
	var sharing, connected sync.WaitGroup
	connection, disconnect := context.WithCancel(context.Background())
	run, end := context.WithCancel(context.Background())
	connected.Go(func() { _ = sc.replicas.store.Run(connection) }) // it ends with its context only, as does the next
	sharing.Go(func() { _ = sc.replicas.cache.Run(run) })
	return func() {
		end()
		sharing.Wait()
		disconnect()
		connected.Wait()
	}
}

// purgeHere forgets verdicts in memory.
func (sc *sidecar) purgeHere(f cache.Filter, source string) int {
	sc.purges.WithLabelValues(source).Inc()
	return sc.cache.Purge(f)
}

// purge forgets verdicts in all replicas, because an admin said so.
func (sc *sidecar) purge(ctx context.Context, f cache.Filter) (p admin.Purge) {
	if sc.replicas == nil {
		p.Purged = sc.purgeHere(f, purgedByAdmin)
		return p
	}
	n, replicated, err := sc.replicas.cache.Purge(ctx, f, purgedByAdmin)
	published := err == nil
	p.Purged, p.Published = n, &published
	if published && sc.replicas.store.Replicated() {
		p.Replicated = &replicated
	}
	if sc.settings.IntrospectionOnce {
		p.Warning = "the authorization server answers once per token: what was purged is refused from now on"
	}
	return p
}

// store is what replicas share, or nil.
func (sc *sidecar) store() *valkey.Store {
	if sc.replicas == nil {
		return nil
	}
	return sc.replicas.store
}
