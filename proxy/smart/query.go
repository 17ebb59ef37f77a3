package smart

import (
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// named appends what the types need that stand in the query and in the condition
// beside those that are asked for: a server returns what _include and _revinclude
// name, and tells by the size of a result what _has and chains look into.
func (r *Rules) named(n needs, q *Request, types ...string) needs {
	if q.Query != "" {
		n = r.scan(n, q.Query, types)
	}
	for _, condition := range q.Condition {
		if _, query, ok := strings.Cut(condition, "?"); ok {
			condition = query
		}
		n = r.scan(n, condition, types)
	}
	return n
}

func (r *Rules) scan(n needs, query string, types []string) needs {
	for rest := query; rest != ""; {
		var p fhir.Parameter
		p, rest = fhir.CutParameter(rest)
		n = r.parameter(n, p, types)
	}
	if strings.Contains(query, ";") { // which old servers read as an ampersand
		for rest := strings.ReplaceAll(query, ";", "&"); rest != ""; {
			var p fhir.Parameter
			p, rest = fhir.CutParameter(rest)
			n = r.parameter(n, p, types)
		}
	}
	return n
}

// parameter reads names in whatever case and with spaces around them, as some
// server does: what is named too often is only asked for.
func (r *Rules) parameter(n needs, p fhir.Parameter, types []string) needs {
	if p.NameUnclear {
		return n.search()
	}
	name := strings.TrimSpace(p.Name)
	special, rest, _ := strings.Cut(name, ":")
	switch {
	case strings.EqualFold(special, "_include"):
		return r.includes(n, p, false)
	case strings.EqualFold(special, "_revinclude"):
		return r.includes(n, p, true)
	case strings.EqualFold(special, "_has"):
		return r.has(n, rest)
	case strings.EqualFold(special, "_filter"), strings.EqualFold(special, "_query"):
		return n.search() // a language of its own
	case strings.EqualFold(special, "_cascade"):
		return n.ask(EveryType, Delete, false) // HAPI FHIR deletes what refers to it as well
	case strings.EqualFold(special, "_sort"):
		return r.sort(n, p.Value, types)
	case strings.EqualFold(special, "_typeFilter"):
		return r.typeFilter(n, p.Value)
	}
	return r.chain(n, types, name)
}

// sort reads the keys of _sort, which can be chains.
func (r *Rules) sort(n needs, value string, types []string) needs {
	for key := range strings.SplitSeq(value, ",") {
		n = r.chain(n, types, strings.TrimPrefix(strings.TrimSpace(key), "-"))
	}
	return n
}

// includes reads Source:parameter[:Target], of which the source brings itself with
// _revinclude, and the targets with _include.
func (r *Rules) includes(n needs, p fhir.Parameter, reverse bool) needs {
	if p.ValueUnclear {
		return n.search()
	}
	for item := range strings.SplitSeq(p.Value, ",") {
		source, rest, _ := strings.Cut(strings.TrimSpace(item), ":")
		parameter, target, typed := strings.Cut(rest, ":")
		if reverse {
			n = n.search(source) // * and what is no type: every type
		} else {
			n = n.add(source, Search)
		}
		switch {
		case typed && reverse:
			n = n.add(target, Search)
		case typed:
			n = n.search(target)
		case !reverse:
			n = n.search(r.references[source+"."+parameter]...)
		}
	}
	return n
}

// has reads _has:Type:parameter:name, of which the name may be another _has or a
// chain.
func (r *Rules) has(n needs, rest string) needs {
	for {
		resourceType, tail, _ := strings.Cut(rest, ":")
		_, name, ok := strings.Cut(tail, ":")
		n = n.search(resourceType)
		if !ok {
			return n.search()
		}
		if rest, ok = strings.CutPrefix(name, "_has:"); !ok {
			return r.chain(n, []string{resourceType}, name)
		}
	}
}

// chain reads parameter[:Type].parameter… and needs search on each type that it
// passes through. Where no type stands it is every one that the parameter can
// point to.
func (r *Rules) chain(n needs, types []string, name string) needs {
	for {
		link, rest, chained := strings.Cut(name, ".")
		if !chained {
			return n
		}
		parameter, target, typed := strings.Cut(link, ":")
		if typed {
			types = []string{target}
		} else if types = r.targets(types, parameter); types == nil {
			return n.search()
		}
		n = n.search(types...)
		if reverse, ok := strings.CutPrefix(rest, "_has:"); ok {
			return r.has(n, reverse)
		}
		name = rest
	}
}

// targets returns what a parameter of some types can point to, nil for anything.
func (r *Rules) targets(types []string, parameter string) []string {
	var all []string
	for _, resourceType := range types {
		targets := r.references[resourceType+"."+parameter]
		if targets == nil || targets[0] == EveryType {
			return nil
		}
		all = append(all, targets...)
	}
	return all
}

// typeFilter reads the searches that narrow an export: Type?query, comma separated,
// with commas in them too.
func (r *Rules) typeFilter(n needs, value string) needs {
	resourceType := EveryType
	for piece := range strings.SplitSeq(value, ",") {
		if name, query, ok := strings.Cut(piece, "?"); ok {
			resourceType, piece = name, query
			n = n.add(resourceType, Read|Search)
		}
		n = r.scan(n, piece, []string{resourceType})
	}
	return n
}
