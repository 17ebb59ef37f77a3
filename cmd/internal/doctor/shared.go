package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
)

// replicas tries what replicas share.
type replicas visit

// Names of the steps.
const (
	sharedCache       = "shared cache"
	sharedCacheRights = "shared cache rights"
	sharedCacheMemory = "shared cache memory"
	sharedCacheClock  = "shared cache clock"
)

// check tries the store that replicas share as they would. Without one there is
// nothing to say, unless the authorization server answers once.
func (d replicas) check(ctx context.Context) {
	s := d.cfg.Settings
	if d.cfg.Store == nil {
		if s.IntrospectionOnce {
			d.warn(sharedCache, "the authorization server answers once per token", diagnosis{
				"with more than one replica, or after a restart, good tokens are refused", "SIDECAR_SHARED_CACHE_ADDRESSES",
			})
		}
		return
	}
	found, err := d.cfg.Store.Probe(ctx, s.SharedCachePrefix)
	if err != nil {
		d.fail(sharedCache, "no connection: "+err.Error(), d.noStore(err))
		return
	}
	if found.TooOld {
		d.fail(sharedCache, found.Server+" is too old", diagnosis{"it needs Redis 7.0 or newer, or Valkey", "SIDECAR_SHARED_CACHE_ADDRESSES"})
		return
	}
	how := "over TLS"
	if !s.SharedCacheTLS {
		how = "without TLS"
	}
	d.ok(sharedCache, fmt.Sprintf("%s, %s", found.Server, how))
	d.checkSharedRights(found)
	d.checkSharedMemory(found.Eviction)
	if found.Refused == "" {
		d.checkSharedClock(found.ClockAhead)
	}
}

func (d replicas) checkSharedRights(found valkey.Findings) {
	prefix := d.cfg.Settings.SharedCachePrefix
	switch {
	case found.Refused != "":
		why := diagnosis{"the account lacks a right: docs/operations/replicas.md has the ACL rule", "SIDECAR_SHARED_CACHE_USERNAME"}
		if reason := valkey.Reason(found.Err); reason != valkey.Auth {
			why = diagnosis{"the store can't carry it out now (" + reason + ")", "SIDECAR_SHARED_CACHE_ADDRESSES"}
		}
		d.fail(sharedCacheRights, fmt.Sprintf("%s is refused for %s:*: %v", found.Refused, prefix, found.Err), why)
	case found.Foreign:
		d.warn(sharedCacheRights, "the account may also read keys that don't begin with "+prefix+":", diagnosis{
			"it is not limited to this deployment", "SIDECAR_SHARED_CACHE_USERNAME",
		})
	default:
		d.ok(sharedCacheRights, "all commands, for "+prefix+":* only")
	}
}

// checkSharedMemory warns of what throws leases away while others are waiting.
func (d replicas) checkSharedMemory(policy string) {
	switch policy {
	case "":
		d.skip(sharedCacheMemory, "the account may not ask for maxmemory-policy; it should be noeviction or volatile-lru")
	case "noeviction", "volatile-lru", "volatile-lfu":
		d.ok(sharedCacheMemory, "maxmemory-policy is "+policy)
	default:
		d.warn(sharedCacheMemory, "maxmemory-policy is "+policy, diagnosis{
			"a full store throws away what replicas wait for, or the purge feed; it should be noeviction or volatile-lru", "",
		})
	}
}

func (d replicas) checkSharedClock(ahead time.Duration) {
	if skew := d.cfg.Settings.ClockSkew; ahead > skew || ahead < -skew {
		d.warn(sharedCacheClock, fmt.Sprintf("the store's clock differs by %v", ahead.Round(time.Millisecond)), diagnosis{
			"one of the clocks is wrong; verdicts are judged by the replicas' own", "",
		})
		return
	}
	d.ok(sharedCacheClock, "as ours")
}

// noStore is why there is no connection.
func (d replicas) noStore(err error) diagnosis {
	var (
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &host):
		return diagnosis{"its certificate is for another name", "SIDECAR_SHARED_CACHE_ADDRESSES"}
	case errors.As(err, &unknown):
		return diagnosis{"its certificate is not from an authority that is trusted", "SIDECAR_SHARED_CACHE_CA_FILE"}
	case errors.As(err, &record):
		return diagnosis{"it doesn't speak TLS there", "SIDECAR_SHARED_CACHE_TLS"}
	case strings.Contains(err.Error(), "certificate required"):
		return diagnosis{"it wants a client certificate", "SIDECAR_SHARED_CACHE_CLIENT_CERT_FILE"}
	}
	switch valkey.Reason(err) {
	case valkey.Auth:
		return diagnosis{"wrong user or password: SIDECAR_SHARED_CACHE_USERNAME and the file", "SIDECAR_SHARED_CACHE_PASSWORD_FILE"}
	case valkey.Timeout:
		return diagnosis{"it doesn't respond: a firewall or NetworkPolicy, a server that hangs, or one that doesn't speak TLS (SIDECAR_SHARED_CACHE_TLS)", "SIDECAR_SHARED_CACHE_ADDRESSES"}
	case valkey.Other:
		return diagnosis{"the server at this address is of another kind: one, sentinels or a cluster", "SIDECAR_SHARED_CACHE_ADDRESSES"}
	}
	return diagnosis{"nobody listens there, the name isn't known, or the server wants TLS and we don't use it", "SIDECAR_SHARED_CACHE_ADDRESSES"}
}
