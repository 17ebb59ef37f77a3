package proxy

import (
	"log/slog"
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

// observe counts, logs, audits and traces a request that is over.
func (o *observer) observe(x *exchange) {
	o.metrics.count(x)
	logged := o.logger.Enabled(x.ctx, x.level())
	if logged || o.audit != nil {
		o.write(x, logged)
	}
	o.tracer.end(x)
}

// write writes the lines of a request.
func (o *observer) write(x *exchange, logged bool) {
	d, ref := describe(x), ""
	if x.token != "" {
		ref = o.tokenRef(x.token)
	}
	if logged {
		logRequest(o.logger, x, d, ref)
	}
	if o.audit != nil {
		record := auditRecord(x, d, ref, o.auditQuery)
		record.Time = o.now().UTC()
		o.audit(record)
	}
}
