package config

import (
	"net"
	"regexp"
	"strconv"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// SharesCache reports whether verdicts are shared with other replicas.
func (c *Config) SharesCache() bool { return len(c.SharedCacheAddresses) > 0 }

// checkOnce refuses an age that would have a server asked again that answers once.
func (c *Config) checkOnce() {
	if c.IntrospectionOnce && c.CacheMaxAge > 0 {
		c.fault("SIDECAR_CACHE_MAX_AGE", "must be 0 with SIDECAR_INTROSPECTION_ONCE=true: a token could not be asked about again after it")
	}
}

var prefixPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func (c *Config) checkSharedCache() {
	if !c.SharesCache() {
		c.checkNothingShared()
		return
	}
	for _, address := range c.SharedCacheAddresses {
		c.checkStoreAddress(address)
	}
	if c.SharedCacheKeyFile == "" {
		c.fault("SIDECAR_SHARED_CACHE_KEY_FILE", "is required with SIDECAR_SHARED_CACHE_ADDRESSES")
	}
	if !prefixPattern.MatchString(c.SharedCachePrefix) {
		c.fault("SIDECAR_SHARED_CACHE_PREFIX", "must be 1 to 32 of a-z, 0-9 and -")
	}
	if c.SharedCacheCluster && c.SharedCacheSentinelMaster != "" {
		c.fault("SIDECAR_SHARED_CACHE_CLUSTER", "must not be true with SIDECAR_SHARED_CACHE_SENTINEL_MASTER: a cluster has no sentinels")
	}
	c.checkStoreAccounts()
	if (c.SharedCacheClientCertFile == "") != (c.SharedCacheClientCertKeyFile == "") {
		c.fault("SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE", "and SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE need each other")
	}
	if files := c.SharedCacheCAFile + c.SharedCacheClientCertFile; files != "" && !c.SharedCacheTLS {
		c.fault("SIDECAR_SHARED_CACHE_TLS", "must not be false with certificates for it")
	}
}

// checkNothingShared finds settings of a shared cache without its address: whoever
// sets them believes that there is one.
func (c *Config) checkNothingShared() {
	for _, s := range []struct{ variable, value string }{
		{"SIDECAR_SHARED_CACHE_SENTINEL_MASTER", c.SharedCacheSentinelMaster},
		{"SIDECAR_SHARED_CACHE_PASSWORD_FILE", c.SharedCachePasswordFile},
		{"SIDECAR_SHARED_CACHE_KEY_FILE", c.SharedCacheKeyFile},
		{"SIDECAR_SHARED_CACHE_USERNAME", c.SharedCacheUsername},
	} {
		if s.value != "" {
			c.fault("SIDECAR_SHARED_CACHE_ADDRESSES", "is required with %s", s.variable)
			return
		}
	}
	if c.SharedCacheCluster || c.SharedCacheOnFailure == "refuse" {
		c.fault("SIDECAR_SHARED_CACHE_ADDRESSES", "is required with settings of a shared cache")
	}
}

func (c *Config) checkStoreAddress(address string) {
	const variable = "SIDECAR_SHARED_CACHE_ADDRESSES"
	host, port, err := net.SplitHostPort(address)
	if n, convErr := strconv.ParseUint(port, 10, 16); err != nil || convErr != nil || n == 0 || host == "" {
		c.fault(variable, "must be host:port, without a scheme")
		return
	}
	if !c.SharedCacheTLS && !transport.IsLoopback(host) && !c.AllowInsecureHTTP {
		c.fault("SIDECAR_SHARED_CACHE_TLS", "must be true unless the address is a loopback one: the password would cross the network readable (SIDECAR_ALLOW_INSECURE_HTTP=true allows it)")
	}
}

func (c *Config) checkStoreAccounts() {
	if c.SharedCacheUsername != "" && c.SharedCachePasswordFile == "" {
		c.fault("SIDECAR_SHARED_CACHE_PASSWORD_FILE", "is required with SIDECAR_SHARED_CACHE_USERNAME")
	}
	account := c.SharedCacheSentinelUsername + c.SharedCacheSentinelPasswordFile
	if account != "" && c.SharedCacheSentinelMaster == "" {
		c.fault("SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "is required with an account at the sentinels")
	}
	if c.SharedCacheSentinelUsername != "" && c.SharedCacheSentinelPasswordFile == "" {
		c.fault("SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE", "is required with SIDECAR_SHARED_CACHE_SENTINEL_USERNAME")
	}
}
