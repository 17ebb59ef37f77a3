package config

import (
	"errors"
	"slices"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// TestAddFaults: no error of a constructor gets lost on its way to the operator, and none
// is told twice.
func TestAddFaults(t *testing.T) {
	file := func(text string) error { return AtFault("SIDECAR_CA_FILE", errors.New(text)) }
	field := &transport.FieldError{Field: "ClientID", Err: errors.New("is required")}
	odd := errors.New("cache: is full")
	before := []Fault{{"SIDECAR_LOG_LEVEL", "must be another"}}
	for _, tt := range []struct {
		name   string
		before []Fault
		err    error
		want   []string
	}{
		{"nothing", before, nil, []string{"SIDECAR_LOG_LEVEL: must be another"}},
		{"files", nil, errors.Join(file("is bad"), errors.Join(file("is bad"), file("is worse"))), []string{"SIDECAR_CA_FILE: is bad", "SIDECAR_CA_FILE: is worse"}},
		{"a field", nil, field, []string{"configuration: ClientID: is required"}},
		{"anything", nil, odd, []string{"configuration: cache: is full"}},
		{"what the checks have told in their own words", before, errors.Join(field, odd), []string{"SIDECAR_LOG_LEVEL: must be another"}},
		{"a file besides", before, errors.Join(field, file("is bad")), []string{"SIDECAR_LOG_LEVEL: must be another", "SIDECAR_CA_FILE: is bad"}},
	} {
		if got := texts(AddFaults(slices.Clone(tt.before), tt.err)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if AtFault("SIDECAR_CA_FILE", nil) != nil {
		t.Error("got a fault out of nothing, want nil")
	}
}
