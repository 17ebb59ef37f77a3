package smart

import "strings"

// Permission is a set of the SMART 2 letters.
type Permission uint8

// The letters, in the order in which a scope has them.
const (
	Create Permission = 1 << iota
	Read
	Update
	Delete
	Search

	All = Create | Read | Update | Delete | Search
)

const cruds = "cruds"

// String returns the letters as a scope has them, such as "rs".
func (p Permission) String() string {
	var b [len(cruds)]byte
	n := 0
	for i := range len(cruds) {
		if p&(1<<i) != 0 {
			b[n] = cruds[i]
			n++
		}
	}
	return string(b[:n])
}

// Context is who a scope speaks for.
type Context string

// The contexts of resource scopes.
const (
	Patient Context = "patient" // the one patient of the launch context
	User    Context = "user"    // whatever the user may see
	System  Context = "system"  // a client without a user
)

// Two names that stand for types where Granted takes a resource type.
const (
	// EveryType asks what is permitted on all types alike.
	EveryType = "*"
	// SomeType asks what is permitted on whichever type.
	SomeType = ""
)

// Granted returns the union of what the scopes in a token's space separated
// scope claim permit on resourceType, an R4 type name, EveryType or SomeType.
// Scopes in the patient context count only with withPatient: without a patient
// in the launch context there is nothing that they could apply to.
func Granted(scopes, resourceType string, withPatient bool) Permission {
	var granted Permission
	for scopes != "" {
		text := scopes
		if i := strings.IndexByte(scopes, ' '); i >= 0 {
			text, scopes = scopes[:i], scopes[i+1:]
		} else {
			scopes = ""
		}
		if !mayApply(text, resourceType) {
			continue
		}
		if s := parse(text); s.appliesTo(resourceType, withPatient) {
			granted |= s.permission
		}
	}
	return granted
}

// mayApply sorts out, at a glance, the scopes of other types, which most are.
func mayApply(text, resourceType string) bool {
	slash := len(User)
	if len(text) > 0 {
		switch text[0] {
		case 'p':
			slash = len(Patient)
		case 's':
			slash = len(System)
		}
	}
	if len(text) <= slash+1 || text[slash] != '/' {
		return false
	}
	return text[slash+1] == '*' || strings.HasPrefix(text[slash+1:], resourceType)
}

// ContextOf returns the context of the first resource scope, and User when
// there is none.
func ContextOf(scopes string) Context {
	for text := range strings.SplitSeq(scopes, " ") {
		if s := parse(text); s.permission != 0 {
			return s.context
		}
	}
	return User
}

// scope is one resource scope.
type scope struct {
	context      Context
	resourceType string
	permission   Permission
	parameters   string // as written behind the question mark; "" for none
}

func (s scope) appliesTo(resourceType string, withPatient bool) bool {
	if s.context == Patient && !withPatient {
		return false
	}
	return s.resourceType == EveryType || s.resourceType == resourceType || resourceType == SomeType
}

// parse reads one scope. One that is no resource scope permits nothing.
func parse(text string) scope {
	text, parameters, constrained := strings.Cut(text, "?")
	if constrained && !wellFormed(parameters) {
		return scope{}
	}
	name, rest, _ := strings.Cut(text, "/")
	switch Context(name) {
	case Patient, User, System:
	default:
		return scope{}
	}
	resourceType, permissions, _ := strings.Cut(rest, ".")
	if resourceType != EveryType && !isType(resourceType) {
		return scope{}
	}
	return scope{Context(name), resourceType, parsePermission(permissions), parameters}
}

// parsePermission reads the words of SMART 1 before the letters of SMART 2:
// "read" must not be taken for r and d.
func parsePermission(s string) Permission {
	switch s {
	case "read":
		return Read | Search
	case "write":
		return Create | Update | Delete
	case "*":
		return All
	}
	var p Permission
	next := 0 // letters stand in order, each once
	for i := range len(s) {
		at := strings.IndexByte(cruds[next:], s[i])
		if at < 0 {
			return 0
		}
		p |= 1 << (next + at)
		next += at + 1
	}
	return p
}

// wellFormed holds for name=value pairs, which may hold anything but spaces.
func wellFormed(parameters string) bool {
	for pair := range strings.SplitSeq(parameters, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" || value == "" {
			return false
		}
	}
	return true
}

func isType(s string) bool {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}
