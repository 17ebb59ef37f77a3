// A module of its own: none of this is part of the product.
module github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/deploy/bench

go 1.27.4
