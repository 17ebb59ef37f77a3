package smart

import (
	"errors"
	"net/url"
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
	case slices.ContainsFunc(strings.Split(path, "/"), neverReceived):
		return pathRule{}, errors.New("must not have dot segments, parameters, spaces, encoded separators or an asterisk beside anything else in a segment: no such path is received")
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

// neverReceived holds for a segment that no request has: the proxy refuses it, or it
// would be another part of the target.
func neverReceived(segment string) bool {
	decoded, err := url.PathUnescape(segment)
	return err != nil || decoded == "." || decoded == ".." || strings.ContainsAny(decoded, "/\\\x00") ||
		strings.ContainsAny(segment, ";?# ") || segment != "*" && strings.Contains(segment, "*")
}

// matches compares the raw path, byte by byte. An asterisk doesn't stand for an
// operation: one that isn't listed must not be permitted by accident. Nor does it for
// what some server reads as another path, or as one that FHIR knows.
func (p *pathRule) matches(method, path string) bool {
	if method == "HEAD" {
		method = "GET"
	}
	path = strings.TrimSuffix(path, "/")
	if method != p.method || !p.covers(path) {
		return false
	}
	return !slices.Contains(p.segments, "*") || !(fhir.MayClimb(path) || isKnown(method, path))
}

// covers compares segment by segment.
func (p *pathRule) covers(path string) bool {
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
	return !slices.ContainsFunc(strings.Split(path, "/"), isDollar)
}

// isKnown reports whether FHIR knows a path once it is decoded, as servers do.
func isKnown(method, path string) bool {
	decoded, err := url.PathUnescape(path)
	interaction, _ := fhir.ParseInteraction(method, decoded)
	return err != nil || interaction != fhir.Unknown
}

func isDollar(segment string) bool {
	return strings.HasPrefix(segment, "$") || strings.HasPrefix(segment, "%24")
}
