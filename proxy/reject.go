package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// decision is what became of a request; its label stands in metrics and logs.
type decision uint8

const (
	allowed decision = iota
	public
	preflight
	noToken
	invalidRequest
	invalidToken
	insufficientScope
	introspectionUnavailable
	credentialRejected
	upstreamError
	notFound
	badPath
	methodNotAllowed
	internalError
	clientClosed

	decisionCount
)

// decisionLabels are the labels of all decisions.
var decisionLabels = [decisionCount]string{
	"allowed", "public", "preflight", "no_token", "invalid_request", "invalid_token", "insufficient_scope",
	"introspection_unavailable", "credential_rejected", "upstream_error", "not_found", "bad_path",
	"method_not_allowed", "internal_error", "client_closed",
}

// refusal is one row of the table of refusals.
type refusal struct {
	decision decision
	status   int
	// challenge asks for a token (RFC 6750 §3); oauthError says what was wrong
	// with the one that came, and is empty when none came.
	challenge  bool
	oauthError string
	retry      bool
	closes     bool
	issue      fhir.IssueType
	// text is all a client is told: nothing of its request, nothing of the cause.
	text string
}

// statusClientClosed is nginx's word for a client that left before the answer.
const statusClientClosed = 499

// The table of refusals.
var (
	refuseNoToken = refusal{
		decision: noToken, status: http.StatusUnauthorized, challenge: true,
		issue: fhir.IssueLogin, text: "A bearer token is required.",
	}
	refuseRequest = refusal{
		decision: invalidRequest, status: http.StatusBadRequest, challenge: true, oauthError: "invalid_request",
		issue: fhir.IssueInvalid, text: "The request must carry exactly one bearer token, in the Authorization header.",
	}
	refuseToken = refusal{
		decision: invalidToken, status: http.StatusUnauthorized, challenge: true, oauthError: "invalid_token",
		issue: fhir.IssueLogin, text: "The bearer token is not accepted.",
	}
	refuseScope = refusal{
		decision: insufficientScope, status: http.StatusForbidden, challenge: true, oauthError: "insufficient_scope",
		issue: fhir.IssueForbidden, text: "The bearer token does not allow this request.",
	}
	refuseUnavailable = refusal{
		decision: introspectionUnavailable, status: http.StatusServiceUnavailable, retry: true,
		issue: fhir.IssueTransient, text: "The bearer token can't be checked at the moment.",
	}
	refuseCredential = refusal{
		decision: credentialRejected, status: http.StatusServiceUnavailable, retry: true,
		issue: fhir.IssueTransient, text: "The bearer token can't be checked at the moment.",
	}
	refuseUpstream = refusal{
		decision: upstreamError, status: http.StatusBadGateway,
		issue: fhir.IssueTransient, text: "The FHIR server can't be reached.",
	}
	refuseTimeout = refusal{
		decision: upstreamError, status: http.StatusGatewayTimeout,
		issue: fhir.IssueTimeout, text: "The FHIR server did not answer in time.",
	}
	refuseLoop = refusal{
		decision: upstreamError, status: http.StatusLoopDetected,
		issue: fhir.IssueException, text: "The FHIR server's address leads back here.",
	}
	refuseBody = refusal{
		decision: invalidRequest, status: http.StatusBadRequest, closes: true,
		issue: fhir.IssueInvalid, text: "The request body can't be read.",
	}
	refuseHost = refusal{
		decision: invalidRequest, status: http.StatusBadRequest,
		issue: fhir.IssueInvalid, text: "The host is not valid.",
	}
	refuseField = refusal{
		decision: invalidRequest, status: http.StatusBadRequest,
		issue: fhir.IssueInvalid, text: "A header field is not valid.",
	}
	refuseExpectation = refusal{
		decision: invalidRequest, status: http.StatusExpectationFailed, closes: true,
		issue: fhir.IssueNotSupported, text: "The expectation is not supported.",
	}
	refuseNotFound = refusal{
		decision: notFound, status: http.StatusNotFound,
		issue: fhir.IssueNotFound, text: "There is nothing here.",
	}
	refusePath = refusal{
		decision: badPath, status: http.StatusBadRequest,
		issue: fhir.IssueInvalid, text: "The path is ambiguous.",
	}
	refuseMethod = refusal{
		decision: methodNotAllowed, status: http.StatusMethodNotAllowed, closes: true,
		issue: fhir.IssueNotSupported, text: "The method is not supported.",
	}
	refusePanic = refusal{
		decision: internalError, status: http.StatusInternalServerError, closes: true,
		issue: fhir.IssueException, text: "The request failed.",
	}
	refuseGone = refusal{
		decision: clientClosed, status: statusClientClosed, closes: true,
		issue: fhir.IssueTransient, text: "The client closed the request.",
	}
)

const (
	allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	exposedHeaders = "WWW-Authenticate, Retry-After, X-Request-Id, X-Correlation-Id, X-Trace-Id"

	// defaultRetryAfter is told when the authorization server didn't say.
	defaultRetryAfter = 2 * time.Second

	// lingerTimeout is what a refused client gets to stop sending its body.
	lingerTimeout = 2 * time.Second
)

// reject answers the request itself. It is the only writer of error bodies.
func (p *Proxy) reject(x *exchange, r *http.Request, why *refusal) {
	x.decision = why.decision
	if x.status != 0 {
		return // the answer has begun; it can only be cut off
	}
	h := x.Header()
	clear(h)
	if why.challenge {
		h.Set("WWW-Authenticate", p.challenge(x, why))
	}
	if why.retry {
		h.Set("Retry-After", retryAfter(x.failure))
	}
	if why.status == http.StatusMethodNotAllowed {
		h.Set("Allow", allowedMethods)
	}
	// Waiting for the rest of a body that nobody will read would give a client
	// a way to hold the connection, and hold back the answer. In HTTP/2 a stream is
	// framed whatever is wrong with it, and others' requests share the connection.
	unread := r.ContentLength != 0 && r.ProtoMajor == 1
	if why.closes && r.ProtoMajor == 1 || unread {
		h.Set("Connection", "close")
	}
	if unread {
		// After the answer, net/http reads on for a while, lest a reset destroys it.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	setIDs(h, x)
	if r.Header.Get("Origin") != "" {
		// A browser hides an answer without these from the app that asked.
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", exposedHeaders)
	}
	format := fhir.Negotiate(x.target.query, r.Header["Accept"])
	body := fhir.Outcome(format, why.issue, why.text)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", format.MediaType())
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	x.WriteHeader(why.status)
	if r.Method != http.MethodHead {
		// A client that doesn't take its answer is its own loss.
		_, _ = x.Write(body)
	}
}

func setIDs(h http.Header, x *exchange) {
	h.Set("X-Request-Id", x.requestID)
	if x.correlationID != "" {
		h.Set("X-Correlation-Id", x.correlationID)
	}
	if x.asked.TraceID != "" {
		h.Set("X-Trace-Id", x.asked.TraceID)
	}
}

// challenge writes RFC 6750 §3. The scope is what the request or the
// configuration asks for, not what the token lacks.
func (p *Proxy) challenge(x *exchange, why *refusal) string {
	value := `Bearer realm="fhir"`
	if why.oauthError != "" {
		value += `, error="` + why.oauthError + `"`
	}
	if why.decision == insufficientScope {
		scopes := x.needed
		if scopes == "" {
			scopes = strings.Join(p.config.Policy.Scopes, " ")
		}
		if scopes != "" {
			value += `, scope="` + scopes + `"`
		}
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
