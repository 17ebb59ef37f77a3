package proxy

import (
	"fmt"
	"net/http"
	"strings"
)

// router says who is forwarded and who is not, by what stands in the request line
// and by nothing that a client could widen it with.
type router struct {
	base     base
	public   publicPaths
	reserved map[string]bool // paths that are served on another listener
	hop      hop
}

func newRouter(config *Config) (*router, error) {
	base, err := newBase(config.Upstream.EscapedPath())
	if err != nil {
		return nil, err
	}
	public, err := newPublicPaths(config.PublicPaths)
	if err != nil {
		return nil, err
	}
	rt := &router{base: base, public: public, reserved: map[string]bool{}, hop: newHop()}
	for _, path := range config.ReservedPaths {
		rt.reserved[path] = true
	}
	return rt, nil
}

// route decides about a request by everything but its token: to is nil for one that
// needs a token. path is the part below the base, without leading slash. The first
// case that holds decides.
func (rt *router) route(q *request) (path string, to *decision) {
	path, below := rt.base.below(q.target.path)
	switch {
	case !knownMethod(q.method) || q.target.path == "*":
		return path, refuseMethod
	case !q.target.unambiguous():
		return path, refusePath
	case q.fault != nil:
		return path, q.fault
	case rt.hop.in(q.hops):
		return path, refuseLoop
	case !below || rt.reserved[q.target.path]:
		return path, refuseNotFound
	case isRead(q.method) && rt.public.has(path):
		return path, unlessBody(q, public)
	case isPreflight(q):
		return path, unlessBody(q, preflight)
	}
	return path, nil
}

// unlessBody refuses a body from somebody unknown, which would only hold the FHIR
// server's threads: none of these requests has a use for one.
func unlessBody(q *request, d *decision) *decision {
	if q.length != 0 {
		return refuseUnexpectedBody
	}
	return d
}

// knownMethod holds for FHIR's methods and OPTIONS. Forwarding CONNECT would let
// the client write the next request on a shared upstream connection
// (CVE-2026-56866).
func knownMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// isPreflight recognises a CORS preflight (Fetch §4.8), which never carries a
// token.
func isPreflight(q *request) bool {
	return q.method == http.MethodOptions && q.origin && q.asksForMethod
}

// publicPaths are paths below the base that need no token, as they stand in the
// request: nothing else in it can widen them.
type publicPaths struct {
	exact    map[string]bool
	prefixes []string // of any path below; each ends with a slash
}

func newPublicPaths(paths []string) (publicPaths, error) {
	p := publicPaths{exact: map[string]bool{}}
	for _, path := range paths {
		if err := CheckPublicPath(path); err != nil {
			return p, fmt.Errorf("public path %q %w", path, err)
		}
		if below, ok := strings.CutSuffix(path, "*"); ok {
			p.prefixes = append(p.prefixes, below)
		} else {
			p.exact[path] = true
		}
	}
	return p, nil
}

func (p publicPaths) has(path string) bool {
	if p.exact[path] {
		return true
	}
	for _, prefix := range p.prefixes {
		if len(path) > len(prefix) && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}
