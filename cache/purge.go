package cache

import (
	"crypto/sha256"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Filter selects verdicts. Empty fields select nothing by themselves; the zero
// Filter selects everything.
type Filter struct {
	// TokenSHA256 is the SHA-256 of the token.
	TokenSHA256 [sha256.Size]byte
	// Subject, ClientID and Patient are compared with `sub`, `client_id` and
	// `patient` of active verdicts.
	Subject, ClientID, Patient string
}

func (f Filter) matches(r *introspection.Response) bool {
	same := func(want string, c introspection.Claim) bool { return want == "" || r.Text(c) == want }
	return same(f.Subject, introspection.Subject) && same(f.ClientID, introspection.ClientID) &&
		same(f.Patient, introspection.Patient)
}

// Purge forgets the verdicts that match all of the filter, and returns how many
// they were. What the endpoint is being asked meanwhile is not kept either,
// because its answer may be older than the reason for the purge.
func (c *Cache) Purge(f Filter) (purged int) {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	c.flights.epoch++
	everything := f == Filter{}
	byToken := f.TokenSHA256 != [sha256.Size]byte{}
	wanted := c.keys.digestKey(c.config.Authority(), f.TokenSHA256)
	byClaims := f.Subject != "" || f.ClientID != "" || f.Patient != ""

	active, inactive := 0, 0
	for _, k := range c.active.Keys() {
		e, ok := c.active.Peek(k)
		if ok && (!byToken || k == wanted) && f.matches(e.response) && c.active.Remove(k) {
			active++
		}
	}
	if everything || byToken && !byClaims {
		for _, k := range c.inactive.Keys() {
			if (!byToken || k == wanted) && c.inactive.Remove(k) {
				inactive++
			}
		}
	}
	c.metrics.evicted(activeLabel, reasonPurged, active)
	c.metrics.evicted(inactiveLabel, reasonPurged, inactive)
	return active + inactive
}
