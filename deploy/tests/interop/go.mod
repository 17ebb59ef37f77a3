module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/interop

go 1.27.4
