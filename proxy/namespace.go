package proxy

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
)

// namespace is the set of header names that belong to us: all that begin with the
// prefix once they are folded.
type namespace struct {
	prefix string // canonical, X-Launch-
	folded string // x-launch-
}

var prefixPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*-$`)

// reservedNames have a meaning of their own, to HTTP or to this proxy. A namespace
// that took one of them in would remove it from every request and response.
var reservedNames = []string{
	"accept", "accept-encoding", "access-control-allow-origin", "access-control-request-method", "alt-svc", "authorization",
	"cache-control", "cdn-loop", "clear-site-data", "connection", "content-length", "content-security-policy", "content-type", "cookie",
	"cross-origin-resource-policy", "etag", "expect", "forwarded", "host", "idempotency-key", "if-match", "if-none-exist", "keep-alive",
	"last-modified", "location", "max-forwards", "origin", "permissions-policy", "prefer", "proxy-authorization",
	"range", "referrer-policy", "retry-after", "sec-fetch-mode", "server-timing", "set-cookie", "strict-transport-security",
	"te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "www-authenticate",
	"x-content-type-options", "x-correlation-id", "x-forwarded-for", "x-frame-options", "x-http-method-override", "x-provenance",
	"x-real-ip", "x-request-id", "x-trace-id",
}

func newNamespace(prefix string) (namespace, error) {
	if !prefixPattern.MatchString(prefix) {
		return namespace{}, errors.New("must be letters, digits and single dashes and end with a dash, like X-Launch-")
	}
	folded := strings.ToLower(prefix)
	for _, name := range reservedNames {
		if strings.HasPrefix(name, folded) {
			return namespace{}, errors.New("would take in the header " + http.CanonicalHeaderKey(name))
		}
	}
	return namespace{prefix: http.CanonicalHeaderKey(prefix), folded: folded}, nil
}

// CheckHeaderPrefix reports why prefix can't begin the context headers' names.
func CheckHeaderPrefix(prefix string) error {
	_, err := newNamespace(prefix)
	return err
}

// has reports whether the name folds into the namespace. Servers that hand headers
// to programs as variables (WSGI, CGI, Rack) fold them in just this way, so that
// X_Launch_Patient would be read as X-Launch-Patient there.
func (n namespace) has(name string) bool { return foldsInto(name, n.folded) }

// foldsInto reports whether name begins with folded once it is in lower case
// with every character that isn't alphanumeric as a dash.
func foldsInto(name, folded string) bool {
	if len(name) < len(folded) {
		return false
	}
	for i := range len(folded) {
		if fold(name[i]) != folded[i] {
			return false
		}
	}
	return true
}

// foldedIn reports whether name folds into one of the list.
func foldedIn(name string, list []string) bool {
	for _, folded := range list {
		if len(name) == len(folded) && foldsInto(name, folded) {
			return true
		}
	}
	return false
}

func fold(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c | 0x20
	case isAlphanumeric(c):
		return c
	default:
		return '-'
	}
}

// mustNotTrail reports whether a trailer must not pass: one of the namespace, or one
// with a space in its name, without which net/http would leave an HTTP/2 response
// open.
func (n namespace) mustNotTrail(name string) bool { return n.has(name) || !isToken(name) }
