package fhir_test

import (
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

func TestResource(t *testing.T) {
	for path, want := range map[string]string{
		"Observation/7": "Observation/7", "Observation/7/": "Observation/7", "Observation/7/_history/1": "Observation/7/_history/1",
		"Observation/7/_history": "Observation/7", "Patient/1/$everything": "Patient/1", "Patient/1/Observation": "Patient/1",
		"Patient/1/Observation/_search": "Patient/1", "Observation": "", "": "", "metadata": "", "$export": "", "Patient/_search": "",
		"Patient/$match": "", "patient/1": "", "Patient/%31": "", "_history": "", "a/b/c/d/e": "",
	} {
		if got := fhir.Resource(path); got != want {
			t.Errorf("Resource(%q) = %q, want %q", path, got, want)
		}
	}
	for location, want := range map[string]string{
		"http://h/fhir/Observation/7/_history/1": "Observation/7/_history/1", "Observation/7": "Observation/7", "/fhir/Patient/1": "Patient/1",
		"http://h/fhir": "", "http://h": "", "": "", "x": "",
	} {
		if got := fhir.LocationResource(location); got != want {
			t.Errorf("LocationResource(%q) = %q, want %q", location, got, want)
		}
	}
}
