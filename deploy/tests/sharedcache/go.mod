module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/tests/sharedcache

go 1.27.4

replace github.com/fhir-introspection-sidecar/fhir-introspection-sidecar => ../../..

require (
	github.com/fhir-introspection-sidecar/fhir-introspection-sidecar v0.0.0-00010101000000-000000000000
	github.com/redis/rueidis v1.0.79
)

require golang.org/x/sys v0.48.0 // indirect
