package fhir_test

import (
	"fmt"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

func ExampleOutcome() {
	body := fhir.Outcome(fhir.JSON, fhir.IssueLogin, "Authentication required")
	fmt.Println(string(body))
	// Output: {"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"login","details":{"text":"Authentication required"}}]}
}

func ExampleNegotiate() {
	accept := []string{"application/fhir+xml;q=0.9, application/fhir+json"}
	fmt.Println(fhir.Negotiate("", accept).MediaType())
	fmt.Println(fhir.Negotiate("name=jan&_format=xml", accept).MediaType())
	// Output:
	// application/fhir+json
	// application/fhir+xml
}

func ExampleParseInteraction() {
	for _, path := range []string{"Patient/123", "Patient/123/Task", "Patient/123/$everything"} {
		interaction, resourceType := fhir.ParseInteraction("GET", path)
		fmt.Println(interaction, resourceType)
	}
	// Output:
	// read Patient
	// search-type Task
	// operation Patient
}
