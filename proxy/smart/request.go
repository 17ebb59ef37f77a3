package smart

import (
	"net/http"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// Request is what of a request counts.
type Request struct {
	Method string
	// Path is below the FHIR base, as received, without leading slash.
	Path string
	// Query is as received.
	Query string
	// Condition holds the values of If-None-Exist, nil without the field.
	Condition []string
}

// needs tells what an interaction needs (SMART App Launch 2.2, "Scopes for
// requesting FHIR resources"). The reason is empty, or tells why no scope could
// permit it.
//
// A condition needs search as well, since its outcome tells whether something
// matches.
func (r *Rules) needs(q *Request) (n needs, why Reason) {
	interaction, resourceType := fhir.ParseInteraction(q.Method, q.Path)
	base := need{resourceType: resourceType}
	if resourceType == "" {
		base.resourceType = EveryType
	}
	switch interaction {
	case fhir.Read, fhir.Vread, fhir.HistoryInstance:
		base.permission = Read
	case fhir.Create:
		base.permission = Create | search(q.Condition != nil)
	case fhir.Update, fhir.Patch:
		base.permission = Update | search(conditional(q.Path))
	case fhir.Delete:
		base.permission = Delete | search(conditional(q.Path))
	case fhir.SearchType:
		base.permission, base.searched = Search, q.Method != http.MethodPost
	case fhir.HistoryType, fhir.HistorySystem:
		base.permission = Search
	case fhir.SearchSystem:
		return r.systemSearch(q), ""
	case fhir.Capabilities:
		return needs{}, ""
	case fhir.Transaction:
		// Each entry is a request of its own. Bodies are not read here, so a
		// bundle needs what any entry could need.
		base.permission = All
	case fhir.Operation:
		return r.operation(q, base.resourceType)
	default:
		return r.path(q)
	}
	return r.named(n.append(base), q, base.resourceType), ""
}

func search(conditional bool) Permission {
	if conditional {
		return Search
	}
	return 0
}

// conditional holds for an update, patch or delete that names no id.
func conditional(path string) bool {
	return !strings.Contains(strings.TrimSuffix(path, "/"), "/")
}

// systemSearch needs search on the types of _type, and on every type without it. The
// body of a POST could name more types. A page of an earlier search names none, and
// its id is a secret of whoever made that.
func (r *Rules) systemSearch(q *Request) needs {
	var n needs
	types := []string{EveryType}
	switch limited, ok := limitedTo(q.Query); {
	case q.Method == http.MethodPost:
	case fhir.IsPage(q.Query):
		n = n.append(need{resourceType: SomeType, permission: Search, searched: true})
		return r.named(n, q, EveryType)
	case ok:
		types = limited
	}
	for _, resourceType := range types {
		n = n.add(resourceType, Search)
		if last := n.at(n.len() - 1); last.resourceType == resourceType {
			last.searched = q.Method != http.MethodPost
		}
	}
	return r.named(n, q, types...)
}

// limitedTo returns the types that _type limits a query to. Whatever a server might
// read in another way limits nothing.
func limitedTo(query string) (types []string, ok bool) {
	if fhir.IsSplitElsewhere(query) {
		return nil, false
	}
	for rest := query; rest != ""; {
		var p fhir.Parameter
		p, rest = fhir.CutParameter(rest)
		// The last one brings other types into an export, such as Provenance (Bulk Data
		// Access 2.0).
		if p.NameUnclear || p.Name == "_getpages" || isNearly(p.Name, "includeAssociatedData") {
			return nil, false
		}
		if p.Name != "_type" {
			if isNearly(p.Name, "_type") { // where names have no case it may be the one that counts
				return nil, false
			}
			continue
		}
		for name := range strings.SplitSeq(p.Value, ",") {
			if p.ValueUnclear || !fhir.IsType(name) {
				return nil, false
			}
			types = append(types, name)
		}
	}
	return types, len(types) > 0
}

// isNearly reports whether some server may read a parameter's name as another one.
func isNearly(name, other string) bool {
	name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
	return strings.EqualFold(strings.TrimSpace(name), other)
}

func (r *Rules) operation(q *Request, resourceType string) (n needs, why Reason) {
	name, _ := fhir.OperationName(q.Path)
	listed, ok := r.operations[name]
	if !ok {
		return n, Operation
	}
	types, limited := limitedTo(q.Query)
	if name == "export" && limited && q.Method != http.MethodPost {
		for _, resourceType := range types {
			n = n.add(resourceType, Read|Search)
		}
		return r.named(n, q, types...), ""
	}
	for _, l := range listed {
		n = n.append(l.at(resourceType))
	}
	return r.named(n, q, resourceType), ""
}

func (r *Rules) path(q *Request) (n needs, why Reason) {
	if name, ok := fhir.OperationName(q.Path); ok && name == pollStatus && q.Method == http.MethodDelete {
		// It gives the export up.
		for _, l := range r.operations[pollStatus] {
			n = n.append(l.at(SomeType))
		}
		return n, ""
	}
	for i := range r.paths {
		if r.paths[i].matches(q.Method, q.Path) {
			return n.append(r.paths[i].need), ""
		}
	}
	return n, Interaction
}

// at takes the placeholders of the table of operations for what they mean on a path
// of that type.
func (n need) at(resourceType string) need {
	switch n.resourceType {
	case "":
		n.resourceType = resourceType
	case someType:
		n.resourceType = SomeType
	}
	return n
}
