package app

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/sink"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// auditTo returns what takes the records of requests.
func auditTo(log *sink.AuditLog, s *config.Config) func(proxy.AuditRecord) {
	return func(record proxy.AuditRecord) {
		if s.AuditFormat != "json" && record.Type == "AuditEvent" && record.Interaction == string(fhir.Create) && record.Decision == "allowed" {
			return // or an event that is posted through here would make the next one, for ever
		}
		log.Add(record)
	}
}

// auditEncoder returns what writes records as FHIR AuditEvents, or nil for the log's
// own form.
func auditEncoder(s *config.Config) func(sequence uint64, record any) ([]byte, error) {
	shape := fhir.BALP
	switch s.AuditFormat {
	case "fhir-balp":
	case "fhir-kt2":
		shape = fhir.KT2
	default:
		return nil
	}
	host, _ := os.Hostname() // in a pod: its name
	encoder := &fhir.AuditEncoder{
		Shape: shape, Host: host, Start: time.Now(), Site: s.PublicHost(), Base: s.PublicBase(), Observer: s.AuditObserver,
	}
	if encoder.Site == "" {
		encoder.Site = host
	}
	return func(sequence uint64, record any) ([]byte, error) {
		r, _ := record.(proxy.AuditRecord)
		e := *encoder
		e.Base = strings.Replace(e.Base, "{tenant}", r.Tenant, 1)
		return e.Encode(auditEvent(sequence, &r))
	}
}

// auditEvent says the same in the words of FHIR.
func auditEvent(sequence uint64, r *proxy.AuditRecord) *fhir.AuditEvent {
	e := &fhir.AuditEvent{
		Sequence: sequence, Recorded: r.Time, Outcome: outcomeOf(r),
		Interaction: fhir.Interaction(r.Interaction), Type: r.Type, Resource: r.Resource, Query: r.Query,
		Purge:    r.Decision == "cache_purge",
		ClientID: r.ClientID, Issuer: r.Issuer, Subject: r.Subject, User: r.User, Patient: r.Patient,
		TokenID: r.TokenID, TokenRef: r.TokenRef, Address: r.Peer, Verdict: r.Verdict,
		RequestID: r.RequestID, CorrelationID: r.CorrelationID, TraceID: r.TraceID,
	}
	if r.ClientAddress != "" {
		e.Address = r.ClientAddress
	}
	if e.Outcome != "0" {
		e.Description = r.Decision
		if r.Reason != "" {
			e.Description += ": " + r.Reason
		}
		if r.Decision == "allowed" || r.Decision == "public" || r.Decision == "preflight" {
			e.Description = "status " + strconv.Itoa(r.Status)
		}
	}
	return e
}

// outcomeOf returns a code of audit-event-outcome: 0 success, 4 minor failure, which
// a denial is too, 8 serious failure, 12 major failure.
func outcomeOf(r *proxy.AuditRecord) string {
	switch r.Decision {
	case "introspection_unavailable", "credential_rejected", "upstream_error":
		return "8"
	case "internal_error":
		return "12"
	case "allowed", "public", "preflight", "cache_purge":
		if r.Status < 400 {
			return "0"
		}
		if r.Status >= 500 {
			return "8"
		}
	}
	return "4"
}
