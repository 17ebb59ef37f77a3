package guard

import (
	_ "embed" // compartment.txt
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// Verdict is where a request leads.
type Verdict string

// The verdicts. They are labels of a metric.
const (
	// Inside: to resources of the patient only.
	Inside Verdict = "inside"
	// Outside: to another patient.
	Outside Verdict = "outside"
	// Unknown: the URL doesn't tell.
	Unknown Verdict = "unknown"
	// Neutral: to what belongs to no patient, such as Practitioner or ValueSet.
	Neutral Verdict = "neutral"
)

// Verdicts lists all of them.
func Verdicts() []Verdict { return []Verdict{Inside, Outside, Unknown, Neutral} }

// Guard judges requests. It is read-only once made.
type Guard struct {
	// members holds every type of R4, and the parameters by which its resources
	// belong to a patient.
	members map[string][]string
}

//go:embed compartment.txt
var compartment string

// New returns a Guard. types adds to the compartment: "Task:patient". The error says
// what an entry must be, without repeating it.
func New(types []string) (*Guard, error) {
	g := &Guard{members: make(map[string][]string)}
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

// Request is what of a request counts.
type Request struct {
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
func (g *Guard) Judge(q *Request) Verdict {
	path := strings.TrimSuffix(q.Path, "/")
	if strings.Contains(path, "%") {
		// Servers decode once, and so must whoever looks for a patient's id.
		decoded, err := url.PathUnescape(path)
		if err != nil {
			return Unknown
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
		return Outside
	case c.escapes || !addresses(interaction, path):
		return Unknown
	case g.isNeutral(resourceType):
		return Neutral
	case c.inside && answersSearch(q.Method, interaction, path):
		return Inside
	}
	return Unknown
}

// special judges what depends on no criteria, and returns "" for all else.
func special(q *Request, path string, interaction fhir.Interaction, resourceType string) Verdict {
	switch interaction {
	case fhir.Capabilities:
		return Neutral
	case fhir.SearchSystem:
		if q.Method != http.MethodPost && fhir.IsPage(q.Query) {
			return Neutral // the id is a secret of whoever made the first search
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
func (g *Guard) isNeutral(resourceType string) bool {
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
func (g *Guard) instance(q *Request, id string, interaction fhir.Interaction, resourceType string) Verdict {
	if q.Patient == "" {
		return Unknown
	}
	if id != q.Patient {
		return Outside
	}
	c := g.criteria(q, resourceType)
	switch {
	case c.outside:
		return Outside
	case c.escapes:
		return Unknown
	}
	switch interaction {
	case fhir.Read, fhir.Vread, fhir.HistoryInstance, fhir.Update, fhir.Patch, fhir.Delete:
		return Inside
	case fhir.SearchType: // the compartment
		if q.Method != http.MethodPost && (resourceType == "" || len(g.members[resourceType]) > 0) {
			return Inside
		}
	}
	// $everything is the patient's record and what that refers to: HAPI FHIR brings
	// linked patients with it.
	return Unknown
}

// operation judges the operations of which something is known, and returns "" for
// all others.
func operation(path, resourceType string) Verdict {
	name, _ := fhir.OperationName(path)
	switch {
	case name == "export" && resourceType == "Group":
		return Outside // it is about the patients of a group
	case slices.Contains([]string{"expand", "lookup", "validate-code", "translate", "subsumes"}, name) &&
		slices.Contains([]string{"ValueSet", "CodeSystem", "ConceptMap"}, resourceType):
		return Neutral
	}
	return ""
}
