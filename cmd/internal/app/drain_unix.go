//go:build unix

package app

import (
	"os"
	"syscall"
)

// drainSignal is how a process is asked to drain: it takes the same user in the
// same container, and opens no port.
var drainSignal os.Signal = syscall.SIGUSR1
