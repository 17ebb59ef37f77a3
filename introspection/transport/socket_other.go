//go:build !unix

package transport

import "net"

// readAtOnce can't look, and says that there is nothing.
func readAtOnce(*net.TCPConn, []byte) (int, error) { return 0, errNothing }
