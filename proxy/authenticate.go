package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// authenticate finds the request's bearer token (RFC 6750 §2.1) and asks for
// the verdict on it.
func (p *Proxy) authenticate(x *exchange, r *http.Request) (*introspection.Response, *refusal) {
	token, refused := bearerToken(r.Header["Authorization"], hasQueryToken(x.target.query), p.config.MaxTokenBytes)
	if refused != nil {
		return nil, refused
	}
	x.token = token
	x.asked.Token = token
	var err error
	if x.found, err = p.config.Introspector.Introspect(x, x.asked); err != nil {
		x.failure = err
		return nil, refusalFor(x, err)
	}
	return x.found.Response, nil
}

// refusalFor maps the errors of an Introspector. Whatever it doesn't know means
// that there is no verdict.
func refusalFor(client context.Context, err error) *refusal {
	switch {
	case errors.Is(err, introspection.ErrInactive):
		return &refuseToken
	case errors.Is(err, introspection.ErrInvalidClient):
		return &refuseCredential
	case errors.Is(err, context.Canceled) && client.Err() != nil:
		return &refuseGone
	default:
		return &refuseUnavailable
	}
}

// bearerToken reads the Authorization header. Only this one way of sending a
// token is taken; a second one beside it is an invalid request (RFC 6750 §3.1).
func bearerToken(values []string, queryToken bool, maxBytes int) (string, *refusal) {
	if len(values) == 0 {
		return "", &refuseNoToken
	}
	if len(values) > 1 || queryToken {
		return "", &refuseRequest
	}
	scheme, credentials := cutScheme(values[0])
	if scheme == "" {
		if values[0] == "" {
			return "", &refuseNoToken
		}
		return "", &refuseRequest
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return "", &refuseNoToken
	}
	// RFC 9110 §11.4: credentials follow one or more blanks, and nothing else.
	token := strings.TrimLeft(credentials, " ")
	switch {
	case token == "" || credentials == token || strings.IndexByte(token, ' ') >= 0 || strings.IndexByte(token, '\t') >= 0:
		return "", &refuseRequest
	case len(token) > maxBytes || !isB64Token(token):
		return "", &refuseToken
	}
	return token, nil
}

// cutScheme splits an Authorization value after its auth-scheme, a token of RFC
// 9110 §5.6.2. No scheme means that the value can't be parsed.
func cutScheme(value string) (scheme, rest string) {
	i := 0
	for i < len(value) && isTokenChar(value[i]) {
		i++
	}
	if i < len(value) && value[i] != ' ' {
		return "", ""
	}
	return value[:i], value[i:]
}

func isTokenChar(c byte) bool { return tokenChars[c] }

// isB64Token checks the alphabet of RFC 6750 §2.1.
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !b64TokenChars[s[i]] {
			return false
		}
	}
	return s != ""
}

// The alphabets are tables because every character of every request's token and
// field names is held against them.
var (
	b64TokenChars = alphabet("-._~+/")          // RFC 6750 §2.1
	tokenChars    = alphabet("!#$%&'*+-.^_`|~") // RFC 9110 §5.6.2
)

// alphabet returns letters, digits and the marks.
func alphabet(marks string) (table [256]bool) {
	for c := range table {
		table[c] = isAlphanumeric(byte(c)) || strings.IndexByte(marks, byte(c)) >= 0
	}
	return table
}

// hasQueryToken reports whether the query has an access_token (RFC 6750 §2.3),
// however its name is encoded. The value is never looked at.
func hasQueryToken(query string) bool {
	if !strings.ContainsAny(query, "%") && !strings.Contains(query, "access_token") {
		return false
	}
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil && decoded == "access_token" {
			return true
		}
	}
	return false
}
