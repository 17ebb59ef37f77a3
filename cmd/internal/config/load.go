package config

import (
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
			faults = append(faults, Fault{variable, kindFault(variable, field.Type)})
			_ = envconfig.Process(noPrefix, one.Interface()) // the default, of which nothing is wrong
		}
		v.Field(i).Set(one.Elem().Field(0))
		if text := readList(variable, v.Field(i)); text != "" {
			faults = append(faults, Fault{variable, text})
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

// noPrefix begins the name of no variable.
const noPrefix = "\x00"

// noItems is the word for a list that is meant to be empty.
const noItems = "none"

// mayBeNone are the lists that have something in them by default, and may be emptied.
var mayBeNone = []string{"SIDECAR_HEADERS", "SIDECAR_PUBLIC_PATHS"}

// readList takes spaces from around the items of a list, and empty items out. It
// returns what is wrong with the list: one that is set and names nothing is what a
// template leaves whose value is missing, and must not switch a check off.
func readList(variable string, v reflect.Value) (fault string) {
	items, ok := v.Interface().([]string)
	if !ok {
		return readCheck(variable)
	}
	var kept []string
	for _, item := range items {
		if item = strings.TrimSpace(item); item != "" {
			kept = append(kept, item)
		}
	}
	_, set := os.LookupEnv(variable)
	none := slices.Contains(mayBeNone, variable)
	switch {
	case none && slices.Equal(kept, []string{noItems}):
		kept = nil
	case none && slices.Contains(kept, noItems):
		fault = "must be " + noItems + " alone, or a list without it"
	case set && len(kept) == 0 && none:
		fault = "is set and names nothing; write " + noItems + " if that is meant, or leave it out for the default"
	case set && len(kept) == 0:
		fault = "is set and names nothing; leave it out if that is meant"
	}
	if fault != "" {
		kept = nil // of which nothing is wrong
	}
	v.Set(reflect.ValueOf(kept))
	return fault
}

// readCheck returns what is wrong with a setting that is a check like some of the lists,
// though it names one thing: an empty one must not switch it off either.
func readCheck(variable string) (fault string) {
	if value, set := os.LookupEnv(variable); variable == "SIDECAR_TENANT_CLAIM" && set && strings.TrimSpace(value) == "" {
		return "is set and names nothing; leave it out if that is meant"
	}
	return ""
}

// kindFault says what the variable must be.
func kindFault(variable string, t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		if _, err := strconv.ParseFloat(os.Getenv(variable), 64); err == nil {
			return "must be a duration with a unit, such as 2s or 500ms: the unit is missing"
		}
		return "must be a duration with a unit, such as 2s or 500ms"
	case t.Kind() == reflect.Int:
		return "must be a whole number"
	case t.Kind() == reflect.Bool:
		return "must be true or false"
	default:
		return "must be text"
	}
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
		faults = append(faults, Fault{name, "is not a setting" + hint(name, known)})
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Variable, b.Variable) })
	return faults
}
