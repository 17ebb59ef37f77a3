//go:build unix

package wire

import (
	"net"
	"syscall"
	"time"
)

// lookEvery is how often a client that has closed its writing side is looked at.
const lookEvery = 50 * time.Millisecond

// AwaitReset waits until a client that has closed its writing side is gone: it has
// reset the connection, its time is up, or the connection is closed. It returns
// false when stop comes first.
func AwaitReset(c net.Conn, stop, closed <-chan struct{}) bool {
	end := time.NewTimer(Linger)
	defer end.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-stop:
			return false
		case <-closed:
			return true
		case <-end.C:
			return true
		case <-look.C:
			if isReset(c) {
				return true
			}
		}
	}
}

// isReset reports whether the other side has reset the connection, which reading
// can't tell after its end was read.
func isReset(c net.Conn) bool {
	for {
		outer, ok := c.(interface{ NetConn() net.Conn }) // as tls.Conn has
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	reset := false
	err = raw.Control(func(fd uintptr) {
		code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		reset = err != nil || code != 0
	})
	return err != nil || reset
}
