//go:build !unix

package wire

// canRead tells whether readSocket can.
const canRead = false

func readSocket(uintptr, []byte) (int, error) { return 0, errNothing }

func writeSocket(uintptr, []byte) (int, error) { return 0, errNothing }
