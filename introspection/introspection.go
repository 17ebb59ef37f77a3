package introspection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Introspector says whether a bearer token is active (RFC 7662 §2).
//
// A verdict with a Response is active, and the error is nil; everything else is
// an error that matches one of this package's sentinels with errors.Is, so that
// forgetting the check is impossible. Active is not authorised: audience,
// issuer, scope, kind and time are the caller's to check, on every request.
//
// client.Client asks the endpoint; package cache remembers what it said.
type Introspector interface {
	Introspect(ctx context.Context, r Request) (Verdict, error)
}

// Request asks for the verdict on one token.
type Request struct {
	// Token is the bearer token as the client sent it.
	Token string
	// CorrelationID becomes the X-Correlation-Id of the introspection request:
	// the X-Request-Id of the request that caused it. Empty: not sent.
	CorrelationID string
	// TraceID is passed on as X-Trace-Id. Empty: not sent.
	TraceID string
	// Span is that of the request that caused this one. Nil: none.
	Span trace.Span
	// Leaving is closed when the client says that it won't send more: a call that waits
	// for its turn is not waited for any longer, as the client may have gone. Nil: never.
	Leaving <-chan struct{}
	// Queued is called when the call has to wait for its turn, which others may be kept
	// from. Nil: nobody is told.
	Queued func()
	// Abandoned is closed when nobody waits for the verdict any more. Nil: never.
	Abandoned <-chan struct{}
	// Begin is called once, when the call is about to be made. False says that it
	// was abandoned before; true that it will be waited for, whoever leaves. Nil: true.
	Begin func() bool
}

// Verdict is what is known about a token. Lookup and Age are set beside an error
// as well.
type Verdict struct {
	// Response is what the authorization server said. Not nil: the token is active.
	Response *Response
	// Lookup says how it was found: one of the results that package cache names,
	// or "" when the endpoint was asked directly.
	Lookup string
	// Age is how long ago the authorization server said it, that the token is
	// inactive too; zero for a fresh verdict and with any other error.
	Age time.Duration
}

// Answer is a response of the endpoint as it came: 200, JSON, and decoded once to
// active or inactive. Whoever keeps it decodes it anew, because what is kept of a
// response depends on settings.
type Answer struct {
	// Body is the response body, decompressed; 256 KiB at most.
	Body []byte
	// ObtainedAt is when the response was complete.
	ObtainedAt time.Time
}

// The verdicts and failures of an introspection.
var (
	// ErrInactive says the authorization server does not vouch for the token
	// (RFC 7662 §2.2), or that it is of a kind that is never accepted. It is
	// the only error that is a verdict on the token; ErrAssertion and ErrForged are
	// special cases of it.
	ErrInactive = errors.New("token is not active")

	// ErrAssertion is the ErrInactive of a JWT that somebody authenticates with at
	// the authorization server (RFC 7523): there are servers that call it active.
	ErrAssertion error = &inactive{"token is a client assertion"}

	// ErrForged is the ErrInactive of a JWT that the pre-check refuses.
	ErrForged error = &inactive{"token is forged or past its time"}

	// ErrUnavailable says no verdict could be had: transport failure, timeout
	// or a status that says nothing about the token.
	ErrUnavailable = errors.New("introspection endpoint is unavailable")

	// ErrMalformed says the endpoint answered 200 with something that is not
	// an introspection response; it is treated as unavailable, never as a verdict.
	ErrMalformed = errors.New("malformed introspection response")

	// ErrThrottled says the endpoint asked us to slow down (429).
	ErrThrottled = errors.New("introspection endpoint asks to slow down")

	// ErrInvalidClient says the endpoint refused the sidecar's own credential
	// (401; RFC 6749 §5.2 invalid_client). It says nothing about the token.
	ErrInvalidClient = errors.New("own credential refused by the introspection endpoint")

	// ErrBusy says the limit of concurrent introspections was reached and no
	// place came free in time; the endpoint was not asked.
	ErrBusy = errors.New("too many introspections are waiting")
)

// inactive is an ErrInactive that says why.
type inactive struct{ text string }

// Error implements error.
func (e *inactive) Error() string { return e.text }

// Unwrap makes it an ErrInactive.
func (e *inactive) Unwrap() error { return ErrInactive }

// Failure is an error other than ErrInactive, with what an operator or a
// client can do about it.
type Failure struct {
	// Kind is the sentinel: ErrUnavailable, ErrMalformed, ErrThrottled,
	// ErrInvalidClient or ErrBusy.
	Kind error
	// RetryAfter is how long the endpoint, or the one that gives our own token,
	// asked us to wait; zero if it didn't.
	RetryAfter time.Duration
	// Reason is a short text without token, claim or credential.
	Reason string
}

// Error tells the kind and the reason.
func (f *Failure) Error() string {
	if f.Reason == "" {
		return f.Kind.Error()
	}
	return f.Kind.Error() + ": " + f.Reason
}

// Unwrap gives the sentinel, for errors.Is.
func (f *Failure) Unwrap() error { return f.Kind }

// Failf returns a Failure of one of the sentinels, with a reason that must hold
// no token, claim or credential.
func Failf(kind error, format string, args ...any) *Failure {
	return &Failure{Kind: kind, Reason: fmt.Sprintf(format, args...)}
}
