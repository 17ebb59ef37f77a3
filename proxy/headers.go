package proxy

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// maxContextBytes bounds all context headers together. Tomcat reads 8 KiB of
// request headers by default, and the client's own come on top.
const maxContextBytes = 6 << 10

// maxScopeBytes bounds the scope header. A cut scope would be another scope.
const maxScopeBytes = 4 << 10

// form is how a claim stands in its header.
type form uint8

const (
	formText  form = iota // printable ASCII, the rest percent-encoded UTF-8
	formJSON              // ASCII JSON, made by package introspection
	formArray             // JSON array of strings
)

// ContextHeader is one claim of the introspection response as a header for the
// FHIR server.
type ContextHeader struct {
	// Suffix follows the configured prefix: "Patient" in X-Launch-Patient.
	Suffix string
	// Names are the claim's names in SIDECAR_HEADERS, the usual one first.
	Names []string
	// Claim is what the header carries.
	Claim introspection.Claim
	// Default tells whether the header is set unless configured otherwise.
	Default bool

	form form
}

// contextTable lists what can be injected. What identifies comes before what
// can be long, because room is given in this order.
var contextTable = [...]ContextHeader{
	{Suffix: "Patient", Names: []string{"patient"}, Claim: introspection.Patient, Default: true},
	{Suffix: "Encounter", Names: []string{"encounter"}, Claim: introspection.Encounter, Default: true},
	{Suffix: "User", Names: []string{"user", "fhirUser"}, Claim: introspection.User, Default: true},
	{Suffix: "Subject", Names: []string{"sub"}, Claim: introspection.Subject, Default: true},
	{Suffix: "Issuer", Names: []string{"iss"}, Claim: introspection.Issuer, Default: true},
	{Suffix: "Client-Id", Names: []string{"client_id", "azp"}, Claim: introspection.ClientID, Default: true},
	{Suffix: "Expires", Names: []string{"exp"}, Claim: introspection.Expires, Default: true},
	{Suffix: "Intent", Names: []string{"intent"}, Claim: introspection.Intent, Default: true},
	{Suffix: "Tenant", Names: []string{"tenant"}, Claim: introspection.Tenant, Default: true},
	{Suffix: "Username", Names: []string{"username"}, Claim: introspection.Username},
	{Suffix: "Token-Id", Names: []string{"jti"}, Claim: introspection.TokenID},
	{Suffix: "Resource", Names: []string{"resource"}, Claim: introspection.Resource},
	{Suffix: "Definition", Names: []string{"definition"}, Claim: introspection.Definition},
	{Suffix: "Audience", Names: []string{"aud"}, Claim: introspection.Audience, form: formArray},
	{Suffix: "Fhir-Context", Names: []string{"fhirContext"}, Claim: introspection.FHIRContext, Default: true, form: formJSON},
	{Suffix: "Scope", Names: []string{"scope"}, Claim: introspection.Scope, Default: true},
}

// ContextHeaders returns all headers that can be configured.
func ContextHeaders() []ContextHeader { return slices.Clone(contextTable[:]) }

// family is the set of header names that belong to us: all that begin with the
// prefix once they are folded.
type family struct {
	prefix string // canonical, X-Launch-
	folded string // x-launch-
}

var prefixPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*-$`)

// reservedNames have a meaning of their own, to HTTP or to this proxy. A family
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

func newFamily(prefix string) (family, error) {
	if !prefixPattern.MatchString(prefix) {
		return family{}, errors.New("must be letters, digits and single dashes and end with a dash, like X-Launch-")
	}
	folded := strings.ToLower(prefix)
	for _, name := range reservedNames {
		if strings.HasPrefix(name, folded) {
			return family{}, errors.New("would take in the header " + http.CanonicalHeaderKey(name))
		}
	}
	return family{prefix: http.CanonicalHeaderKey(prefix), folded: folded}, nil
}

// CheckHeaderPrefix reports why prefix can't begin the context headers' names.
func CheckHeaderPrefix(prefix string) error {
	_, err := newFamily(prefix)
	return err
}

// has reports whether the name folds into the family. Servers that hand headers
// to programs as variables (WSGI, CGI, Rack) fold them in just this way, so that
// X_Launch_Patient would be read as X-Launch-Patient there.
func (f family) has(name string) bool { return foldsInto(name, f.folded) }

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

// remove deletes the family's names from h and returns how many there were.
func (f family) remove(h http.Header) (removed int) {
	for name := range h {
		if f.has(name) {
			delete(h, name)
			removed++
		}
	}
	return removed
}

// removeTrailers deletes what an upstream sent as trailers that must not pass.
func (f family) removeTrailers(h http.Header) {
	for name := range h {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && f.stays(rest, nil) {
			delete(h, name)
		}
	}
}

// stays reports whether a trailer must not pass: one of the family, or one with a
// blank in its name, without which net/http would leave an HTTP/2 answer open.
func (f family) stays(name string, _ []string) bool { return f.has(name) || !isToken(name) }

// setContext sets the context headers on the request that goes upstream.
func (p *Proxy) setContext(h http.Header, x *exchange) {
	room := maxContextBytes - 1
	for i := range p.config.Headers {
		header, name := &p.config.Headers[i], p.metrics.headerNames[i]
		value := x.response.Text(header.Claim)
		if value == "" {
			if x.response.Unusable(header.Claim) {
				p.metrics.omit(i, omittedInvalid)
			}
			continue
		}
		if x.response.Unusable(header.Claim) {
			p.metrics.omit(i, omittedInvalid) // part of it was left out
		}
		switch header.form {
		case formText:
			value = percentEncode(value)
		case formArray:
			value = jsonArray(x.response)
		}
		if header.Claim == introspection.Scope && len(value) > maxScopeBytes {
			p.metrics.omit(i, omittedTooLarge)
			continue
		}
		// A field line is name, colon, blank, value, CR, LF.
		if size := len(name) + len(value) + 4; size <= room {
			room -= size
			h[name] = x.one(value)
		} else {
			p.metrics.omit(i, omittedNoRoom)
		}
	}
}

// percentEncode makes a claim safe and exact in a header: what isn't printable
// ASCII, the percent sign, and a blank at either end, which HTTP would trim
// (RFC 9110 §5.5), become %XX of their UTF-8 bytes. Percent-decoding gives the
// claim back.
func percentEncode(s string) string {
	plain := s[0] != ' ' && s[len(s)-1] != ' '
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] <= '~' && s[i] != '%'
	}
	if plain {
		return s
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == '%' || c == ' ' && (i == 0 || i == len(s)-1) {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func jsonArray(r *introspection.Response) string {
	var quoted []string
	for value := range r.Audiences() {
		quoted = append(quoted, introspection.QuoteASCII(value))
	}
	return "[" + strings.Join(quoted, ",") + "]"
}
