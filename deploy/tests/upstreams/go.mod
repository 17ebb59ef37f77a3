module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/upstreams

go 1.27.4
