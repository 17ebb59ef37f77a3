package discovery

import (
	"io"
	"time"
)

// ReadCapabilityStatement is for the fuzz target.
func ReadCapabilityStatement(r io.Reader) (Endpoints, error) { return readCapabilityStatement(r) }

// Interval is how long Run waits for the next round.
func (d *Discovery) Interval() time.Duration { return d.interval() }
