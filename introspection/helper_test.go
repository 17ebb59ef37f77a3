package introspection

import (
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// canary is part of every secret of these tests and must appear nowhere else.
const canary = introspectiontest.Canary
