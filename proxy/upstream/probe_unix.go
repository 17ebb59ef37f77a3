//go:build unix

package upstream

import "syscall"

// canPeek tells whether connIsIdle can find an unused connection good.
const canPeek = true

// connIsIdle reports whether the other side has neither closed an unused
// connection nor sent anything on it. It doesn't wait: sockets of package net
// don't block. A byte that it reads is lost, but so is the connection.
func connIsIdle(conn syscall.RawConn) bool {
	idle := false
	err := conn.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		idle = err == syscall.EAGAIN
		return true
	})
	return err == nil && idle
}
