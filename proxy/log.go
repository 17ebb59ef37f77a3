package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// logRequest writes the request's one line. No token, query, header value or claim
// stands in it; the ids were checked to be harmless. A field without a value is
// left out.
func logRequest(logger *slog.Logger, x *exchange, d description, tokenRef string) {
	attrs := make([]slog.Attr, 0, 16)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("decision", x.decision.label)
	add("reason", string(x.reason))
	add("reported", string(x.reported))
	add("guard", string(x.guarded))
	add("method", d.method)
	add("interaction", string(d.interaction))
	attrs = append(attrs,
		slog.Int("status", x.status),
		slog.Float64("duration_ms", float64(time.Since(x.began).Microseconds())/1000))
	add("request_id", x.requestID)
	add("correlation_id", x.correlationID)
	add("trace_id", x.traceID)
	add("cache", x.verdict.Lookup)
	add("token_ref", tokenRef)
	add("peer", x.peer)
	if x.failure != nil && x.decision.level >= slog.LevelWarn {
		add("error", failureText(x.decision, x.failure))
	}
	logger.LogAttrs(context.WithoutCancel(x.ctx), x.level(), "request", attrs...)
}

// failureText tells an operator why there was no verdict or no response. Errors
// of net/http quote what the other side sent, which may be patient data, so
// that only known kinds of them are told.
func failureText(d *decision, err error) string {
	var (
		failure *introspection.Failure
		network *net.OpError
		errno   syscall.Errno
		timeout net.Error
	)
	switch {
	case errors.As(err, &failure):
		return failure.Error()
	case d == refuseUnavailable || d == refuseCredential:
		return "no verdict"
	case errors.Is(err, errSwitch), errors.Is(err, errBroken), errors.Is(err, errStatus), errors.Is(err, errLoop):
		return err.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "FHIR server timed out"
	case errors.As(err, &network) && errors.As(err, &errno):
		return "FHIR server: " + network.Op + ": " + errno.Error()
	case errors.As(err, &network) && network.Op == "dial":
		return "FHIR server: dial failed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "FHIR server closed the connection"
	default:
		return "malformed response from the FHIR server"
	}
}
