package discovery

import (
	"encoding/json"
	"errors"
	"net/http"
)

// What is known of the FHIR server's own SMART configuration.
const (
	smartUnknown int32 = iota // it didn't respond yet
	smartUnclear              // it responded with another error
	smartThere
	smartMissing
)

// IssuerMetadata returns what the issuer published about itself when it was last read,
// OpenID Connect Discovery and RFC 8414 together, and nil before. It is not to be
// changed.
func (d *Discovery) IssuerMetadata() []byte {
	content := d.issuer.Load()
	if content == nil {
		return nil
	}
	return *content
}

// LacksSMART reports whether the FHIR server said, when it was last asked, that it has
// no SMART configuration. What it didn't answer leaves that as it was.
func (d *Discovery) LacksSMART() bool { return d.smart.Load() == smartMissing }

// noteSMART takes note of how reading the FHIR server's SMART configuration went.
func (d *Discovery) noteSMART(err error) {
	var status statusError
	switch {
	case err == nil, errors.Is(err, errNotMetadata):
		d.smart.Store(smartThere)
	case errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusNotImplemented):
		d.smart.Store(smartMissing)
	case errors.As(err, &status):
		d.smart.CompareAndSwap(smartUnknown, smartUnclear)
	}
}

// keepMetadata keeps the issuer's metadata. Where both documents have a member, the
// first one counts.
func (d *Discovery) keepMetadata(findings []Finding) {
	all := map[string]json.RawMessage{}
	for i := range findings {
		var members map[string]json.RawMessage
		if findings[i].content == nil || json.Unmarshal(findings[i].content, &members) != nil {
			continue
		}
		for name, value := range members {
			if all[name] == nil {
				all[name] = value
			}
		}
	}
	if len(all) == 0 {
		return // what was read before stays
	}
	if content, err := json.Marshal(all); err == nil {
		raw := json.RawMessage(content)
		d.issuer.Store(&raw)
	}
}
