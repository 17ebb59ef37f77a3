package app

import "syscall"

// hideMemory keeps the tokens in the process's memory from core files and from
// debuggers of its own user. That may be refused, and everything works without.
func hideMemory() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
}
