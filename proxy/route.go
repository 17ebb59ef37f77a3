package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// router says who is forwarded and who is not, by what stands in the request line
// and by nothing that a client could widen it with.
type router struct {
	base      base
	public    publicPaths
	published *published
	reserved  map[string]bool // paths that are served on another listener
	hop       hop
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
	published, err := newPublished(config)
	if err != nil {
		return nil, err
	}
	rt := &router{base: base, public: public, published: published, reserved: map[string]bool{}, hop: newHop()}
	for _, path := range config.ReservedPaths {
		rt.reserved[path] = true
	}
	return rt, nil
}

// route decides about a request by everything but its token: to is nil for one that
// needs a token. The first case that holds decides.
func (rt *router) route(q *request) (at place, to *decision) {
	var below bool
	at.tenant, at.path, below = rt.base.split(q.target.path)
	switch {
	case !knownMethod(q.method) || q.target.path == "*":
		return at, refuseMethod
	case !q.target.unambiguous():
		return at, refusePath
	case q.fault != nil:
		return at, q.fault
	case rt.hop.in(q.hops):
		return at, refuseLoop
	}
	if tenant, ok := rt.published.isOutside(q.target.path); ok && (isRead(q.method) || isPreflight(q)) {
		return place{tenant: tenant, outside: true}, unlessBody(q, ownOf(q))
	}
	if !below || rt.reserved[q.target.path] {
		return at, refuseNotFound
	}
	return at, rt.open(q, at)
}

// open decides about what needs no token below the base, and returns nil for all else.
func (rt *router) open(q *request, at place) (to *decision) {
	switch {
	case isRead(q.method) && rt.published.has(at.path):
		return unlessBody(q, ownDocument)
	case isRead(q.method) && rt.public.has(at.path):
		return unlessBody(q, public)
	case isPreflight(q):
		return unlessBody(q, rt.preflightTo(at.path))
	}
	return nil
}

func ownOf(q *request) *decision {
	if q.method == http.MethodOptions {
		return ownPreflight
	}
	return ownDocument
}

// preflightTo says who answers a preflight: we do where origins are configured, and for
// our own documents, which the FHIR server doesn't know.
func (rt *router) preflightTo(path string) *decision {
	if rt.published.cors != nil || rt.published.has(path) {
		return ownPreflight
	}
	return preflight
}

// unlessBody refuses a body from somebody unknown, which would only hold the FHIR
// server's threads: none of these requests has a use for one.
func unlessBody(q *request, d *decision) *decision {
	if q.length != 0 {
		return refuseUnexpectedBody
	}
	return d
}

// isPreflight recognises a CORS preflight (Fetch §4.8), which never carries a
// token.
func isPreflight(q *request) bool {
	return q.method == http.MethodOptions && q.origin != "" && q.asksForMethod
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
	if fhir.MayClimb(path) {
		return false
	}
	for _, prefix := range p.prefixes {
		if len(path) > len(prefix) && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}
