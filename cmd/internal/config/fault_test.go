package config

import (
	"errors"
	"slices"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// TestFaultsOf: no error of a constructor gets lost on its way to the operator.
func TestFaultsOf(t *testing.T) {
	field := func(name, text string) error { return &transport.FieldError{Field: name, Err: errors.New(text)} }
	err := errors.Join(
		field("CA", "is bad"),
		errors.Join(field("ClientID", "is required"), errors.New("cache: is full")),
		field("Unmapped", "is odd"),
	)
	want := []string{"SIDECAR_CA_FILE: is bad", "SIDECAR_CLIENT_ID: is required", "configuration: cache: is full", "configuration: Unmapped: is odd"}
	if got := texts(faultsOf(err)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := faultsOf(nil); got != nil {
		t.Errorf("got %q out of nothing, want nothing", got)
	}
	for name, variable := range fieldVariables {
		if !slices.Contains(Variables(), variable) {
			t.Errorf("%s: got %s, want a setting that there is", name, variable)
		}
	}
	for _, lone := range []error{field("ClientID", "is required"), errors.New("odd"), field("TLSCert", "is bad")} {
		if got := AddFaults(nil, lone); len(got) != 1 {
			t.Errorf("%v: got %v, want one fault", lone, got)
		}
	}
}
