package policy

import (
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// Mode is how far a check goes.
type Mode uint8

// The modes.
const (
	// Off doesn't check.
	Off Mode = iota
	// Report checks and denies nothing.
	Report
	// Enforce denies what is known to be wrong.
	Enforce
	// Strict denies also what isn't known to be right.
	Strict
)

// String returns the word that settings and metrics have for the mode.
func (m Mode) String() string { return [...]string{"off", "report", "enforce", "strict"}[m] }

// Access decides whether an accepted token may make a request. The zero value permits
// everything.
type Access struct {
	// Rules say what requests need. Required unless both modes are Off.
	Rules *smart.Rules
	// Scopes is whether the token's SMART scopes must permit the request: Off, Report
	// or Enforce.
	Scopes Mode
	// Guard judges where a request of a token leads that is limited to one patient.
	// Required unless Patient is Off.
	Guard *PatientGuard
	// Patient is what its findings lead to.
	Patient Mode
	// Tenant returns the claim that must equal the tenant of the path. Nil: none must.
	Tenant func(*introspection.Response) string
	// Base is the FHIR base as the proxy reaches it, and PublicBase as clients write
	// it: whose absolute references are this server's. Both may hold {tenant}; empty
	// ones match nothing.
	Base, PublicBase string
}

// Request is what of a request counts.
type Request struct {
	// Method and Query are the request's, Path is below the base.
	Method, Path, Query string
	// Condition holds the values of If-None-Exist, nil without the field.
	Condition []string
	// Tenant is the path's, or "".
	Tenant string
}

// Outcome is what came of the checks.
type Outcome struct {
	// Denied is why the request is denied, or "".
	Denied Reason
	// Scopes would permit it; none would when it is empty.
	Scopes string
	// Reported is why it would be denied, were the checks enforced.
	Reported Reason
	// Guarded is where the request leads, "" when it wasn't asked.
	Guarded Reach
}

// deny takes a reason for a denial or a report, whichever the mode wants.
func (o *Outcome) deny(reason Reason, scopes string, mode Mode) {
	if mode == Report {
		if o.Reported == "" {
			o.Reported = reason
		}
		return
	}
	o.Denied, o.Scopes = reason, scopes
}

// Check applies all checks.
func (a *Access) Check(q *Request, r *introspection.Response) (o Outcome) {
	if a.Tenant != nil && (q.Tenant == "" || a.Tenant(r) != q.Tenant) {
		o.Denied = Tenant
		return o
	}
	if a.Scopes == Off && a.Patient == Off {
		return o
	}
	request := smart.Request{Method: q.Method, Path: q.Path, Query: q.Query, Condition: q.Condition}
	token := smart.Token{Scopes: r.Text(introspection.Scope), Patient: r.Text(introspection.Patient)}
	if user := r.Text(introspection.User); user != "" {
		token.User = smart.OwnUser(user, a.base(a.PublicBase, q), a.base(a.Base, q))
	}
	if a.Scopes != Off {
		if d := a.Rules.Judge(&request, &token); d.Reason != "" {
			o.deny(Reason(d.Reason), d.Scopes, a.Scopes)
		}
	}
	if o.Denied == "" && a.Patient != Off {
		a.guard(&o, q, &request, token)
	}
	return o
}

// guard applies to tokens with scopes in the patient context, for requests that their
// other scopes alone don't permit.
func (a *Access) guard(o *Outcome, q *Request, request *smart.Request, token smart.Token) {
	if !smart.HasPatient(token.Scopes) {
		return
	}
	patient := token.Patient
	token.Patient = ""
	beyond := a.Rules.Judge(request, &token)
	if beyond.Reason == "" {
		return
	}
	o.Guarded = a.Guard.Judge(&GuardedRequest{
		Method: q.Method, Path: q.Path, Query: q.Query, Base: a.base(a.PublicBase, q), Patient: patient,
	})
	if o.Guarded == ReachOutside || o.Guarded == ReachUnknown && a.Patient == Strict {
		o.deny(OtherPatient, beyond.Scopes, a.Patient)
	}
}

// base puts a request's tenant into a base.
func (a *Access) base(base string, q *Request) string {
	if q.Tenant == "" {
		return base
	}
	return strings.Replace(base, "{tenant}", q.Tenant, 1)
}
