package proxy

import (
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// cors writes what browsers ask before they let a page see a response (Fetch, "CORS
// protocol").
type cors struct {
	any     bool // every origin, without credentials
	null    bool // with any: sandboxed documents too
	origins map[string]bool
}

// newCORS returns nil when there are no origins: then the FHIR server is asked, and
// only what it never sees gets headers here.
func newCORS(origins []string) *cors {
	if len(origins) == 0 {
		return nil
	}
	c := &cors{any: slices.Contains(origins, "*"), origins: map[string]bool{}}
	for _, origin := range origins {
		c.origins[origin] = origin != "*"
	}
	return c
}

const (
	// corsExposed are the response headers that a FHIR client needs.
	corsExposed = "Content-Location, ETag, Last-Modified, Location, Retry-After, WWW-Authenticate, " +
		"X-Correlation-Id, X-Progress, X-Request-Id, X-Trace-Id"

	// corsHeaders are allowed where a preflight doesn't say which it wants.
	corsHeaders = "Accept, Authorization, Content-Type, If-Match, If-None-Exist, If-None-Match, Prefer, " +
		"X-Correlation-Id, X-Request-Id, X-Trace-Id"

	// corsMaxAge is for how many seconds a browser may remember a preflight.
	corsMaxAge = "600"

	corsPrefix = "Access-Control-"
)

// allow lets a page of that origin see a response. One that isn't listed may not, and
// neither may "null", which any sandboxed document can be.
func (c *cors) allow(h *wire.Fields, origin string) bool {
	h.Add("Vary", "Origin")
	switch {
	case c.origins[origin]:
		h.Add("Access-Control-Allow-Origin", origin)
		h.Add("Access-Control-Allow-Credentials", "true")
	case c.any && origin != "" && (c.null || origin != "null"):
		h.Add("Access-Control-Allow-Origin", "*")
	default:
		return false
	}
	return true
}

// write writes what a page of that origin may see of a response, and reports whether it
// may see it at all.
func (c *cors) write(h *wire.Fields, origin string) bool {
	if !c.allow(h, origin) {
		return false
	}
	h.Add("Access-Control-Expose-Headers", corsExposed)
	return true
}

// replace does so in place of what the FHIR server wrote.
func (c *cors) replace(h *wire.Fields, origin string) {
	h.Delete(func(f *wire.Field) bool {
		return len(f.Name) > len(corsPrefix) && strings.EqualFold(f.Name[:len(corsPrefix)], corsPrefix) ||
			f.Is("vary") && strings.EqualFold(f.Value, "Origin")
	})
	c.write(h, origin)
}

// preflight answers what a browser asks before the request itself. Methods and
// headers are not the ones that decide: the request will need its token all the same.
func (c *cors) preflight(h *wire.Fields, origin string, requested []string) {
	allows := c.allow(h, origin)
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	if !allows {
		return
	}
	h.Add("Access-Control-Allow-Methods", allowedMethods)
	h.Add("Access-Control-Max-Age", corsMaxAge)
	allowed := corsHeaders
	if wanted := strings.Join(requested, ", "); wanted != "" && isFieldList(wanted) {
		allowed = wanted // "*" would not take in Authorization
	}
	h.Add("Access-Control-Allow-Headers", allowed)
}

// isFieldList holds for field names separated by commas.
func isFieldList(list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if !isToken(strings.Trim(name, " \t")) {
			return false
		}
	}
	return true
}
