//go:build !unix

package wire

import "net"

// AwaitReset waits until a client that has closed its writing side is gone. Where
// that can't be seen, it is taken to be gone at once. It returns false when stop came
// first.
func AwaitReset(_ net.Conn, stop, _ <-chan struct{}) bool {
	select {
	case <-stop:
		return false
	default:
		return true
	}
}
