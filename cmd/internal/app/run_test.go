package app

import (
	"strings"
	"syscall"
	"testing"
)

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestOutputFails: a table that didn't arrive whole is no success.
func TestOutputFails(t *testing.T) {
	for _, command := range []string{"config", "version", "-h"} {
		var stderr strings.Builder
		if code := (Program{Stdout: brokenPipe{}, Stderr: &stderr}).Run(t.Context(), []string{command}); code != exitFailure || stderr.Len() == 0 {
			t.Errorf("%s: got exit code %d and %q, want %d and a fault", command, code, stderr.String(), exitFailure)
		}
	}
}
