package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
)

// exchange is one request and its response, and what was found out on the way. It
// is one value, so that a request costs one allocation; each step gets the part
// that it needs. It lives in one goroutine, but for body.
type exchange struct {
	request
	recorder

	ctx   context.Context //nolint:containedctx // of this request
	span  trace.Span      // nil: it isn't traced
	began time.Time

	place
	token        string
	verdict      introspection.Verdict // its Response is set when the token is active
	authorized   bool                  // the verdict satisfies policy and scopes
	decision     *decision
	reason       policy.Reason // why the token was refused
	neededScopes string        // that would help and that the token lacks
	reported     policy.Reason // why the request would have been refused
	guarded      policy.Reach  // where it leads; "": nobody asked
	location     string        // of what the FHIR server has created
	failure      error         // why there was no verdict or no response, for the log

	body   requestBody
	values valueList
	out    http.Request // to the FHIR server
	outURL url.URL
}

func newExchange(w http.ResponseWriter, r *http.Request, trusted []netip.Prefix, draining *atomic.Bool) *exchange {
	x := &exchange{
		recorder: recorder{w: w, draining: draining, closes: ambiguousFraming(r)},
		began:    time.Now(),
		decision: internalError,
	}
	readRequest(&x.request, r, trusted)
	return x
}

// level is where a request's line stands. What would have been refused is told like
// what was.
func (x *exchange) level() slog.Level {
	if x.reported != "" {
		return max(x.decision.level, slog.LevelInfo)
	}
	return x.decision.level
}
