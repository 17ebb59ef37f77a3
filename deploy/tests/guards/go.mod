module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/guards

go 1.27.4
