package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
)

// A Service that leads to the sidecar's port instead of the FHIR server's makes
// requests loop, each round one more connection. CDN-Loop names who has forwarded a
// request (RFC 8586). Via would too, but servers that see one stop compressing, and
// what clients write there has to be removed.
const hopHeader = "Cdn-Loop"

var errLoop = errors.New("request came back: the FHIR server's URL leads to this sidecar")

// hop names this process among those that forward a request.
type hop string

// newHop makes a name. It is random, so that one sidecar may stand behind another,
// and nobody can have a stranger's requests refused.
func newHop() hop {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hop("fhir-introspection-sidecar-" + hex.EncodeToString(b[:]))
}

// after adds this process to those that forwarded a request before. Their names
// stay, whatever the client nominated in Connection: replicas that forward to each
// other would not be found out otherwise.
func (h hop) after(hops []string) string {
	if before := strings.Join(hops, ", "); before != "" {
		return before + ", " + string(h)
	}
	return string(h)
}

// in reports whether this process has forwarded the request before.
func (h hop) in(hops []string) bool {
	for _, value := range hops {
		if strings.Contains(value, string(h)) {
			return true
		}
	}
	return false
}
