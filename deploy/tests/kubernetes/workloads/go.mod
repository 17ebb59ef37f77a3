module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/kubernetes/workloads

go 1.27.4

require github.com/fhir-introspection-sidecar/fhir-introspection-sidecar v0.0.0

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
)

replace github.com/fhir-introspection-sidecar/fhir-introspection-sidecar => ../../../..
