package doctor

import (
	"fmt"
	"time"
)

// maxClockDifference is where assertions and `nbf` begin to fail.
const maxClockDifference = 30 * time.Second

// formatSkew rounds to ten seconds; a Date header is no more precise.
func formatSkew(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("about %v behind", (-d).Round(10*time.Second))
	}
	return fmt.Sprintf("about %v ahead", d.Round(10*time.Second))
}

func clockCause() diagnosis {
	return diagnosis{"one of the two clocks is not synchronised: tokens and assertions seem expired, or not valid yet", ""}
}
