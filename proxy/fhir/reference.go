package fhir

import "strings"

// Resource returns the resource that a path names, Type/id or Type/id/_history/version,
// or "" when it names none. Behind a compartment or an operation it is the one that
// they begin with.
func Resource(path string) string {
	path = strings.TrimSuffix(path, "/")
	end := len(path)
	segments := strings.Count(path, "/") + 1
	switch {
	case segments < 2:
		return ""
	case segments == 4 && strings.Contains(path, "/_history/"):
	default:
		first := strings.IndexByte(path, '/')
		if second := strings.IndexByte(path[first+1:], '/'); second >= 0 {
			end = first + 1 + second
		}
	}
	if interaction, _ := ParseInteraction("GET", path[:end]); interaction != Read && interaction != Vread {
		return ""
	}
	return path[:end]
}

// LocationResource returns the resource that a Location names, which begins with some
// FHIR base (FHIR R4 http, 3.1.0.8), or "".
func LocationResource(location string) string {
	segments := strings.Split(location, "/")
	n := len(segments)
	if n >= 4 && segments[n-2] == "_history" {
		return Resource(strings.Join(segments[n-4:], "/"))
	}
	if n < 2 {
		return ""
	}
	return Resource(strings.Join(segments[n-2:], "/"))
}
