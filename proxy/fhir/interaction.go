package fhir

import "strings"

// Interaction is a code of the R4 code system restful-interaction, or Unknown.
// It takes no other values than the constants below, so it may be a log field
// or a metric label.
type Interaction string

// The interactions that a method and a path can tell apart. A conditional
// update, patch or delete goes by its unconditional name, a batch by
// transaction, and a search in a compartment by search-type.
const (
	Read            Interaction = "read"
	Vread           Interaction = "vread"
	Update          Interaction = "update"
	Patch           Interaction = "patch"
	Delete          Interaction = "delete"
	HistoryInstance Interaction = "history-instance"
	HistoryType     Interaction = "history-type"
	HistorySystem   Interaction = "history-system"
	Create          Interaction = "create"
	SearchType      Interaction = "search-type"
	SearchSystem    Interaction = "search-system"
	Capabilities    Interaction = "capabilities"
	Transaction     Interaction = "transaction"
	Operation       Interaction = "operation"
	Unknown         Interaction = "unknown"
)

// request is a method and the shape of a path: one letter per segment,
//
//	T resource type   I id, version id   O operation ($name)
//	H _history        S _search          M metadata          A any type (*)
type request struct{ method, shape string }

// interactions is FHIR R4 http, 3.1.0, as a table. What is not in it is
// Unknown, so that a scope check can refuse it instead of guessing.
var interactions = map[request]Interaction{
	{"GET", ""}:      SearchSystem,
	{"GET", "M"}:     Capabilities,
	{"GET", "H"}:     HistorySystem,
	{"GET", "O"}:     Operation,
	{"GET", "T"}:     SearchType,
	{"GET", "TH"}:    HistoryType,
	{"GET", "TO"}:    Operation,
	{"GET", "TI"}:    Read,
	{"GET", "TIH"}:   HistoryInstance,
	{"GET", "TIHI"}:  Vread,
	{"GET", "TIO"}:   Operation,
	{"GET", "TIT"}:   SearchType, // compartment
	{"GET", "TIA"}:   SearchType, // compartment, every type in it
	{"POST", ""}:     Transaction,
	{"POST", "S"}:    SearchSystem,
	{"POST", "O"}:    Operation,
	{"POST", "T"}:    Create,
	{"POST", "TS"}:   SearchType, // not a create: the body is a query
	{"POST", "TO"}:   Operation,
	{"POST", "TIO"}:  Operation,
	{"POST", "TITS"}: SearchType, // compartment

	{"PUT", "T"}:       Update, // conditional
	{"PUT", "TI"}:      Update,
	{"PATCH", "T"}:     Patch, // conditional
	{"PATCH", "TI"}:    Patch,
	{"DELETE", "T"}:    Delete, // conditional
	{"DELETE", "TI"}:   Delete,
	{"DELETE", "TIH"}:  Delete, // R5 delete-history
	{"DELETE", "TIHI"}: Delete, // R5 delete-history-version
}

const (
	maxSegments = 4  // Patient/1/Task/_search
	maxID       = 64 // R4 datatypes, "id"
	maxType     = 64 // longer than any resource type is
)

// ParseInteraction names what a request asks for, from its method and its path
// below the FHIR base: escaped as received, without leading slash and query.
// One slash at the end is ignored, as FHIR servers do.
//
// The resource type is the one whose resources are asked for: Task for
// Patient/1/Task. It is "" when there is none, when it can be any, and for
// Unknown. It matches ^[A-Z][A-Za-z]{1,63}$, but the client chose it, so it is
// no metric label. An encoded byte in the path makes a request Unknown, apart
// from the %24 that many clients write for the dollar sign of an operation.
func ParseInteraction(method, path string) (interaction Interaction, resourceType string) {
	var segments [maxSegments]string
	var letters [maxSegments]byte
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	n := 0
	for more := path != ""; more; n++ {
		if n == maxSegments {
			return Unknown, ""
		}
		segments[n], path, more = strings.Cut(path, "/")
		letters[n] = classify(segments[n], n)
	}
	if method == "HEAD" {
		method = "GET" // answered alike, so the same right is needed
	}
	interaction, ok := interactions[request{method, string(letters[:n])}]
	if !ok {
		return Unknown, ""
	}
	target := 0 // the segment that names the type
	if letters[2] == 'T' || letters[2] == 'A' {
		if !isCompartment(segments[0]) {
			return Unknown, ""
		}
		target = 2
	}
	if letters[target] == 'T' {
		resourceType = segments[target]
	}
	return interaction, resourceType
}

// classify returns the letter of one segment, or 0 for one that FHIR doesn't
// know at that position. No segment can have two meanings: a type stands at an
// even position, an id at an odd one, and neither may contain _ or $.
func classify(segment string, position int) byte {
	switch segment {
	case "_history":
		return 'H'
	case "_search":
		return 'S'
	case "*":
		return 'A'
	}
	switch {
	case position == 0 && segment == "metadata":
		return 'M'
	case isOperation(segment):
		return 'O'
	case position%2 == 0 && isType(segment):
		return 'T'
	case position%2 == 1 && isID(segment):
		return 'I'
	}
	return 0
}

func isOperation(s string) bool {
	name, ok := strings.CutPrefix(s, "$")
	if !ok {
		name, ok = strings.CutPrefix(s, "%24")
	}
	return ok && isID(name)
}

func isType(s string) bool {
	if len(s) < 2 || len(s) > maxType || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isLetter(s[i]) {
			return false
		}
	}
	return true
}

// isID holds for ^[A-Za-z0-9.-]{1,64}$ without the dot segments, which a
// server behind the proxy might resolve to another resource.
func isID(s string) bool {
	if s == "" || len(s) > maxID || s == "." || s == ".." {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isCompartment holds for the types of the R4 value set compartment-type.
func isCompartment(s string) bool {
	switch s {
	case "Patient", "Encounter", "RelatedPerson", "Practitioner", "Device":
		return true
	}
	return false
}
