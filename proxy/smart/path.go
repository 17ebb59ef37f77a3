package smart

import (
	"errors"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// pathRule says what a path outside FHIR's grammar needs.
type pathRule struct {
	method   string
	segments []string
	need     need
}

func parsePathRule(entry string) (pathRule, error) {
	left, right, _ := strings.Cut(entry, "=")
	method, path, ok := strings.Cut(left, " ")
	path = strings.Trim(path, " ")
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	switch {
	case !ok || path == "" || strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//"):
		return pathRule{}, errors.New("must have the form METHOD path=Type.letters, with the path below the base, such as GET documents/*=DocumentReference.r")
	case !slices.Contains(methods, method):
		return pathRule{}, errors.New("must begin with a method, one of " + strings.Join(methods, " "))
	}
	// What FHIR itself knows is judged by FHIR's rules, and an entry that never
	// applies would be believed to.
	if interaction, _ := fhir.ParseInteraction(method, strings.ReplaceAll(path, "*", "x")); interaction != fhir.Unknown {
		return pathRule{}, errors.New("must not name a path that FHIR knows: what that needs is known, and operations have a setting of their own")
	}
	n, err := parseNeed(right)
	if err != nil {
		return pathRule{}, err
	}
	if method == "HEAD" {
		method = "GET"
	}
	return pathRule{method, strings.Split(path, "/"), n}, nil
}

// matches compares the raw path, byte by byte. An asterisk doesn't stand for an
// operation: one that isn't listed must not be permitted by accident.
func (p *pathRule) matches(method, path string) bool {
	if method == "HEAD" {
		method = "GET"
	}
	if method != p.method {
		return false
	}
	path = strings.TrimSuffix(path, "/")
	for i, want := range p.segments {
		segment, rest, more := strings.Cut(path, "/")
		if last := i == len(p.segments)-1; last != !more && (!last || want != "*") {
			return false
		}
		if want == "*" && (segment == "" || isDollar(segment)) || want != "*" && segment != want {
			return false
		}
		path = rest
	}
	for segment := range strings.SplitSeq(path, "/") {
		if isDollar(segment) {
			return false
		}
	}
	return true
}

func isDollar(segment string) bool {
	return strings.HasPrefix(segment, "$") || strings.HasPrefix(segment, "%24")
}
