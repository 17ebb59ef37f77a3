package discovery

import (
	"io"
)

// ReadCapabilityStatement is for the fuzz target.
func ReadCapabilityStatement(r io.Reader) (Endpoints, error) { return readCapabilityStatement(r) }
