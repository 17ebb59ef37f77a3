//go:build unix

package app

import "syscall"

// descriptorLimit is how many files and connections the process may have open. The
// Go runtime has raised it to what is allowed.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return unlimitedDescriptors
	}
	return int(min(limit.Cur, unlimitedDescriptors))
}
