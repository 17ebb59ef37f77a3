package smart

import (
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// Token is what of a token counts.
type Token struct {
	// Scopes is the scope claim, space separated.
	Scopes string
	// Patient is the patient of the launch context, a bare id, or "".
	Patient string
	// User is the token's own fhirUser, relative to this FHIR server
	// (Practitioner/5), or "" when it is unknown or of another server.
	User string
}

// Reason is why a request isn't permitted.
type Reason string

// The reasons.
const (
	// Interaction: no scope of the token permits it, or FHIR doesn't know it.
	Interaction Reason = "interaction"
	// Operation: it is an operation that isn't listed.
	Operation Reason = "operation"
	// PatientContext: scopes in the patient context would, but there is no patient.
	PatientContext Reason = "patient_context"
	// OtherPatient: they would, but the path names another patient.
	OtherPatient Reason = "patient"
)

// Decision is whether a request is permitted.
type Decision struct {
	// Reason is empty when it is.
	Reason Reason
	// Scopes are those that would permit it and that the token hasn't, space
	// separated. Without any, nothing would.
	Scopes string
}

// Judge holds a token's scopes against a request.
//
// Scopes in the patient context count only with a patient, and only for a request
// whose path names no other one.
func (r *Rules) Judge(q *Request, t *Token) Decision {
	all, reason := r.needs(q)
	if reason != "" {
		return Decision{Reason: reason}
	}
	own := isOwn(q, t)
	patient := patientOf(q.Path)
	withPatient := t.Patient != "" && (patient == "" || patient == t.Patient)
	from := 0
	if own {
		from = 1 // but not what the query names beside it
	}
	for i := from; i < all.len(); i++ {
		if !r.grants(q, t.Scopes, all.at(i), withPatient) {
			return r.deny(q, t, all.from(i), withPatient)
		}
	}
	return Decision{}
}

func (r *Rules) grants(q *Request, scopes string, n *need, withPatient bool) bool {
	return n.permission&^r.granted(q, scopes, n, withPatient) == 0
}

// granted is what the scopes permit of a need.
func (r *Rules) granted(q *Request, scopes string, n *need, withPatient bool) Permission {
	if !r.strict {
		return Granted(scopes, n.resourceType, withPatient)
	}
	return r.strictly(q, scopes, n, withPatient)
}

// isOwn holds for reading the token's own fhirUser, which the scope of that name
// permits (SMART App Launch 2.2, "Scopes for requesting identity data").
func isOwn(q *Request, t *Token) bool {
	if t.User == "" || strings.TrimSuffix(q.Path, "/") != t.User {
		return false
	}
	interaction, _ := fhir.ParseInteraction(q.Method, q.Path)
	return interaction == fhir.Read && has(t.Scopes, "openid") && has(t.Scopes, "fhirUser")
}

func has(scopes, wanted string) bool {
	for scope := range strings.SplitSeq(scopes, " ") {
		if scope == wanted {
			return true
		}
	}
	return false
}

// patientOf returns the id in Patient/[id] and below it.
func patientOf(path string) string {
	rest, ok := strings.CutPrefix(path, "Patient/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	if isDollar(id) || strings.HasPrefix(id, "_") {
		return "" // an operation, _history or _search
	}
	return id
}

// deny tells why, and which scopes would help: those for what isn't granted, in the
// context in which the token already has some.
func (r *Rules) deny(q *Request, t *Token, missing []need, withPatient bool) Decision {
	d := Decision{Reason: Interaction}
	context := ContextOf(t.Scopes)
	if !withPatient {
		context = otherContext(t.Scopes)
		if r.grantsAll(q, t.Scopes, missing) {
			d.Reason = PatientContext
			if t.Patient != "" {
				d.Reason = OtherPatient
			}
		}
	}
	var b strings.Builder
	for i := range missing {
		n := &missing[i]
		if r.grants(q, t.Scopes, n, withPatient) || r.lacks(q, t.Scopes, missing[:i], n, withPatient) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		resourceType := n.resourceType
		if resourceType == SomeType {
			resourceType = EveryType
		}
		b.WriteString(string(context) + "/" + resourceType + "." + n.permission.String())
	}
	d.Scopes = b.String()
	return d
}

// lacks reports whether the scope for n is named for an earlier need: the same type may
// be needed for what is selected and for what comes with that.
func (r *Rules) lacks(q *Request, scopes string, earlier []need, n *need, withPatient bool) bool {
	for i := range earlier {
		e := &earlier[i]
		if e.resourceType == n.resourceType && e.permission == n.permission && !r.grants(q, scopes, e, withPatient) {
			return true
		}
	}
	return false
}

func (r *Rules) grantsAll(q *Request, scopes string, all []need) bool {
	for i := range all {
		if !r.grants(q, scopes, &all[i], true) {
			return false
		}
	}
	return true
}

// otherContext returns the context of the first resource scope outside the patient
// context, and User when there is none.
func otherContext(scopes string) Context {
	for text := range strings.SplitSeq(scopes, " ") {
		if s := parse(text); s.permission != 0 && s.context != Patient {
			return s.context
		}
	}
	return User
}

// PatientOnly reports whether a token is limited to one patient: it has scopes in
// the patient context and no other resource scope.
func PatientOnly(scopes string) bool {
	limited := false
	for text := range strings.SplitSeq(scopes, " ") {
		if strings.HasPrefix(text, string(Patient)+"/") {
			limited = true // whatever it permits, it was meant for one patient
		} else if parse(text).permission != 0 {
			return false
		}
	}
	return limited
}

// HasPatient reports whether a token has a scope in the patient context.
func HasPatient(scopes string) bool {
	for text := range strings.SplitSeq(scopes, " ") {
		if strings.HasPrefix(text, string(Patient)+"/") {
			return true
		}
	}
	return false
}

// OwnUser returns fhirUser relative to the FHIR server, if it is a resource there:
// it is relative already, or begins with one of the server's bases.
func OwnUser(fhirUser string, bases ...string) string {
	for _, base := range bases {
		if rest, ok := strings.CutPrefix(fhirUser, base); ok && base != "" {
			if rest, ok = strings.CutPrefix(rest, "/"); ok {
				fhirUser = rest
				break
			}
		}
	}
	if interaction, _ := fhir.ParseInteraction("GET", fhirUser); interaction != fhir.Read || strings.HasSuffix(fhirUser, "/") {
		return ""
	}
	return fhirUser
}
