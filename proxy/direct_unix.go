//go:build unix

package proxy

import "syscall"

// canProbe tells whether isQuiet can find an unused connection good.
const canProbe = true

// isQuiet reports whether the other side has neither closed an unused
// connection nor sent anything on it. It doesn't wait: sockets of package net
// don't block. A byte that it reads is lost, but so is the connection.
func isQuiet(conn syscall.RawConn) bool {
	quiet := false
	err := conn.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		quiet = err == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}
