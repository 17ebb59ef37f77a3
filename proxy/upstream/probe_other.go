//go:build !unix

package upstream

import "syscall"

// canPeek tells whether connIsIdle can find an unused connection good. Where it
// can't, every request gets a connection of its own.
const canPeek = false

func connIsIdle(syscall.RawConn) bool { return false }
