module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/clients

go 1.27.4

require github.com/fhir-introspection-sidecar/fhir-introspection-sidecar v0.0.0

replace github.com/fhir-introspection-sidecar/fhir-introspection-sidecar => ../../..
