package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// exchange is one request and its response, and what was found out on the way. It
// is one value, so that a request needs one piece of memory; each step gets the part
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
	response     upstream.Response

	body requestBody
}

// protocol is what net/http knows of a request beyond its bytes.
type protocol struct {
	fault   *decision // what its protocol doesn't allow; nil: nothing
	closes  bool      // the connection must not be used again
	streams bool      // it shares its connection with other requests (HTTP/2)
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func newExchange(c remote, in *wire.Request, of protocol, trusted []netip.Prefix, draining *atomic.Bool) *exchange {
	x, _ := exchanges.Get().(*exchange)
	x.remote, x.draining, x.closes = c, draining, of.closes
	x.began, x.decision = time.Now(), internalError
	x.body.remote = c
	readRequest(&x.request, in, trusted)
	x.streams, x.fault = of.streams, of.fault
	return x
}

// end lets another request have the memory. What reads a body may do so in a goroutine of
// its own when the response is over: nobody gets that again.
func (x *exchange) end() {
	if x.length == 0 {
		*x = exchange{}
		exchanges.Put(x)
	}
}

// writeWhole writes a response that was made here, after the fields it has so far.
func (x *exchange) writeWhole(status int, mediaType string, body []byte) {
	h := &x.head.Fields
	h.Add("Content-Type", mediaType)
	h.Add("X-Content-Type-Options", "nosniff")
	x.head.Told = int64(len(body))
	x.writeHead(status)
	if x.method != http.MethodHead {
		_ = x.write(body) // fails when the client has gone
	}
}

// level is where a request's line stands. What would have been refused is told like
// what was.
func (x *exchange) level() slog.Level {
	if x.reported != "" {
		return max(x.decision.level, slog.LevelInfo)
	}
	return x.decision.level
}
