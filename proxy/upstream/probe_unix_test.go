//go:build unix

package upstream

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// arrived waits until what the server did to an idle connection is here. It leaves
// everything as it was.
func arrived(t *testing.T, c *conn) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		quiet := false
		if err := c.raw.Read(func(fd uintptr) bool {
			_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
			quiet = errors.Is(err, syscall.EAGAIN)
			return true
		}); err != nil {
			t.Fatalf("syscall.Recvfrom: got error %v, want none", err)
		}
		if !quiet {
			return
		}
		if time.Now().After(end) {
			t.Fatal("idle connection: got nothing, want what the server sent")
		}
	}
}
