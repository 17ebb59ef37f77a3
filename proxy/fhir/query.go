package fhir

import (
	"net/url"
	"strings"
)

// Parameter is one name=value pair of a query, percent-decoded once, as a form.
type Parameter struct {
	Name, Value string
	// NameUnclear and ValueUnclear tell that the encoding is broken. Servers
	// disagree on what stands there, and the text is as it was received.
	NameUnclear, ValueUnclear bool
}

// CutParameter takes the first parameter off a raw query. A semicolon separates
// nothing here; to some old servers it does.
//
//	for rest := query; rest != ""; {
//		var p fhir.Parameter
//		p, rest = fhir.CutParameter(rest)
//	}
func CutParameter(query string) (p Parameter, rest string) {
	pair, rest, _ := strings.Cut(query, "&")
	return parameter(pair), rest
}

func parameter(pair string) (p Parameter) {
	name, value, _ := strings.Cut(pair, "=")
	var err error
	if p.Name, err = url.QueryUnescape(name); err != nil {
		p.Name, p.NameUnclear = name, true
	}
	if p.Value, err = url.QueryUnescape(value); err != nil {
		p.Value, p.ValueUnclear = value, true
	}
	return p
}

// IsPage reports whether a query at the base fetches the next page of an earlier
// search in HAPI FHIR's way: _getpages once, and beside it only what HAPI itself
// writes into such a link. A server that doesn't know _getpages would search
// everything, so that anything that could steer such a search makes it none.
func IsPage(query string) bool {
	if strings.Contains(query, "#") { // behind which some servers see nothing
		return false
	}
	pages := 0
	for rest := query; rest != ""; {
		var p Parameter
		p, rest = CutParameter(rest)
		switch p.Name {
		case "_getpages":
			pages++
			if !isID(p.Value) {
				return false
			}
		case "_getpagesoffset", "_count", "_pageId", "_format", "_pretty", "_bundletype",
			"_summary", "_elements", "_elements:exclude", "_include":
		default:
			return false
		}
		if p.NameUnclear || p.ValueUnclear || strings.Contains(p.Value, ";") && p.Name != "_format" {
			return false
		}
	}
	return pages == 1
}

// IsSplitElsewhere reports whether some server sees fewer or other parameters in a
// query than CutParameter: old ones read a semicolon as an ampersand, and those that
// parse the target as a URL take a number sign for the end of the query (RFC 3986 §3.5).
func IsSplitElsewhere(query string) bool { return strings.ContainsAny(query, ";#") }

// BeforeFragment returns what a server sees of a query that takes a number sign for
// its end.
func BeforeFragment(query string) string {
	query, _, _ = strings.Cut(query, "#")
	return query
}

// IsType reports whether s is written like the name of a resource type.
func IsType(s string) bool { return isType(s) }

// OperationName returns the name of the operation that a path ends in, without
// its dollar sign, which many clients encode.
func OperationName(path string) (name string, ok bool) {
	path = strings.TrimSuffix(path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	if name, ok = strings.CutPrefix(last, "$"); !ok {
		name, ok = strings.CutPrefix(last, "%24")
	}
	return name, ok
}

// MayClimb reports whether some server takes a path below a prefix for one outside it:
// one that decodes twice, or that removes an encoded parameter before it looks for dot
// segments. No wildcard may stand for such a path.
func MayClimb(path string) bool {
	return strings.Contains(path, "%25") || strings.HasPrefix(path, "..") || strings.Contains(path, "/..")
}
