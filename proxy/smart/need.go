package smart

import (
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// need is what must be permitted on one type for a request.
type need struct {
	resourceType string // an R4 name, EveryType or SomeType
	permission   Permission
	// searched: the request's query selects what is returned of this type, so that
	// a scope with search parameters can be held against it.
	searched bool
}

// maxNeeds bounds the types that one request can name. There are 145 in R4, and
// nobody names half of them.
const maxNeeds = 64

// needs is all that a request needs. Nearly always it is one thing, for which there
// is room without an allocation.
type needs struct {
	room [2]need
	used int
	more []need
}

func (n needs) len() int { return n.used + len(n.more) }

func (n *needs) at(i int) *need {
	if i < n.used {
		return &n.room[i]
	}
	return &n.more[i-n.used]
}

func (n needs) append(one need) needs {
	if n.used < len(n.room) {
		n.room[n.used] = one
		n.used++
	} else {
		n.more = append(n.more, one)
	}
	return n
}

// from returns what is needed from the i-th on.
func (n needs) from(i int) []need {
	all := append(n.room[:n.used:n.used], n.more...)
	return all[i:]
}

// add asks for permission on one more type.
func (n needs) add(resourceType string, permission Permission) needs {
	return n.ask(resourceType, permission, true)
}

// ask is add; selected says that a need of which the query selects what is returned
// does for this one too.
func (n needs) ask(resourceType string, permission Permission, selected bool) needs {
	if n.len() >= maxNeeds || resourceType != EveryType && !fhir.IsType(resourceType) {
		resourceType = EveryType
	}
	for i := range n.len() {
		have := n.at(i)
		if (selected || !have.searched) && (have.resourceType == resourceType || have.resourceType == EveryType) && permission&^have.permission == 0 {
			return n
		}
	}
	return n.append(need{resourceType: resourceType, permission: permission})
}

// search asks for search on types that the query names beside the one that is
// searched, be it the same: what is included or looked into meets none of the query's
// criteria. No types: it could be any.
func (n needs) search(types ...string) needs {
	if len(types) == 0 {
		return n.ask(EveryType, Search, false)
	}
	for _, resourceType := range types {
		n = n.ask(resourceType, Search, false)
	}
	return n
}
