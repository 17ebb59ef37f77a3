package proxy

import (
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// AuditRecord says who did what, when, and what came of it: one per request,
// refused ones included. It is the only place where identifiers of persons
// leave the process other than as headers to the FHIR server. It never holds a
// token or anything of a body, and a search value only where that is asked for.
type AuditRecord struct {
	// Time is when the request was over.
	Time time.Time `json:"time"`
	// Decision and Reason are what the metrics call them. Reason is empty unless
	// the token was refused.
	Decision string `json:"decision"`
	Reason   string `json:"reason,omitempty"`
	// Status is that of the response.
	Status int `json:"status"`

	// Reported is why the request would have been refused, were scopes or the patient
	// guard enforced. Guard is where the guard says that it leads.
	Reported string `json:"reported,omitempty"`
	Guard    string `json:"guard,omitempty"`

	// What was asked for. Resource is Type/id, with _history/version when the path, or
	// the Location of what was created, has one. Tenant is the path's.
	Method      string `json:"method"`
	Interaction string `json:"interaction"`
	Type        string `json:"type,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Operation   string `json:"operation,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Query       string `json:"query,omitempty"`

	// Who asked, as the authorization server says. Empty without a verdict.
	ClientID string `json:"client_id,omitempty"`
	Subject  string `json:"sub,omitempty"`
	Issuer   string `json:"iss,omitempty"`
	User     string `json:"user,omitempty"`
	Patient  string `json:"patient,omitempty"`
	TokenID  string `json:"jti,omitempty"`
	TokenRef string `json:"token_ref,omitempty"`
	// Peer is the other end of the connection. ClientAddress is who trusted proxies say
	// sent the request, where they say so.
	Peer          string `json:"peer,omitempty"`
	ClientAddress string `json:"client_address,omitempty"`

	// Where the verdict came from, and how old it was in seconds.
	Verdict    string  `json:"verdict,omitempty"`
	VerdictAge float64 `json:"verdict_age,omitempty"`

	RequestID     string `json:"request_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	TraceID       string `json:"trace_id,omitempty"`
}

// auditRecord makes the record of a request, but for its time.
func auditRecord(x *exchange, d description, tokenRef string, withQuery bool) AuditRecord {
	record := AuditRecord{
		Decision:    x.decision.label,
		Reason:      string(x.reason),
		Reported:    string(x.reported),
		Guard:       string(x.guarded),
		Status:      x.status,
		Method:      d.method,
		Interaction: string(d.interaction),
		Type:        d.resourceType,
		Resource:    d.resource,
		Operation:   d.operation,
		Tenant:      x.tenant,
		TokenRef:    tokenRef,
		Peer:        x.peer,
		Verdict:     x.verdict.Lookup,
		VerdictAge:  x.verdict.Age.Seconds(),
		RequestID:   x.requestID, CorrelationID: x.correlationID, TraceID: x.traceID,
	}
	// A token that is active and refused all the same says who tried.
	if response := x.verdict.Response; response != nil {
		record.ClientID = response.Text(introspection.ClientID)
		record.Subject = response.Text(introspection.Subject)
		record.Issuer = response.Text(introspection.Issuer)
		record.User = response.Text(introspection.User)
		record.Patient = response.Text(introspection.Patient)
		record.TokenID = response.Text(introspection.TokenID)
		if withQuery && !hasQueryToken(x.target.query) {
			record.Query = x.target.query
		}
	}
	if x.client != x.peer {
		record.ClientAddress = x.client
	}
	return record
}
