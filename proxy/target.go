package proxy

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// target is the request target (RFC 9112 §3.2) as it stood on the wire. The
// decision is made on it and it is what goes upstream: net/url would decode,
// re-encode and, in ReverseProxy, drop parts of it.
type target struct {
	path     string
	query    string
	hasQuery bool
}

// parseTarget splits origin-form and absolute-form. The authority of the latter
// becomes Host (RFC 9112 §3.2.2) and takes no part in a decision; "*" and
// CONNECT's authority-form stay as they are and match no route that forwards.
func parseTarget(raw string) target {
	if !strings.HasPrefix(raw, "/") {
		if _, rest, ok := strings.Cut(raw, "://"); ok {
			raw = rest[min(len(rest), strings.IndexAny(rest+"/", "/?")):]
		}
	}
	var t target
	t.path, t.query, t.hasQuery = strings.Cut(raw, "?")
	return t
}

// unambiguous reports whether every server reads the path alike. Servers differ
// on dot segments, empty segments, path parameters and encoded separators, so
// that a path with one of them may name a public resource here and a protected
// one there. Such a path is refused, never cleaned. IDs with dots are fine, as
// long as the dots aren't encoded. A space, which HTTP/2 can carry, would end the
// target in the request line that goes upstream.
func (t target) unambiguous() bool {
	path := t.path
	if strings.Contains(path, "//") || strings.ContainsAny(path, ";\\# ") || strings.Contains(t.query, " ") {
		return false
	}
	if strings.Contains(path, "/.") {
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				return false
			}
		}
	}
	if !strings.Contains(path, "%") && isASCII(path) {
		return true
	}
	return unambiguousEncoding(path)
}

// unambiguousEncoding judges what percent-encoding hides (RFC 3986 §2.1).
func unambiguousEncoding(path string) bool {
	decoded, err := url.PathUnescape(path)
	if err != nil || !utf8.ValidString(decoded) || strings.ContainsFunc(decoded, unicode.IsControl) {
		return false
	}
	for i := strings.IndexByte(path, '%'); i >= 0 && i < len(path); i++ {
		if path[i] == '%' {
			switch path[i+1 : i+3] {
			case "2e", "2E", "2f", "2F", "5c", "5C":
				return false
			}
		}
	}
	return true
}

// tenantSegment stands in a base for any one path segment.
const tenantSegment = "{tenant}"

// base is the path of the FHIR base: before, or before + one segment + after.
type base struct {
	before, after string
	tenant        bool
}

func newBase(path string) (base, error) {
	// The URL's path was parsed, so that the braces may have been encoded.
	path = strings.NewReplacer("%7B", "{", "%7D", "}").Replace(path)
	if t := (target{path: strings.Replace(path, tenantSegment, "x", 1)}); !t.unambiguous() {
		return base{}, errors.New("path must not have dot segments, empty segments, parameters or encoded separators")
	}
	path = strings.TrimSuffix(path, "/")
	before, after, tenant := strings.Cut(path, tenantSegment)
	if strings.ContainsAny(before+after, "{}") {
		return base{}, errors.New("only one path segment may be a placeholder, and it is " + tenantSegment)
	}
	if tenant && (!strings.HasSuffix(before, "/") || after != "" && after[0] != '/') {
		return base{}, errors.New(tenantSegment + " must be a whole path segment")
	}
	return base{before: before, after: after, tenant: tenant}, nil
}

// split returns the tenant in path, the part below the base, without its leading
// slash, and whether path is the base or below it.
func (b base) split(path string) (tenant, below string, ok bool) {
	rest, ok := strings.CutPrefix(path, b.before)
	if !ok {
		return "", "", false
	}
	if b.tenant {
		tenant, rest = cutSegment(rest)
		if !isTenant(tenant) {
			return "", "", false
		}
		if rest, ok = strings.CutPrefix(rest, b.after); !ok {
			return "", "", false
		}
	}
	if rest == "" {
		return tenant, "", path != ""
	}
	return tenant, rest[1:], rest[0] == '/'
}

func cutSegment(path string) (segment, rest string) {
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// maxTenant is longer than any tenant's name is.
const maxTenant = 128

// isTenant holds for what can be a tenant's name: letters, digits, dots, dashes and
// underscores, the first of them a letter or digit. A segment that a FHIR server
// without a tenant would understand ($expunge, _history, metadata) is none, or
// something else would run than was judged.
func isTenant(s string) bool {
	if s == "" || len(s) > maxTenant || !isAlphanumeric(s[0]) || s == "metadata" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// CheckBase reports why path, as it stands in a URL, can't be a FHIR base.
func CheckBase(path string) error {
	_, err := newBase(path)
	return err
}

// CheckPublicPath reports why path can't be a public path below the base.
func CheckPublicPath(path string) error {
	path, _ = strings.CutSuffix(path, "/*")
	if path == "" || strings.Contains(path, "*") || strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "?") {
		return errors.New("must be paths below the base, without a slash at either end and without a query; a * stands only in /* at the end")
	}
	if t := (target{path: "/" + path}); !t.unambiguous() {
		return errors.New("must not have dot segments, empty segments, parameters or encoded separators")
	}
	return nil
}
