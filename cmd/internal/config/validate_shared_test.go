package config

import "slices"

// sharing is the least that shares, and what a test has beside it.
func sharing(pairs ...string) []string {
	return slices.Concat([]string{
		"SIDECAR_SHARED_CACHE_ADDRESSES", "valkey.example:6379", "SIDECAR_SHARED_CACHE_KEY_FILE", "/k",
	}, pairs)
}

const (
	wantStoreAddress = "must be host:port, without a scheme"
	wantStoreTLS     = "must be true unless the address is a loopback one: the password would cross the network readable (SIDECAR_ALLOW_INSECURE_HTTP=true allows it)"
	wantStore        = "SIDECAR_SHARED_CACHE_ADDRESSES: is required with "
	wantStorePair    = "SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE: and SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE need each other"
	wantStorePrefix  = "must be 1 to 32 of a-z, 0-9 and -"
)

// sharedTests are settingTests of what replicas share.
var sharedTests = []settingTest{
	{"SIDECAR_INTROSPECTION_ONCE", "true", nil, ""},
	{"SIDECAR_INTROSPECTION_ONCE", "once", nil, "must be true or false"},
	{"SIDECAR_INTROSPECTION_ONCE", "true", []string{"SIDECAR_CACHE_MAX_AGE", "1m"}, "SIDECAR_CACHE_MAX_AGE: must be 0 with SIDECAR_INTROSPECTION_ONCE=true: a token could not be asked about again after it"},

	{"SIDECAR_SHARED_CACHE_ADDRESSES", "10.0.0.1:6379, [2001:db8::1]:6380", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_ADDRESSES", "valkey.example:6379", nil, "SIDECAR_SHARED_CACHE_KEY_FILE: is required with SIDECAR_SHARED_CACHE_ADDRESSES"},
	{"SIDECAR_SHARED_CACHE_ADDRESSES", "valkey.example", sharing(), wantStoreAddress},
	{"SIDECAR_SHARED_CACHE_ADDRESSES", ":6379", sharing(), wantStoreAddress},
	{"SIDECAR_SHARED_CACHE_ADDRESSES", "valkey.example:0", sharing(), wantStoreAddress},
	{"SIDECAR_SHARED_CACHE_ADDRESSES", "rediss://valkey.example:6379", sharing(), wantStoreAddress},
	{"SIDECAR_SHARED_CACHE_ADDRESSES", " , ", nil, wantItems},
	{"SIDECAR_SHARED_CACHE_KEY_FILE", "/k", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_KEY_FILE", "", sharing(), "is required with SIDECAR_SHARED_CACHE_ADDRESSES"},
	{"SIDECAR_SHARED_CACHE_KEY_FILE", "/k", nil, wantStore + "SIDECAR_SHARED_CACHE_KEY_FILE"},

	{"SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "mymaster", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "mymaster", nil, wantStore + "SIDECAR_SHARED_CACHE_SENTINEL_MASTER"},
	{"SIDECAR_SHARED_CACHE_SENTINEL_USERNAME", "s", sharing("SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "m", "SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE", "/p"), ""},
	{"SIDECAR_SHARED_CACHE_SENTINEL_USERNAME", "s", sharing("SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "m"), "SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE: is required with SIDECAR_SHARED_CACHE_SENTINEL_USERNAME"},
	{"SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE", "/p", sharing("SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "m"), ""},
	{"SIDECAR_SHARED_CACHE_SENTINEL_PASSWORD_FILE", "/p", sharing(), "SIDECAR_SHARED_CACHE_SENTINEL_MASTER: is required with an account at the sentinels"},
	{"SIDECAR_SHARED_CACHE_CLUSTER", "true", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_CLUSTER", "true", sharing("SIDECAR_SHARED_CACHE_SENTINEL_MASTER", "m"), "must not be true with SIDECAR_SHARED_CACHE_SENTINEL_MASTER: a cluster has no sentinels"},
	{"SIDECAR_SHARED_CACHE_CLUSTER", "true", nil, wantStore + "settings of a shared cache"},

	{"SIDECAR_SHARED_CACHE_USERNAME", "fis", sharing("SIDECAR_SHARED_CACHE_PASSWORD_FILE", "/p"), ""},
	{"SIDECAR_SHARED_CACHE_USERNAME", "fis", sharing(), "SIDECAR_SHARED_CACHE_PASSWORD_FILE: is required with SIDECAR_SHARED_CACHE_USERNAME"},
	{"SIDECAR_SHARED_CACHE_USERNAME", "fis", nil, wantStore + "SIDECAR_SHARED_CACHE_USERNAME"},
	{"SIDECAR_SHARED_CACHE_PASSWORD_FILE", "/p", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_PASSWORD_FILE", "/p", nil, wantStore + "SIDECAR_SHARED_CACHE_PASSWORD_FILE"},
	{"SIDECAR_SHARED_CACHE_PREFIX", "prod-a-1", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_PREFIX", "a-prefix-of-thirty-three-letters-", sharing(), wantStorePrefix},
	{"SIDECAR_SHARED_CACHE_PREFIX", "fis:", sharing(), wantStorePrefix},
	{"SIDECAR_SHARED_CACHE_PREFIX", "", sharing(), wantStorePrefix},

	{"SIDECAR_SHARED_CACHE_TLS", "false", sharing(), wantStoreTLS},
	{"SIDECAR_SHARED_CACHE_TLS", "false", sharing("SIDECAR_SHARED_CACHE_ADDRESSES", "127.0.0.1:6379,[::1]:6379,localhost:6379"), ""},
	{"SIDECAR_SHARED_CACHE_TLS", "false", sharing("SIDECAR_SHARED_CACHE_ADDRESSES", "127.0.0.1:6379,10.0.0.1:6379"), wantStoreTLS},
	{"SIDECAR_SHARED_CACHE_TLS", "false", sharing("SIDECAR_ALLOW_INSECURE_HTTP", "true"), ""},
	{"SIDECAR_SHARED_CACHE_TLS", "false", sharing("SIDECAR_SHARED_CACHE_ADDRESSES", "127.0.0.1:6379", "SIDECAR_SHARED_CACHE_CA_FILE", "/ca"), "must not be false with certificates for it"},
	{"SIDECAR_SHARED_CACHE_CA_FILE", "/ca", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE", "/c", sharing("SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE", "/k"), ""},
	{"SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE", "/c", sharing(), wantStorePair},
	{"SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE", "/k", sharing("SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE", "/c"), ""},
	{"SIDECAR_SHARED_CACHE_CLIENT_CERT_KEY_FILE", "/k", sharing(), wantStorePair},

	{"SIDECAR_SHARED_CACHE_TIMEOUT", "1ms", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_TIMEOUT", "10s", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_TIMEOUT", "0s", sharing(), "must be from 1ms to 10s"},
	{"SIDECAR_SHARED_CACHE_TIMEOUT", "11s", sharing(), "must be from 1ms to 10s"},
	{"SIDECAR_SHARED_CACHE_ON_FAILURE", "introspect", nil, ""},
	{"SIDECAR_SHARED_CACHE_ON_FAILURE", "refuse", sharing(), ""},
	{"SIDECAR_SHARED_CACHE_ON_FAILURE", "refuse", nil, wantStore + "settings of a shared cache"},
	{"SIDECAR_SHARED_CACHE_ON_FAILURE", "", sharing(), "must be introspect or refuse"},
}
