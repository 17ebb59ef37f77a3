module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/definitions

go 1.27.4
