package proxy

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// authenticator finds a request's bearer token and asks for the verdict on it.
type authenticator struct {
	introspector introspection.Introspector
	maxBytes     int
}

// introspect asks for the verdict on the token of x.
func (a *authenticator) introspect(x *exchange) (refused *decision) {
	var err error
	leaving := wire.Leaving(x.ctx)
	x.verdict, err = a.introspector.Introspect(x.ctx, introspection.Request{
		Token: x.token, CorrelationID: x.requestID, TraceID: x.traceID, Span: x.span, Leaving: leaving,
	})
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, introspection.ErrAssertion):
		x.reason = assertion
	case errors.Is(err, introspection.ErrForged):
		x.reason = forged
	case errors.Is(err, introspection.ErrInactive):
		x.reason = inactive
	}
	x.failure = err
	return withoutVerdict(err, x.ctx.Err() != nil || isClosed(leaving))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// withoutVerdict maps the errors of an Introspector; left says whether the client has
// gone, or may have. Whatever it doesn't know means
// that there is no verdict.
func withoutVerdict(err error, left bool) *decision {
	switch {
	case errors.Is(err, introspection.ErrInactive):
		return refuseToken
	case errors.Is(err, introspection.ErrInvalidClient):
		return refuseCredential
	case errors.Is(err, context.Canceled) && left:
		return clientClosed
	default:
		return refuseUnavailable
	}
}

// token reads the Authorization header (RFC 6750 §2.1). Only this one way of
// sending a token is taken; a second one beside it is an invalid request (§3.1).
func (a *authenticator) token(q *request) (token string, refused *decision, reason policy.Reason) {
	values := q.authorization
	if len(values) == 0 {
		return "", refuseNoToken, noTokenSent
	}
	if len(values) > 1 || hasQueryToken(q.target.query) {
		return "", refuseRequest, malformed
	}
	scheme, credentials := cutScheme(values[0])
	if scheme == "" {
		if values[0] == "" {
			return "", refuseNoToken, noTokenSent
		}
		return "", refuseRequest, malformed
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return "", refuseNoToken, noTokenSent
	}
	// RFC 9110 §11.4: credentials follow one or more spaces, and nothing else.
	token = strings.TrimLeft(credentials, " ")
	switch {
	case token == "" || credentials == token || strings.IndexByte(token, ' ') >= 0 || strings.IndexByte(token, '\t') >= 0:
		return "", refuseRequest, malformed
	case len(token) > a.maxBytes:
		return "", refuseToken, tooLong
	case !isB64Token(token):
		return "", refuseToken, malformed
	}
	return token, nil, ""
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
