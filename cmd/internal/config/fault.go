package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Fault is one thing wrong with the configuration. Its text never has the value
// that was set, which may be a secret in the wrong place.
type Fault struct{ Variable, Text string }

// String returns the line that an operator reads.
func (f Fault) String() string { return f.Variable + ": " + f.Text }

// AtFault is an error about a setting, such as what the file holds that it names.
func AtFault(variable string, err error) error {
	if err == nil {
		return nil
	}
	return &transport.FieldError{Field: variable, Err: err}
}

// noVariable stands in faults that no single variable is the cause of.
const noVariable = "configuration"

// AddFaults adds what a constructor found: what is wrong inside a file, with the
// setting that names the file. Everything else the checks of this package find first,
// in words that name the settings; it counts only when they found nothing.
func AddFaults(faults []Fault, err error) []Fault {
	for _, e := range leaves(err) {
		var named *transport.FieldError
		if !errors.As(e, &named) || !strings.HasPrefix(named.Field, Prefix+"_") {
			if len(faults) == 0 {
				faults = append(faults, Fault{noVariable, e.Error()})
			}
			continue
		}
		if f := (Fault{named.Field, textOf(named.Err)}); !slices.Contains(faults, f) {
			faults = append(faults, f)
		}
	}
	return faults
}

// textOf names the other setting that a fault is about, where there is one.
func textOf(err error) string {
	var unfit *credential.AlgorithmError
	if errors.As(err, &unfit) {
		return fmt.Sprintf("is %s, which can't sign with the %s of SIDECAR_CLIENT_ASSERTION_ALG; it can with %s",
			unfit.Key, unfit.Algorithm, strings.Join(unfit.Fitting, ", "))
	}
	return err.Error()
}

// leaves are the errors that were joined.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}
