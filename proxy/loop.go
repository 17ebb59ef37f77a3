package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
)

// A Service that leads to the sidecar's port instead of the FHIR server's makes
// requests go round in circles, each round one more connection. CDN-Loop names
// who has forwarded a request (RFC 8586). Via would too, but servers that see one
// stop compressing, and what clients write there has to be removed.
const hopHeader = "Cdn-Loop"

// newHop makes a name for this process. It is random, so that one sidecar may
// stand behind another, and nobody can have a stranger's requests refused.
func newHop() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "fhir-introspection-sidecar-" + hex.EncodeToString(b[:])
}

// setHop adds this process to those that forwarded the request. The names before
// it stay, whatever the client nominated in Connection: replicas that forward to
// each other would not be found out otherwise.
func (p *Proxy) setHop(h http.Header, x *exchange, in http.Header) {
	hops := p.hop
	if before := strings.Join(in[hopHeader], ", "); before != "" {
		hops = before + ", " + hops
	}
	h[hopHeader] = x.one(hops)
}

var errLoop = errors.New("request came back: SIDECAR_UPSTREAM_URL leads to this sidecar")

// cameBack holds for a request that this process has forwarded before.
func (p *Proxy) cameBack(x *exchange, r *http.Request) bool {
	for _, hops := range r.Header[hopHeader] {
		if strings.Contains(hops, p.hop) {
			x.failure = errLoop
			return true
		}
	}
	return false
}
