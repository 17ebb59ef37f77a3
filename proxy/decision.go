package proxy

import (
	"log/slog"
	"net/http"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// decision is what becomes of a request. Those with a status are refusals, which
// reject writes; the others are forwarded.
type decision struct {
	// label stands in metrics, logs and traces; several decisions may share one.
	label string
	// level is where the request's line stands in the log.
	level  slog.Level
	status int
	issue  fhir.IssueType
	// text is all that a client is told: nothing of its request, nothing of the cause.
	text string
	// challenge asks for a token (RFC 6750 §3); oauthError says what was wrong
	// with the one that came, and is empty when none came.
	challenge  bool
	oauthError string
	scopes     bool // the challenge names the scopes that would do
	retry      bool // later
	closes     bool // the connection
	own        bool // neither refused nor forwarded: written here
}

// statusClientClosed is nginx's status for a client that left before the response.
const statusClientClosed = 499

const (
	needsToken = "A bearer token is required."
	noVerdict  = "The bearer token can't be checked at the moment."
	noScope    = "The bearer token does not allow this request."
)

// The table of decisions.
var (
	allowed   = &decision{label: "allowed", level: slog.LevelDebug}
	public    = &decision{label: "public", level: slog.LevelDebug}
	preflight = &decision{label: "preflight", level: slog.LevelDebug}

	ownDocument  = &decision{label: "public", level: slog.LevelDebug, own: true}
	ownPreflight = &decision{label: "preflight", level: slog.LevelDebug, own: true}

	// refuseUnknownDocument is for a document that is made of what hasn't been read yet.
	refuseUnknownDocument = &decision{
		label: "public", level: slog.LevelDebug, status: http.StatusServiceUnavailable, retry: true,
		issue: fhir.IssueTransient, text: "The document is not available at the moment.",
	}

	refuseNoToken = &decision{
		label: "no_token", status: http.StatusUnauthorized, challenge: true,
		issue: fhir.IssueLogin, text: needsToken,
	}
	refuseRequest = &decision{
		label: "invalid_request", status: http.StatusBadRequest, challenge: true, oauthError: "invalid_request",
		issue: fhir.IssueInvalid, text: "The request must carry exactly one bearer token, in the Authorization header.",
	}
	refuseToken = &decision{
		label: "invalid_token", status: http.StatusUnauthorized, challenge: true, oauthError: "invalid_token",
		issue: fhir.IssueLogin, text: "The bearer token is not accepted.",
	}
	refuseScope = &decision{
		label: "insufficient_scope", status: http.StatusForbidden, challenge: true, oauthError: "insufficient_scope", scopes: true,
		issue: fhir.IssueForbidden, text: noScope,
	}
	// refuseOperation is for what no scope permits.
	refuseOperation = &decision{
		label: "insufficient_scope", status: http.StatusForbidden, challenge: true, oauthError: "insufficient_scope",
		issue: fhir.IssueNotSupported, text: noScope,
	}
	// refuseTenant is for a token of another tenant.
	refuseTenant = &decision{
		label: "insufficient_scope", status: http.StatusForbidden, challenge: true, oauthError: "insufficient_scope",
		issue: fhir.IssueForbidden, text: noScope,
	}
	refuseUnavailable = &decision{
		label: "introspection_unavailable", level: slog.LevelWarn, status: http.StatusServiceUnavailable, retry: true,
		issue: fhir.IssueTransient, text: noVerdict,
	}
	refuseCredential = &decision{
		label: "credential_rejected", level: slog.LevelError, status: http.StatusServiceUnavailable, retry: true,
		issue: fhir.IssueTransient, text: noVerdict,
	}
	refuseUpstream = &decision{
		label: "upstream_error", level: slog.LevelWarn, status: http.StatusBadGateway,
		issue: fhir.IssueTransient, text: "The FHIR server can't be reached.",
	}
	refuseTimeout = &decision{
		label: "upstream_error", level: slog.LevelWarn, status: http.StatusGatewayTimeout,
		issue: fhir.IssueTimeout, text: "The FHIR server did not respond in time.",
	}
	refuseLoop = &decision{
		label: "upstream_error", level: slog.LevelWarn, status: http.StatusLoopDetected,
		issue: fhir.IssueProcessing, text: "Upstream loop detected.",
	}
	refuseBody = &decision{
		label: "invalid_request", status: http.StatusBadRequest, closes: true,
		issue: fhir.IssueInvalid, text: "The request body can't be read.",
	}
	refuseUnexpectedBody = &decision{
		label: "invalid_request", status: http.StatusBadRequest, closes: true,
		issue: fhir.IssueInvalid, text: "This request must not have a body.",
	}
	refuseHost = &decision{
		label: "invalid_request", status: http.StatusBadRequest,
		issue: fhir.IssueInvalid, text: "Invalid Host header.",
	}
	refuseField = &decision{
		label: "invalid_request", status: http.StatusBadRequest,
		issue: fhir.IssueInvalid, text: "Invalid header field.",
	}
	refuseExpectation = &decision{
		label: "invalid_request", status: http.StatusExpectationFailed, closes: true,
		issue: fhir.IssueNotSupported, text: "Unsupported Expect header.",
	}
	refuseNotFound = &decision{
		label: "not_found", status: http.StatusNotFound,
		issue: fhir.IssueNotFound, text: "Not found.",
	}
	refusePath = &decision{
		label: "bad_path", status: http.StatusBadRequest,
		issue: fhir.IssueInvalid, text: "Ambiguous request path.",
	}
	refuseMethod = &decision{
		label: "method_not_allowed", status: http.StatusMethodNotAllowed, closes: true,
		issue: fhir.IssueNotSupported, text: "Method not allowed.",
	}
	internalError = &decision{
		label: "internal_error", level: slog.LevelError, status: http.StatusInternalServerError, closes: true,
		issue: fhir.IssueException, text: "Internal error.",
	}
	clientClosed = &decision{
		label: "client_closed", level: slog.LevelDebug, status: statusClientClosed, closes: true,
		issue: fhir.IssueTransient, text: "The client closed the request.",
	}
	// clientStalled is for a request body that makes no progress (RFC 9110 §15.5.9).
	clientStalled = &decision{
		label: "client_closed", level: slog.LevelDebug, status: http.StatusRequestTimeout, closes: true,
		issue: fhir.IssueTimeout, text: "The request body did not arrive in time.",
	}
)

// decisions are all rows of the table.
var decisions = [...]*decision{
	allowed, public, preflight, ownDocument, ownPreflight, refuseUnknownDocument,
	refuseNoToken, refuseRequest, refuseToken, refuseScope, refuseOperation, refuseTenant, refuseUnavailable,
	refuseCredential, refuseUpstream, refuseTimeout, refuseLoop, refuseBody, refuseUnexpectedBody, refuseHost, refuseField, refuseExpectation,
	refuseNotFound, refusePath, refuseMethod, internalError, clientClosed, clientStalled,
}

// Reasons of refusals, besides those of package policy: what was wrong with the
// token.
const (
	noTokenSent policy.Reason = "no_token"
	malformed   policy.Reason = "malformed"
	tooLong     policy.Reason = "too_long"
	inactive    policy.Reason = "inactive"
	assertion   policy.Reason = "assertion"
	forged      policy.Reason = "forged"
)

// refusalReasons are the label values of refusals_total. Those at the end are
// given by what is only there when it is configured.
var refusalReasons = [...]policy.Reason{
	noTokenSent, malformed, tooLong, inactive, policy.Expired, policy.NotYet, policy.Kind, policy.Bound, policy.TokenType,
	policy.Audience, policy.Issuer, policy.RequiredScope, policy.Interaction, policy.Operation, policy.PatientContext,
	policy.OtherPatient, policy.Tenant, assertion, forged,
}

// refusalFor returns the decision about a token that policy denies. A request that no
// scope would permit is one that isn't supported.
func refusalFor(reason policy.Reason, scopes string) *decision {
	switch reason {
	case policy.RequiredScope, policy.PatientContext, policy.OtherPatient:
		return refuseScope
	case policy.Tenant:
		return refuseTenant
	case policy.Interaction, policy.Operation:
		if scopes == "" {
			return refuseOperation
		}
		return refuseScope
	}
	return refuseToken
}
