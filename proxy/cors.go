package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// cors writes what browsers ask before they let a page see a response (Fetch, "CORS
// protocol").
type cors struct {
	any     bool // every origin, without credentials
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

// write sets the headers of a response to a page of that origin. One that isn't
// listed gets none, and neither does "null", which any sandboxed document can be.
func (c *cors) write(h http.Header, origin string) {
	h.Add("Vary", "Origin")
	switch {
	case c.origins[origin]:
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	case c.any && origin != "" && origin != "null":
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		return
	}
	h.Set("Access-Control-Expose-Headers", corsExposed)
}

// replace does so in place of what the FHIR server wrote.
func (c *cors) replace(h http.Header, origin string) {
	for name := range h {
		if len(name) > len(corsPrefix) && strings.EqualFold(name[:len(corsPrefix)], corsPrefix) {
			delete(h, name)
		}
	}
	// The list of an upstream response may be shared: never append in place.
	h["Vary"] = slices.Clip(slices.DeleteFunc(slices.Clone(h["Vary"]), func(v string) bool { return strings.EqualFold(v, "Origin") }))
	c.write(h, origin)
}

// preflight answers what a browser asks before the request itself. Methods and
// headers are not the ones that decide: the request will need its token all the same.
func (c *cors) preflight(h http.Header, origin string, requested []string) {
	c.write(h, origin)
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Del("Access-Control-Expose-Headers")
	if h.Get("Access-Control-Allow-Origin") == "" {
		return
	}
	h.Set("Access-Control-Allow-Methods", allowedMethods)
	h.Set("Access-Control-Max-Age", corsMaxAge)
	allowed := corsHeaders
	if wanted := strings.Join(requested, ", "); wanted != "" && isFieldList(wanted) {
		allowed = wanted // "*" would not take in Authorization
	}
	h.Set("Access-Control-Allow-Headers", allowed)
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
