module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/guides

go 1.27.4
