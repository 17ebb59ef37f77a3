package proxy

import (
	"net/http"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// AuditRecord says who did what, when, and what came of it: one per request,
// refused ones included. It is the only place where identifiers of persons
// leave the process other than as headers to the FHIR server. It never holds a
// token, a search value or anything of a body.
type AuditRecord struct {
	Time     time.Time `json:"time"`
	Decision string    `json:"decision"`
	Status   int       `json:"status"`

	// What was asked for: interaction and type, not which resource.
	Method      string `json:"method"`
	Interaction string `json:"interaction"`
	Type        string `json:"type,omitempty"`

	// Who asked, as the authorization server says. Empty without a verdict.
	ClientID string `json:"client_id,omitempty"`
	Subject  string `json:"sub,omitempty"`
	Issuer   string `json:"iss,omitempty"`
	User     string `json:"user,omitempty"`
	Patient  string `json:"patient,omitempty"`
	TokenRef string `json:"token_ref,omitempty"`
	Peer     string `json:"peer,omitempty"`

	// Where the verdict came from, and how old it was in seconds.
	Verdict    string  `json:"verdict,omitempty"`
	VerdictAge float64 `json:"verdict_age,omitempty"`

	RequestID     string `json:"request_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	TraceID       string `json:"trace_id,omitempty"`
}

func (p *Proxy) audit(x *exchange, r *http.Request) {
	if p.config.Audit == nil {
		return
	}
	method, interaction, resourceType := x.describe(r)
	record := AuditRecord{
		Time:        p.config.Now().UTC(),
		Decision:    decisionLabels[x.decision],
		Status:      x.status,
		Method:      method,
		Interaction: string(interaction),
		Type:        resourceType,
		Peer:        x.peer,
		Verdict:     x.found.Lookup,
		VerdictAge:  x.found.Age.Seconds(),
		RequestID:   x.requestID, CorrelationID: x.correlationID, TraceID: x.asked.TraceID,
	}
	if x.token != "" {
		record.TokenRef = p.config.TokenRef(x.token)
	}
	// A token that is active and refused all the same says who tried.
	if response := x.verdict; response != nil {
		record.ClientID = response.Text(introspection.ClientID)
		record.Subject = response.Text(introspection.Subject)
		record.Issuer = response.Text(introspection.Issuer)
		record.User = response.Text(introspection.User)
		record.Patient = response.Text(introspection.Patient)
	}
	p.config.Audit(record)
}

// describe names what a request asks for in words of our own. Methods that
// don't exist and paths that were refused could be anything.
func (x *exchange) describe(r *http.Request) (method string, interaction fhir.Interaction, resourceType string) {
	switch {
	case r.Method == http.MethodTrace || r.Method == http.MethodConnect || r.Method == http.MethodOptions && unknownMethod(x, r):
		return r.Method, fhir.Unknown, ""
	case unknownMethod(x, r):
		return "other", fhir.Unknown, ""
	case x.decision == badPath || x.decision == notFound:
		return r.Method, fhir.Unknown, ""
	}
	interaction, resourceType = fhir.ParseInteraction(r.Method, x.path)
	return r.Method, interaction, resourceType
}
