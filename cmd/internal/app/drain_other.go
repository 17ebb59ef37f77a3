//go:build !unix

package app

import "os"

// drainSignal is nil where there are no signals.
var drainSignal os.Signal
