package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
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
	outcomes  map[*decision]*outcomes
}

// outcomes are the bodies of a refusal, in each format. They are always the same.
type outcomes [fhir.XML + 1][]byte

func newRefuser(p *published) *refuser {
	rf := &refuser{published: p, outcomes: map[*decision]*outcomes{}}
	for _, d := range decisions {
		rf.outcomes[d] = &outcomes{}
		for format := range rf.outcomes[d] {
			rf.outcomes[d][format] = fhir.Outcome(fhir.Format(format), d.issue, d.text)
		}
	}
	return rf
}

// refuse responds to the request itself.
func (rf *refuser) refuse(x *exchange, why *decision) {
	x.decision = why
	if x.status != 0 {
		return // the response has begun; it can only be cut off
	}
	h := x.begin()
	rf.setChallenge(h, x, why)
	x.setConnection(why)
	x.setIDs(h)
	rf.setCORS(h, x.origin)
	format := fhir.Negotiate(x.target.query, x.accept)
	h.Add("Cache-Control", "no-store")
	x.writeWhole(why.status, format.MediaType(), rf.outcomes[why][format])
}

// setCORS lets the app that asked see the refusal: a browser hides a response without
// these headers.
func (rf *refuser) setCORS(h *wire.Fields, origin string) {
	switch {
	case rf.published.cors != nil:
		rf.published.cors.write(h, origin)
	case origin != "":
		h.Add("Access-Control-Allow-Origin", "*")
		h.Add("Access-Control-Expose-Headers", exposedHeaders)
	}
}

// setChallenge says what the client can do about it.
func (rf *refuser) setChallenge(h *wire.Fields, x *exchange, why *decision) {
	if why.challenge {
		h.Add("WWW-Authenticate", rf.challenge(x, why))
	}
	if why.retry {
		h.Add("Retry-After", retryAfter(x.failure))
	}
	if why.status == http.StatusMethodNotAllowed {
		h.Add("Allow", allowedMethods)
	}
}

// setConnection closes the connection of a request with a body: waiting for the
// rest of one that nobody will read would give a client a way to hold the
// connection, and hold back the response. In HTTP/2 a stream is framed whatever is
// wrong with it, and others' requests share the connection.
func (x *exchange) setConnection(why *decision) {
	unread := x.length != 0 && !x.streams
	x.closes = x.closes || why.closes && !x.streams || unread
	if unread {
		// After the response, net/http reads on for a while, lest a reset destroys it.
		_ = x.remote.SetReadDeadline(time.Now().Add(lingerTimeout))
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
