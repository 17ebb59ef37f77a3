//go:build unix

package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// TestAsk: a question gets what comes after it, however soon, and however much it is.
func TestAsk(t *testing.T) {
	for _, size := range []int{5, 8 << 20} {
		near, far := socketPair(t)
		question := bytes.Repeat([]byte("q"), size)
		const rounds = 200
		go func() {
			for range rounds {
				if _, err := io.ReadFull(far, make([]byte, size)); err != nil {
					return
				}
				_, _ = io.WriteString(far, "answer")
			}
		}()
		in := NewInput(near)
		for range max(1, rounds/size) {
			written, err := in.Ask(question)
			if written != size || err != nil || string(in.Bytes()) != "answer" {
				t.Fatalf("Ask: got %d bytes written, error %v and %q, want %d, none and a response", written, err, in.Bytes(), size)
			}
			in.Take(in.Len())
		}
	}
}

// TestAskDisturbed: nothing is asked on a connection that is closed, or on which something
// came that nobody asked for.
func TestAskDisturbed(t *testing.T) {
	for name, disturb := range map[string]func(far net.Conn) error{
		"a byte": func(far net.Conn) error { _, err := far.Write([]byte{0}); return err },
		"closed": func(far net.Conn) error { return far.(*net.TCPConn).CloseWrite() },
	} {
		near, far := socketPair(t)
		if err := disturb(far); err != nil {
			t.Fatalf("%s: got error %v, want none", name, err)
		}
		raw, err := near.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatalf("SyscallConn: got error %v, want none", err)
		}
		if err := raw.Read(func(fd uintptr) bool { // until it is here
			_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
			return !errors.Is(err, syscall.EAGAIN)
		}); err != nil {
			t.Fatalf("%s: got error %v, want none", name, err)
		}
		if written, err := NewInput(near).Ask([]byte("question")); written != 0 || !errors.Is(err, ErrUnasked) {
			t.Errorf("%s: got %d bytes written and error %v, want none and %v", name, written, err, ErrUnasked)
		}
		_ = near.Close()
		if got, _ := io.ReadAll(far); len(got) > 0 {
			t.Errorf("%s: other side got %q, want nothing", name, got)
		}
	}
}
