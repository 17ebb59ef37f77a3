package proxy

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// maxContextBytes bounds all context headers together. Tomcat reads 8 KiB of
// request headers by default, and the client's own come on top.
const maxContextBytes = 6 << 10

// maxScopeBytes bounds the scope header. A cut scope would be another scope.
const maxScopeBytes = 4 << 10

// Reasons for which a context header is left out.
const (
	omittedInvalid  = "invalid"
	omittedTooLarge = "too_large"
	omittedNoRoom   = "no_room"
)

// contextHeaders sets the configured context headers.
type contextHeaders struct {
	headers []ContextHeader
	names   []string // of headers, with the prefix
	omitted *prometheus.CounterVec
}

func newContextHeaders(headers []ContextHeader, n namespace, registerer prometheus.Registerer) *contextHeaders {
	c := &contextHeaders{headers: headers, omitted: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_omitted_headers_total",
		Help: "Context headers left out although the token has the claim, by header and reason.",
	}, []string{"header", "reason"})}
	for _, header := range headers {
		name := http.CanonicalHeaderKey(n.prefix + header.Suffix)
		c.names = append(c.names, name)
		for _, reason := range header.omittedFor() {
			c.omitted.WithLabelValues(name, reason)
		}
	}
	if registerer != nil {
		registerer.MustRegister(c.omitted)
	}
	return c
}

// omittedFor lists the reasons for which a header can be left out, so that its
// series exist before the first time.
func (c ContextHeader) omittedFor() []string {
	if c.form == formExtra {
		return []string{omittedNoRoom}
	}
	switch c.Claim {
	case introspection.Patient, introspection.Encounter, introspection.FHIRContext:
		return []string{omittedNoRoom, omittedInvalid}
	case introspection.Scope:
		return []string{omittedNoRoom, omittedTooLarge}
	}
	return []string{omittedNoRoom}
}

// value is what the response has for the header, before it is encoded.
func (c *ContextHeader) value(r *introspection.Response) string {
	if c.form == formExtra {
		return r.Extra(c.extra)
	}
	return r.Text(c.Claim)
}

// set sets the headers for an active token.
func (c *contextHeaders) set(r *introspection.Response, add func(name, value string)) {
	room := maxContextBytes - 1
	for i := range c.headers {
		header, name := &c.headers[i], c.names[i]
		value := header.value(r)
		if header.form != formExtra && r.Unusable(header.Claim) {
			c.omit(name, omittedInvalid) // all of it, or a part
		}
		if value == "" {
			continue
		}
		switch header.form {
		case formText, formExtra:
			value = percentEncode(value)
		case formArray:
			value = jsonArray(r)
		}
		// A field line is name, colon, space, value, CR, LF.
		size := len(name) + len(value) + 4
		switch {
		case header.form != formExtra && header.Claim == introspection.Scope && len(value) > maxScopeBytes:
			c.omit(name, omittedTooLarge)
		case size > room:
			c.omit(name, omittedNoRoom)
		default:
			room -= size
			add(name, value)
		}
	}
}

func (c *contextHeaders) omit(name, reason string) { c.omitted.WithLabelValues(name, reason).Inc() }

// percentEncode makes a claim safe and exact in a header: what isn't printable
// ASCII, the percent sign, and a space at either end, which HTTP would trim
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
