package smart

import (
	_ "embed" // references.txt
	"errors"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

// Config is what Rules are made from.
type Config struct {
	// Operations says what further operations need: "$docref=DocumentReference.rs",
	// "$process-message=MessageHeader.c", "$reindex=*.cruds". An operation that
	// stands there twice needs both. Without a type ("$stats=s") it is the type of
	// the path, and every type at the base. One of the built-in table is replaced.
	Operations []string
	// Paths says what paths that FHIR doesn't know need:
	// "GET documents/*=DocumentReference.r", "GET */__page/*=s". An asterisk stands
	// for one segment, and at the end for anything below, but for nothing that some
	// server decodes to another path. Without a type the letters are needed on
	// whichever type.
	Paths []string
	// Strict takes a scope with search parameters only for requests that carry the
	// same parameters, instead of for its whole type.
	Strict bool
}

// Rules tell what a request needs and whether a token's scopes permit it. They are
// read-only once compiled.
type Rules struct {
	operations map[string][]need
	paths      []pathRule
	references map[string][]string // targets of Type.parameter
	strict     bool
}

// referencesTable lists the reference parameters of R4 and what they point to:
// "Observation.specimen Specimen". deploy/tests/definitions makes it.
//
//go:embed references.txt
var referencesTable string

// New compiles rules. The error says what an entry must be, without repeating it.
func New(config Config) (*Rules, error) {
	r := &Rules{operations: builtin(), references: make(map[string][]string), strict: config.Strict}
	for line := range strings.Lines(referencesTable) {
		fields := strings.Fields(line)
		r.references[fields[0]] = fields[1:]
	}
	if err := CheckOperations(config.Operations); err != nil {
		return nil, err
	}
	replaced := make(map[string]bool)
	for _, entry := range config.Operations {
		name, n, _ := parseOperation(entry)
		if !replaced[name] {
			r.operations[name] = nil
		}
		replaced[name] = true
		r.operations[name] = append(r.operations[name], n)
	}
	for _, entry := range config.Paths {
		rule, err := parsePathRule(entry)
		if err != nil {
			return nil, err
		}
		r.paths = append(r.paths, rule)
	}
	return r, nil
}

// builtin lists what the operations of FHIR R4 and its bulk data and SMART guides
// need. One that isn't listed is refused, because its effect is unknown. Those
// that answer with resources of any type need every type.
func builtin() map[string][]need {
	here := func(p Permission) []need { return []need{{permission: p}} }
	everywhere := []need{{resourceType: EveryType, permission: Read | Search}}
	return map[string][]need{
		"apply":         everywhere, // evaluates expressions over whatever the subject has
		"document":      everywhere, // brings all that a Composition refers to
		"everything":    everywhere,
		"expand":        here(Read),
		"export":        everywhere,
		pollStatus:      {{resourceType: someType, permission: Read | Search}},
		"graphql":       everywhere,
		"lastn":         here(Search),
		"lookup":        here(Read),
		"match":         here(Search),
		"meta":          here(Read),
		"meta-add":      here(Update),
		"meta-delete":   here(Update),
		"stats":         here(Search),
		"subsumes":      here(Read),
		"translate":     here(Read),
		"validate":      here(Read),
		"validate-code": here(Read),
	}
}

// pollStatus asks how far an $export is (HAPI FHIR). The id of the job is a secret
// of whoever may export, and the files are read as Binary.
const pollStatus = "export-poll-status"

// someType stands for SomeType in the table of operations, in which "" is the type
// of the path.
const someType = "?"

// CheckOperations reports what is wrong with entries of Config.Operations.
func CheckOperations(entries []string) error {
	for _, entry := range entries {
		if _, _, err := parseOperation(entry); err != nil {
			return err
		}
	}
	return nil
}

// CheckPaths reports what is wrong with entries of Config.Paths.
func CheckPaths(entries []string) error {
	for _, entry := range entries {
		if _, err := parsePathRule(entry); err != nil {
			return err
		}
	}
	return nil
}

func parseOperation(entry string) (name string, n need, err error) {
	left, right, ok := strings.Cut(entry, "=")
	name, dollar := strings.CutPrefix(left, "$")
	if interaction, _ := fhir.ParseInteraction("POST", "$"+name); !ok || !dollar || interaction != fhir.Operation {
		return "", need{}, errors.New("must have the form $name=Type.letters, such as $docref=DocumentReference.rs")
	}
	n, err = parseNeed(right)
	return name, n, err
}

// parseNeed reads Type.letters, *.letters or letters alone.
func parseNeed(text string) (need, error) {
	resourceType, letters, typed := strings.Cut(text, ".")
	if !typed {
		resourceType, letters = SomeType, text
	}
	permission := parsePermission(letters)
	switch {
	case permission == 0:
		return need{}, errors.New("must end in letters of " + cruds + ", in that order")
	case typed && resourceType != EveryType && !fhir.IsType(resourceType):
		return need{}, errors.New("must name a resource type, or * for all")
	}
	return need{resourceType: resourceType, permission: permission}, nil
}
