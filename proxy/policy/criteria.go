package policy

import (
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// criteria is what the parameters of a query say about the patient.
type criteria struct {
	inside  bool // one of them holds every result to the patient
	outside bool // one of them names another patient
	escapes bool // what comes back may not meet them, or they can't be read
}

// criteria reads a query for a type, or for "" when it can be any.
func (g *PatientGuard) criteria(q *GuardedRequest, resourceType string) criteria {
	c := g.read(q, q.Query, resourceType)
	if strings.Contains(q.Query, ";") { // which old servers read as an ampersand
		split := g.read(q, strings.ReplaceAll(q.Query, ";", "&"), resourceType)
		c.outside = c.outside || split.outside
		c.escapes = true
	}
	if strings.Contains(q.Query, "#") { // behind which some servers see nothing
		c.outside = c.outside || g.read(q, fhir.BeforeFragment(q.Query), resourceType).outside
		c.escapes = true
	}
	return c
}

func (g *PatientGuard) read(q *GuardedRequest, query, resourceType string) (c criteria) {
	for rest := query; rest != ""; {
		var p fhir.Parameter
		p, rest = fhir.CutParameter(rest)
		switch name, modifier, _ := strings.Cut(p.Name, ":"); {
		case p.NameUnclear:
			c.escapes = true
		case resourceType == "Patient" && name == "_id":
			c.add(q, p, modifier, "", true)
		case g.belongs(resourceType, name):
			c.add(q, p, modifier, name, isOwner(name))
		case escapes(name, p.Value) || g.nearly(resourceType, name):
			c.escapes = true
		}
	}
	return c
}

// belongs reports whether resources of a type belong to a patient by a parameter.
func (g *PatientGuard) belongs(resourceType, name string) bool {
	if resourceType == "" {
		return name == "patient"
	}
	return slices.Contains(g.members[resourceType], name)
}

// nearly holds for a name that some server may read as one of the compartment's.
func (g *PatientGuard) nearly(resourceType, name string) bool {
	if g.isNeutral(resourceType) {
		return false
	}
	name = strings.TrimSpace(name)
	return strings.EqualFold(name, "patient") || strings.EqualFold(name, "_id") && name != "_id" ||
		slices.ContainsFunc(g.members[resourceType], func(member string) bool { return strings.EqualFold(name, member) })
}

// isOwner holds for the parameters that say whose a resource is. By others of the
// compartment, such as performer and author, it belongs to a patient too, but it may
// be about another one: they can prove that a request leads outside, not that it
// stays inside.
func isOwner(name string) bool {
	switch name {
	case "patient", "subject", "beneficiary", "individual", "member", "actor":
		return true
	}
	return false
}

// harmless are the parameters for all types that only narrow, sort or shorten a
// result.
var harmless = []string{
	"_id", "_count", "_sort", "_format", "_pretty", "_summary", "_elements", "_total", "_lastUpdated", "_tag",
	"_profile", "_security", "_source", "_since", "_text", "_content", "_offset", "_language", "_type", "_until",
}

// escapes holds for parameters that bring in what meets no criteria (_include,
// _revinclude, _contained), that look into other resources (_has, chains), and for
// those whose effect isn't known.
func escapes(name, value string) bool {
	if strings.Contains(name, ".") || name == "_sort" && strings.Contains(value, ".") {
		return true
	}
	trimmed := strings.TrimSpace(name)
	return strings.HasPrefix(trimmed, "_") && !slices.Contains(harmless, name)
}

// add reads one parameter that names patients.
func (c *criteria) add(q *GuardedRequest, p fhir.Parameter, modifier, name string, owner bool) {
	if p.ValueUnclear || strings.Contains(p.Value, `\`) || modifier != "" && (modifier != "Patient" || name == "") {
		c.escapes = true // :not, :missing, :identifier and their like; and _id takes no type
		return
	}
	inside := owner
	for value := range strings.SplitSeq(p.Value, ",") {
		switch compare(q, value, modifier != "" || name == "" || name == "patient") {
		case ReachOutside:
			c.outside = true
		case ReachUnknown:
			inside = false
			// An empty value makes a server ignore the parameter, or not.
			c.escapes = c.escapes || value == "" || name == "" || name == "patient"
		}
	}
	c.inside = c.inside || inside
}

// compare compares one reference with the patient. A bare id is one of a patient only
// where nothing else can stand.
func compare(q *GuardedRequest, value string, bare bool) Reach {
	if q.Patient == "" {
		return ReachUnknown
	}
	if strings.Contains(value, "://") {
		rest, ok := strings.CutPrefix(value, q.Base+"/")
		if !ok || q.Base == "" {
			return ReachUnknown
		}
		value, bare = rest, false
	}
	id, typed := strings.CutPrefix(value, "Patient/")
	if !typed && !bare {
		return ReachUnknown
	}
	switch interaction, _ := fhir.ParseInteraction("GET", "Patient/"+id); {
	case interaction != fhir.Read || strings.HasSuffix(id, "/"):
		return ReachUnknown
	case id == q.Patient:
		return ReachInside
	}
	return ReachOutside
}
