package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// observer tells operators what became of requests.
type observer struct {
	metrics *metrics
	logger  *slog.Logger
	audit   func(AuditRecord) // nil: none

	auditQuery bool
	tokenRef   func(token string) string
	tracer     tracer
	now        func() time.Time
}

// finish ends a request: it turns a panic into a 500, and counts and logs, once.
func (p *Proxy) finish(x *exchange) {
	panicked := recover()
	abort := panicked != nil
	if panicked != nil && !isAbort(panicked) {
		// The panic's text may hold anything; its type and place don't.
		p.observer.logger.Error("panic", "panic", fmt.Sprintf("%T", panicked), "stack", string(debug.Stack()),
			"request_id", x.requestID)
		abort = x.status != 0
		p.refuser.refuse(x, internalError)
	}
	p.observer.observe(x)
	if abort {
		// A response that has begun must not look complete.
		panic(http.ErrAbortHandler)
	}
}

func isAbort(panicked any) bool {
	err, _ := panicked.(error)
	return errors.Is(err, http.ErrAbortHandler)
}

// level is where a request's line stands. What would have been refused is told like
// what was.
func (x *exchange) level() slog.Level {
	if x.reported != "" {
		return max(x.decision.level, slog.LevelInfo)
	}
	return x.decision.level
}

// observe counts, logs, audits and traces a request that is over.
func (o *observer) observe(x *exchange) {
	o.metrics.count(x)
	logged := o.logger.Enabled(x.ctx, x.level())
	if logged || o.audit != nil {
		d, ref := describe(x), ""
		if x.token != "" {
			ref = o.tokenRef(x.token)
		}
		if logged {
			o.log(x, d, ref)
		}
		if o.audit != nil {
			o.audit(o.record(x, d, ref))
		}
	}
	o.tracer.end(x)
}
