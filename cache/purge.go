package cache

import (
	"crypto/sha256"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Filter selects verdicts. Empty fields select nothing by themselves; the zero
// Filter selects everything.
type Filter struct {
	// TokenSHA256 is the SHA-256 of the token. It is a pointer because no digest,
	// not even one of zeros only, may come to mean every token.
	TokenSHA256 *[sha256.Size]byte
	// Subject, ClientID and Patient are compared with `sub`, `client_id` and
	// `patient` of active verdicts.
	Subject, ClientID, Patient string
}

// Matches reports whether the verdict on the token with this digest is selected.
// The response is nil for an inactive verdict, which has no claims to compare.
func (f Filter) Matches(digest [sha256.Size]byte, r *introspection.Response) bool {
	if f.TokenSHA256 != nil && *f.TokenSHA256 != digest {
		return false
	}
	return r == nil && f.comparesNoClaim() || r != nil && f.matches(r)
}

// comparesNoClaim reports whether the claims of a verdict don't matter.
func (f Filter) comparesNoClaim() bool { return f.Subject == "" && f.ClientID == "" && f.Patient == "" }

func (f Filter) matches(r *introspection.Response) bool {
	same := func(want string, c introspection.Claim) bool { return want == "" || r.Text(c) == want }
	return same(f.Subject, introspection.Subject) && same(f.ClientID, introspection.ClientID) &&
		same(f.Patient, introspection.Patient)
}

// Purge forgets the verdicts that match all of the filter, and returns how many
// they were. What the endpoint is being asked meanwhile is neither kept nor
// given to who asks from now on, because that verdict may be older than the
// reason for the purge.
func (c *Cache) Purge(f Filter) (purged int) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	c.flights.epoch++
	clear(c.flights.byKey)
	byToken := c.selects(f.TokenSHA256)

	active, inactive := 0, 0
	for _, k := range c.active.Keys() {
		if byToken(k) && c.selectsClaims(f, k) && c.active.Remove(k) {
			active++
		}
	}
	// An inactive verdict has no claims that could match.
	if f.comparesNoClaim() {
		for _, k := range c.inactive.Keys() {
			if byToken(k) && c.inactive.Remove(k) {
				inactive++
			}
		}
	}
	c.metrics.evicted(activeLabel, reasonPurged, active)
	c.metrics.evicted(inactiveLabel, reasonPurged, inactive)
	return active + inactive
}

// selectsClaims reports whether an active verdict has the claims of a filter.
func (c *Cache) selectsClaims(f Filter, k key) bool {
	if f.comparesNoClaim() {
		return true
	}
	e, ok := c.active.Peek(k)
	return ok && f.matches(e.response)
}

// selects returns what tells whether a verdict is one on the token. It knows
// every authority that there was: one that comes back brings its verdicts along.
func (c *Cache) selects(digest *[sha256.Size]byte) func(key) bool {
	if digest == nil {
		return func(key) bool { return true }
	}
	wanted := make(map[key]bool)
	for authority := range c.flights.authorities {
		wanted[c.keys.digestKey(authority, *digest)] = true
	}
	return func(k key) bool { return wanted[k] }
}

// DigestRef is TokenRef for a token of which only the SHA-256 is known.
func (c *Cache) DigestRef(digest [sha256.Size]byte) string {
	return c.keys.digestKey(c.config.Authority(), digest).ref()
}
