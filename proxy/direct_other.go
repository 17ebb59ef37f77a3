//go:build !unix

package proxy

import "syscall"

// canProbe tells whether isQuiet can find an unused connection good. Where it
// can't, http.Transport does everything.
const canProbe = false

func isQuiet(syscall.RawConn) bool { return false }
