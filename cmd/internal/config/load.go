package config

import (
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// read reads the environment. Each field is read by itself, because
// envconfig stops at the first one it can't parse, and prints its value.
func read() (*Settings, []Fault) {
	c := new(Settings)
	known := Variables()
	faults := unknownVariables(os.Environ(), known)
	v := reflect.ValueOf(c).Elem()
	for i, variable := range known {
		field := v.Type().Field(i)
		one := reflect.New(reflect.StructOf([]reflect.StructField{field}))
		if envconfig.Process(Prefix, one.Interface()) != nil || misread(variable, one.Elem().Field(0)) {
			faults = append(faults, Fault{variable, "must be " + kindOf(field.Type)})
			continue
		}
		v.Field(i).Set(one.Elem().Field(0))
		trimItems(v.Field(i))
		if strings.HasPrefix(variable, Prefix+"_REQUIRED_") && os.Getenv(variable) != "" && v.Field(i).Len() == 0 {
			// A template whose values are missing must not switch a check off.
			faults = append(faults, Fault{variable, "names nothing; without a check, leave it out"})
		}
	}
	return c, faults
}

// misread reports whether envconfig took a number for another one than people do:
// to it 010 is eight.
func misread(variable string, v reflect.Value) bool {
	value, set := os.LookupEnv(variable)
	return set && v.Kind() == reflect.Int && strconv.FormatInt(v.Int(), 10) != value
}

// trimItems takes blanks from around the items of a list, and empty items out.
func trimItems(v reflect.Value) {
	items, ok := v.Interface().([]string)
	if !ok {
		return
	}
	var kept []string
	for _, item := range items {
		if item = strings.TrimSpace(item); item != "" {
			kept = append(kept, item)
		}
	}
	v.Set(reflect.ValueOf(kept))
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration with a unit, such as 2s or 500ms"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	default:
		return "text"
	}
}

// render fills a template of envconfig with the settings, in their order.
func render(w io.Writer, format string) error {
	return envconfig.Usagef(Prefix, new(Settings), w, format)
}

// Variables are the names of all settings, in the order of config's fields.
func Variables() []string {
	var b strings.Builder
	if err := render(&b, "{{range .}}{{usage_key .}} {{end}}"); err != nil {
		return nil // a unit test keeps this from happening
	}
	return strings.Fields(b.String())
}

// linkPattern matches the variables that Kubernetes sets in every container for
// a Service that is called "sidecar" or "sidecar-something".
var linkPattern = regexp.MustCompile(
	`^SIDECAR_(\w+_)?(SERVICE_HOST=|SERVICE_PORT(_\w+)?=\d+$|PORT=\w+://|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=)`)

// IsServiceLink reports whether an entry of the environment, NAME=value, is one
// that Kubernetes sets for a Service, and no setting.
func IsServiceLink(entry string) bool { return linkPattern.MatchString(entry) }

// unknownVariables finds misspelled settings: an operator who believes to have
// set a limit must not run without it.
func unknownVariables(environ, known []string) []Fault {
	var faults []Fault
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, Prefix+"_") || slices.Contains(known, name) || IsServiceLink(entry) {
			continue
		}
		faults = append(faults, Fault{name, "is not a setting" + suggestion(name, known)})
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Variable, b.Variable) })
	return faults
}

// suggestion names the nearest known variable, if it is at most two typing
// errors away.
func suggestion(name string, known []string) string {
	nearest, least := "", 3
	for _, k := range known {
		if d := distance(name, k); d < least {
			nearest, least = k, d
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + nearest + "?"
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
