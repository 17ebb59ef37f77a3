package policy

import (
	_ "embed" // compartment.txt
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// Reach is where a request leads.
type Reach string

// Where a request can lead. They are labels of a metric.
const (
	// ReachInside: to resources of the patient only.
	ReachInside Reach = "inside"
	// ReachOutside: to another patient.
	ReachOutside Reach = "outside"
	// ReachUnknown: the URL doesn't tell.
	ReachUnknown Reach = "unknown"
	// ReachNeutral: to what belongs to no patient, such as Practitioner or ValueSet.
	ReachNeutral Reach = "neutral"
)

// Reaches lists all of them.
func Reaches() []Reach { return []Reach{ReachInside, ReachOutside, ReachUnknown, ReachNeutral} }

// PatientGuard tells from a request's method, path and query alone whether it stays
// with one patient. It reads no bodies and rewrites nothing, and is read-only once made.
//
// What belongs to a patient is what the patient compartment of FHIR R4 says: which
// types, and by which search parameters. Its table, compartment.txt, is made from the
// CompartmentDefinition by deploy/tests/definitions.
//
// A request is outside when its URL names another patient where the compartment looks
// for one, and inside only when every resource that can come back belongs to the
// patient. Everything that isn't sure is unknown: a read by id, a search without a
// patient, one that reaches beyond its criteria.
type PatientGuard struct {
	// members holds every type of R4, and the parameters by which its resources
	// belong to a patient.
	members map[string][]string
}

//go:embed compartment.txt
var compartment string

// NewPatientGuard returns a PatientGuard. types adds to the compartment: "Task:patient". The error says
// what an entry must be, without repeating it.
func NewPatientGuard(types []string) (*PatientGuard, error) {
	g := &PatientGuard{members: make(map[string][]string)}
	for line := range strings.Lines(compartment) {
		fields := strings.Fields(line)
		g.members[fields[0]] = fields[1:]
	}
	for _, entry := range types {
		resourceType, parameter, ok := strings.Cut(entry, ":")
		if !ok || !fhir.IsType(resourceType) || parameter == "" || strings.ContainsAny(parameter, ":.&=,; _") {
			return nil, errors.New("must have the form Type:parameter, such as Task:patient")
		}
		if resourceType == "Patient" {
			return nil, errors.New("must not name Patient, who belongs to nobody else")
		}
		g.members[resourceType] = append(slices.Clone(g.members[resourceType]), parameter)
	}
	return g, nil
}

// GuardedRequest is what of a request counts to a PatientGuard.
type GuardedRequest struct {
	Method string
	// Path is below the FHIR base, as received, without leading slash.
	Path string
	// Query is as received.
	Query string
	// Base is the FHIR base as clients write it, without slash at the end, or "":
	// absolute references are compared with it.
	Base string
	// Patient is the patient to stay with, a bare id.
	Patient string
}

// Judge tells where a request leads.
func (g *PatientGuard) Judge(q *GuardedRequest) Reach {
	path := strings.TrimSuffix(q.Path, "/")
	if strings.Contains(path, "%") {
		// Servers decode once, and so must whoever looks for a patient's id.
		decoded, err := url.PathUnescape(path)
		if err != nil {
			return ReachUnknown
		}
		path = decoded
	}
	interaction, resourceType := fhir.ParseInteraction(q.Method, path)
	if id := patientOf(path); id != "" {
		return g.instance(q, id, interaction, resourceType)
	}
	if v := special(q, path, interaction, resourceType); v != "" {
		return v
	}
	c := g.criteria(q, resourceType)
	switch {
	case c.outside:
		return ReachOutside
	case c.escapes || !addresses(interaction, path):
		return ReachUnknown
	case g.isNeutral(resourceType):
		return ReachNeutral
	case c.inside && answersSearch(q.Method, interaction, path):
		return ReachInside
	}
	return ReachUnknown
}

// special judges what depends on no criteria, and returns "" for all else.
func special(q *GuardedRequest, path string, interaction fhir.Interaction, resourceType string) Reach {
	switch interaction {
	case fhir.Capabilities:
		return ReachNeutral
	case fhir.SearchSystem:
		if q.Method != http.MethodPost && fhir.IsPage(q.Query) {
			return ReachNeutral // the id is a secret of whoever made the first search
		}
	case fhir.Operation:
		return operation(path, resourceType)
	}
	return ""
}

// addresses holds for requests of which the type in the path says all: no operation,
// whose effect isn't known, and no compartment of somebody else.
func addresses(interaction fhir.Interaction, path string) bool {
	switch interaction {
	case fhir.Unknown, fhir.Operation:
		return false
	case fhir.SearchType:
		return !strings.Contains(path, "/") || strings.HasSuffix(path, "/_search") && strings.Count(path, "/") == 1
	}
	return true
}

// answersSearch holds for what concerns exactly the resources that meet the criteria
// of the query: a search, and a conditional delete. A body could add to it.
func answersSearch(method string, interaction fhir.Interaction, path string) bool {
	if strings.Contains(path, "/") {
		return false
	}
	return interaction == fhir.SearchType && method != http.MethodPost || interaction == fhir.Delete
}

// isNeutral holds for types of R4 that belong to no patient. One that R4 doesn't
// know may.
func (g *PatientGuard) isNeutral(resourceType string) bool {
	parameters, known := g.members[resourceType]
	return known && len(parameters) == 0 && resourceType != "Patient"
}

// patientOf returns the id in Patient/[id] and below it.
func patientOf(path string) string {
	rest, ok := strings.CutPrefix(path, "Patient/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	if strings.HasPrefix(id, "$") || strings.HasPrefix(id, "_") {
		return "" // an operation, _history or _search
	}
	return id
}

// instance judges Patient/[id] and what is below it.
func (g *PatientGuard) instance(q *GuardedRequest, id string, interaction fhir.Interaction, resourceType string) Reach {
	if q.Patient == "" {
		return ReachUnknown
	}
	if id != q.Patient {
		return ReachOutside
	}
	c := g.criteria(q, resourceType)
	switch {
	case c.outside:
		return ReachOutside
	case c.escapes:
		return ReachUnknown
	}
	switch interaction {
	case fhir.Read, fhir.Vread, fhir.HistoryInstance, fhir.Update, fhir.Patch, fhir.Delete:
		return ReachInside
	case fhir.SearchType: // the compartment
		if q.Method != http.MethodPost && (resourceType == "" || len(g.members[resourceType]) > 0) {
			return ReachInside
		}
	}
	// $everything is the patient's record and what that refers to: HAPI FHIR brings
	// linked patients with it.
	return ReachUnknown
}

// operation judges the operations of which something is known, and returns "" for
// all others.
func operation(path, resourceType string) Reach {
	name, _ := fhir.OperationName(path)
	switch {
	case name == "export" && resourceType == "Group":
		return ReachOutside // it is about the patients of a group
	case slices.Contains([]string{"expand", "lookup", "validate-code", "translate", "subsumes"}, name) &&
		slices.Contains([]string{"ValueSet", "CodeSystem", "ConceptMap"}, resourceType):
		return ReachNeutral
	}
	return ""
}
