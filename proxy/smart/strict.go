package smart

import (
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// strictly is what the scopes permit of a need when a scope with search parameters
// counts only for a search that carries them: either it is narrowed by all
// parameters of one scope, to values of that scope, or each value of one parameter
// is in some scope that has that parameter alone. What a body or a stored resource
// would have to tell is not granted.
func (r *Rules) strictly(q *Request, scopes string, n *need, withPatient bool) Permission {
	var granted, constrained Permission
	for text := range strings.SplitSeq(scopes, " ") {
		s := parse(text)
		switch {
		case !s.appliesTo(n.resourceType, withPatient):
		case s.parameters == "":
			granted |= s.permission
		case n.searched && (n.resourceType == SomeType || narrows(q.Query, s.parameters)):
			granted |= s.permission & Search
		case n.searched:
			constrained |= s.permission & Search
		}
	}
	if granted&Search == 0 && constrained != 0 && narrowedTogether(q.Query, scopes, n, withPatient) {
		granted |= Search
	}
	return granted
}

// narrows reports whether a query carries every parameter of a scope.
func narrows(query, parameters string) bool {
	for pair := range strings.SplitSeq(parameters, "&") {
		name, value, ok := constraint(pair)
		if !ok || !carries(query, name, func(v string) bool { return admits(name, value, v) }) {
			return false
		}
	}
	return true
}

// narrowedTogether reports whether the query has a parameter all of whose values are
// in scopes that have this one parameter.
func narrowedTogether(query, scopes string, n *need, withPatient bool) bool {
	for rest := query; rest != ""; {
		var p fhir.Parameter
		p, rest = fhir.CutParameter(rest)
		allowed := func(v string) bool {
			for text := range strings.SplitSeq(scopes, " ") {
				s := parse(text)
				name, value, ok := constraint(s.parameters)
				if ok && name == p.Name && s.permission&Search != 0 && s.appliesTo(n.resourceType, withPatient) && admits(name, value, v) {
					return true
				}
			}
			return false
		}
		if carries(query, p.Name, allowed) {
			return true
		}
	}
	return false
}

// constraint reads one parameter of a scope, which may be percent-encoded.
func constraint(pair string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(pair, "=")
	name, nameErr := url.PathUnescape(name)
	value, valueErr := url.PathUnescape(value)
	return name, value, ok && name != "" && nameErr == nil && valueErr == nil && !strings.Contains(pair, "&")
}

// admits reports whether a scope's value holds v, one of its comma separated values.
// A modifier can turn "one of" into "none of", so behind one it must be the same.
func admits(name, value, v string) bool {
	if strings.Contains(name, ":") {
		return value == v
	}
	for one := range strings.SplitSeq(value, ",") {
		if one == v && one != "" {
			return !strings.Contains(value, `\`)
		}
	}
	return false
}

// carries reports whether the query has the parameter and nothing but allowed values
// in it, however often it is repeated. A backslash escapes commas (FHIR R4 search,
// 3.1.1.5.5), which is not worth reading here.
func carries(query, name string, allowed func(string) bool) bool {
	if fhir.IsSplitElsewhere(query) {
		return false
	}
	found := false
	for rest := query; rest != ""; {
		var p fhir.Parameter
		p, rest = fhir.CutParameter(rest)
		if p.NameUnclear {
			return false
		}
		if p.Name != name {
			continue
		}
		if found = true; p.ValueUnclear || strings.Contains(p.Value, `\`) {
			return false
		}
		if strings.Contains(name, ":") {
			if !allowed(p.Value) {
				return false
			}
			continue
		}
		for v := range strings.SplitSeq(p.Value, ",") {
			if !allowed(v) {
				return false
			}
		}
	}
	return found
}
