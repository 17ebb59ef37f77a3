package introspection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Introspector answers whether a bearer token is active (RFC 7662 §2).
//
// A non-nil Response is always active, so that forgetting the check is
// impossible; everything else is an error that matches one of this package's
// sentinels with errors.Is. Active is not authorised: audience, issuer, scope,
// kind and time are the caller's to check, on every request.
//
// Client asks the endpoint; package cache remembers what a Client answered.
type Introspector interface {
	Introspect(ctx context.Context, token string) (*Response, error)
}

// The verdicts and failures of an introspection.
var (
	// ErrInactive says the authorization server does not vouch for the token
	// (RFC 7662 §2.2), or that it is of a kind that is never accepted. It is
	// the only error that is a verdict on the token.
	ErrInactive = errors.New("token is not active")

	// ErrUnavailable says no verdict could be had: transport failure, timeout
	// or a status that says nothing about the token.
	ErrUnavailable = errors.New("introspection endpoint is unavailable")

	// ErrMalformed says the endpoint answered 200 with something that is not
	// an introspection response; it is treated as unavailable, never as a verdict.
	ErrMalformed = errors.New("introspection answer is malformed")

	// ErrThrottled says the endpoint asked us to slow down (429).
	ErrThrottled = errors.New("introspection endpoint asks to slow down")

	// ErrInvalidClient says the endpoint refused the sidecar's own credential
	// (401; RFC 6749 §5.2 invalid_client). It says nothing about the token.
	ErrInvalidClient = errors.New("own credential refused by the introspection endpoint")

	// ErrBusy says the limit of concurrent introspections was reached and no
	// place came free in time; the endpoint was not asked.
	ErrBusy = errors.New("too many introspections are waiting")
)

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

// Call travels by context with one request for a verdict: the ids to pass on,
// and what the layers below report back to the one who asked.
type Call struct {
	// CorrelationID becomes the X-Correlation-Id of the introspection request:
	// the X-Request-Id of the request that caused it. Empty: not sent.
	CorrelationID string
	// TraceID is passed on as X-Trace-Id. Empty: not sent.
	TraceID string
	// Span is that of the request that caused the call. Nil: none.
	Span trace.Span

	// Lookup is set by package cache to one of its lookup results, before
	// Introspect returns.
	Lookup string
	// Age is set by package cache: how old the verdict is. Zero for a fresh one.
	Age time.Duration
}

// CallKey is the context key of a *Call. It is exported so that a context type
// that already carries a request's state can answer for it without another
// allocation; WithCall is the ordinary way.
type CallKey struct{}

// WithCall returns a context that carries call.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, CallKey{}, call)
}

// CallFrom returns the call that ctx carries, or nil.
func CallFrom(ctx context.Context) *Call {
	call, _ := ctx.Value(CallKey{}).(*Call)
	return call
}
