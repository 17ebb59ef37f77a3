//go:build !unix

package main

import "os"

// drainSignal is nil where there are no signals.
var drainSignal os.Signal
