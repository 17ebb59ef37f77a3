package cache

import (
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// activeEntry is a verdict with two limits: the wall clock may be set, and a
// clock that was set back must not make a token live longer.
type activeEntry struct {
	response *introspection.Response
	obtained time.Duration // elapsed time; negative when it was before New
	until    time.Duration // elapsed time
}
