package app

import (
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// protocolErrors tells of what is refused before there is a request to decide about.
type protocolErrors struct {
	byReason map[wire.Reason]prometheus.Counter
	audit    func(proxy.AuditRecord) // nil: off
}

func newProtocolErrors(registerer prometheus.Registerer) *protocolErrors {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "introspection_sidecar_protocol_errors_total",
		Help: "Connections refused before there was a request, by what was wrong with the bytes.",
	}, []string{"reason"})
	e := &protocolErrors{byReason: map[wire.Reason]prometheus.Counter{}}
	for _, reason := range wire.Reasons() {
		e.byReason[reason] = total.WithLabelValues(string(reason))
	}
	registerer.MustRegister(total)
	return e
}

// report counts one, and records who sent it when something was sent.
func (e *protocolErrors) report(reason wire.Reason, status int, peer string) {
	e.byReason[reason].Inc()
	if e.audit == nil || status == 0 {
		return
	}
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		return
	}
	e.audit(proxy.AuditRecord{
		Time: time.Now().UTC(), Decision: "invalid_request", Reason: string(reason), Status: status,
		Method: "other", Interaction: "unknown", Peer: host,
	})
}
