package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

const (
	exposedHeaders = "WWW-Authenticate, Retry-After, X-Request-Id, X-Correlation-Id, X-Trace-Id"

	// defaultRetryAfter is for an authorization server that didn't say.
	defaultRetryAfter = 2 * time.Second

	// lingerTimeout is what a refused client gets to stop sending its body.
	lingerTimeout = 2 * time.Second
)

// refuser is the only writer of error bodies.
type refuser struct {
	published *published
}

// refuse responds to the request itself.
func (rf *refuser) refuse(x *exchange, why *decision) {
	x.decision = why
	if x.status != 0 {
		return // the response has begun; it can only be cut off
	}
	h := x.Header()
	clear(h)
	rf.setChallenge(h, x, why)
	x.setConnection(h, why)
	x.setIDs(h)
	rf.setCORS(h, x.origin)
	format := fhir.Negotiate(x.target.query, x.accept)
	body := fhir.Outcome(format, why.issue, why.text)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", format.MediaType())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	x.WriteHeader(why.status)
	if x.method != http.MethodHead {
		_, _ = x.Write(body) // fails when the client has gone
	}
}

// setCORS lets the app that asked see the refusal: a browser hides a response without
// these headers.
func (rf *refuser) setCORS(h http.Header, origin string) {
	switch {
	case rf.published.cors != nil:
		rf.published.cors.write(h, origin)
	case origin != "":
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", exposedHeaders)
	}
}

// setChallenge says what the client can do about it.
func (rf *refuser) setChallenge(h http.Header, x *exchange, why *decision) {
	if why.challenge {
		h.Set("WWW-Authenticate", rf.challenge(x, why))
	}
	if why.retry {
		h.Set("Retry-After", retryAfter(x.failure))
	}
	if why.status == http.StatusMethodNotAllowed {
		h.Set("Allow", allowedMethods)
	}
}

// setConnection closes the connection of a request with a body: waiting for the
// rest of one that nobody will read would give a client a way to hold the
// connection, and hold back the response. In HTTP/2 a stream is framed whatever is
// wrong with it, and others' requests share the connection.
func (x *exchange) setConnection(h http.Header, why *decision) {
	unread := x.length != 0 && !x.streams
	if why.closes && !x.streams || unread {
		h.Set("Connection", "close")
	}
	if unread {
		// After the response, net/http reads on for a while, lest a reset destroys it.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingerTimeout))
	}
}

// challenge writes RFC 6750 §3, and where to find out who gives tokens (RFC 9728 §5.1).
// The scopes are those that would help: what the client has would send it in circles.
func (rf *refuser) challenge(x *exchange, why *decision) string {
	value := `Bearer realm="fhir"`
	if why.oauthError != "" {
		value += `, error="` + why.oauthError + `"`
	}
	if why.scopes && x.neededScopes != "" {
		value += `, scope="` + x.neededScopes + `"`
	}
	if url := rf.published.metadataURL(x.tenant); url != "" {
		value += `, resource_metadata="` + url + `"`
	}
	return value
}

// retryAfter passes on what the authorization server asked for, in whole seconds.
func retryAfter(err error) string {
	wait := defaultRetryAfter
	var failure *introspection.Failure
	if errors.As(err, &failure) && failure.RetryAfter > 0 {
		wait = failure.RetryAfter
	}
	return strconv.Itoa(int((wait + time.Second - 1) / time.Second))
}
