//go:build amd64 || arm64

package main

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// The dial recorder has the kernel tell of every connect of the process, whatever
// library makes it (seccomp user notification, Linux 5.5). It changes nothing: each
// call goes on once it is written down.

var seccompCall = map[string]uintptr{"amd64": 317, "arm64": 277}[runtime.GOARCH]

// Of linux/seccomp.h and linux/prctl.h; the frozen package syscall lacks them.
const (
	prSetNoNewPrivs      = 38
	setModeFilter        = 1
	filterFlags          = 1<<0 | 1<<3 | 1<<4 // all threads, with a listener, errors as errno
	returnAllow          = 0x7fff0000
	returnNotify         = 0x7fc00000
	ioctlReceive         = 0xc0502100
	ioctlSend            = 0xc0182101
	continueTheCall      = 1
	bpfLoad, bpfJumpIfEq = 0x20, 0x15
	bpfReturn            = 0x06
)

type instruction struct {
	code  uint16
	_, no uint8
	value uint32
}

type notification struct {
	id      uint64
	pid, _  uint32
	call    int32
	arch    uint32
	pointer uint64
	args    [6]uint64
}

type goOn struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// recordDials writes where the process connects to into a file, a line for each,
// after a line that says it does. Where the kernel can't, the file stays empty.
func recordDials(path string) {
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	filter := []instruction{
		{code: bpfLoad}, // the number of the call
		{code: bpfJumpIfEq, no: 1, value: syscall.SYS_CONNECT},
		{code: bpfReturn, value: returnNotify},
		{code: bpfReturn, value: returnAllow},
	}
	program := struct {
		length uint16
		filter *instruction
	}{uint16(len(filter)), &filter[0]}
	runtime.LockOSThread() // the first call is for this thread, and the second takes it to all
	defer runtime.UnlockOSThread()
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return
	}
	listener, _, errno := syscall.RawSyscall(seccompCall, setModeFilter, filterFlags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		panic(err)
	}
	_, _ = file.WriteString(recording)
	go func() {
		for {
			var n notification
			_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, listener, ioctlReceive, uintptr(unsafe.Pointer(&n)))
			if errno != 0 {
				continue // interrupted, or the caller has been and asks again
			}
			var address [28]byte
			_, _ = memory.ReadAt(address[:min(n.args[2], 28)], int64(n.args[1]))
			if line := dialed(int(n.args[0]), address); line != "" {
				_, _ = file.WriteString(line + "\n")
			}
			answer := goOn{id: n.id, flags: continueTheCall}
			_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, listener, ioctlSend, uintptr(unsafe.Pointer(&answer)))
		}
	}()
}

// dialed tells network and address. Without a datagram being sent, Go also connects
// UDP sockets, to learn which of its own addresses it would use: to port 9.
func dialed(fd int, address [28]byte) string {
	var ip netip.Addr
	port := binary.BigEndian.Uint16(address[2:])
	switch binary.NativeEndian.Uint16(address[:]) {
	case syscall.AF_INET:
		ip, _ = netip.AddrFromSlice(address[4:8])
	case syscall.AF_INET6:
		ip, _ = netip.AddrFromSlice(address[8:24])
	default:
		return "" // of this machine
	}
	network := "tcp"
	if kind, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); kind != syscall.SOCK_STREAM {
		network = "udp"
	}
	return network + " " + netip.AddrPortFrom(ip.Unmap(), port).String()
}
