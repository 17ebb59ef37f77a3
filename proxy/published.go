package proxy

import (
	"net/http"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// published are the documents that are served here, not by the FHIR server. Nothing
// in them comes from a request but the tenant, whose grammar was checked.
type published struct {
	publicBase string // may hold {tenant}; "" without resource
	outside    base   // where the resource metadata stands besides
	resource   func(publicBase string) []byte
	smart      func() (document []byte, own bool)
	cors       *cors
}

func newPublished(config *Config) (*published, error) {
	p := &published{publicBase: config.PublicURL, resource: config.ResourceMetadata, smart: config.SMARTConfiguration, cors: newCORS(config.CORSOrigins)}
	if p.resource == nil {
		return p, nil
	}
	_, rest, _ := strings.Cut(smart.ResourceMetadataURL(p.publicBase), "://")
	var err error
	p.outside, err = newBase(rest[strings.IndexByte(rest, '/'):])
	return p, err
}

// isOutside reports whether a path outside the FHIR base is that of the resource
// metadata (RFC 9728 §3.1), and whose.
func (p *published) isOutside(path string) (tenant string, ok bool) {
	if p.resource == nil {
		return "", false
	}
	tenant, rest, ok := p.outside.split(path)
	return tenant, ok && rest == "" && !strings.HasSuffix(path, "/")
}

// has reports whether a path below the FHIR base is served here.
func (p *published) has(path string) bool {
	switch path {
	case smart.ResourceMetadataPath:
		return p.resource != nil
	case smart.WellKnownPath:
		if p.smart == nil {
			return false
		}
		_, own := p.smart()
		return own
	}
	return false
}

// base is the FHIR base as a tenant's clients write it.
func (p *published) base(tenant string) string {
	return strings.Replace(p.publicBase, tenantSegment, tenant, 1)
}

// metadataURL is where a tenant's resource metadata stands, for challenges, or "".
func (p *published) metadataURL(tenant string) string {
	if p.resource == nil {
		return ""
	}
	return smart.ResourceMetadataURL(p.base(tenant))
}

// serve writes the document, or returns what to refuse the request with while it
// isn't known.
func (p *published) serve(x *exchange) (failed *decision) {
	if x.method == http.MethodOptions {
		p.preflight(x)
		return nil
	}
	var document []byte
	if x.path == smart.WellKnownPath && !x.outside {
		document, _ = p.smart()
	} else {
		document = p.resource(p.base(x.tenant))
	}
	if document == nil {
		return refuseUnknownDocument
	}
	h := x.begin()
	x.setIDs(h)
	p.open(h, x.origin)
	h.Add("Cache-Control", "public, max-age=300")
	x.writeWhole(http.StatusOK, "application/json", document)
	return nil
}

func (p *published) preflight(x *exchange) {
	h := x.begin()
	x.setIDs(h)
	c := p.cors
	if c == nil || (x.outside || p.has(x.path)) && !c.origins[x.origin] {
		c = &cors{any: true, null: true} // as open does with the document itself
	}
	c.preflight(h, x.origin, x.requestHeaders)
	x.writeHead(http.StatusNoContent)
}

// open lets every page read the document: an app looks there before anybody knows it
// (SMART App Launch 2.2, "CORS").
func (p *published) open(h *wire.Fields, origin string) {
	allowed := p.cors != nil && p.cors.write(h, origin)
	if origin != "" && !allowed {
		h.Add("Access-Control-Allow-Origin", "*")
	}
}
