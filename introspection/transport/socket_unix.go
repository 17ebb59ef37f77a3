//go:build unix

package transport

import (
	"io"
	"net"
	"syscall"
)

// readAtOnce reads what is there: sockets of package net don't block.
func readAtOnce(conn *net.TCPConn, p []byte) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return true
	})
	switch {
	case failed != nil:
		return 0, failed
	case err == syscall.EAGAIN: //nolint:errorlint // a system call returns it itself
		return 0, errNothing
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}
