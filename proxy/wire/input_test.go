package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// patience is far beyond what any test takes; it only ends one that hangs.
const inputPatience = 15 * time.Second

// socketPair returns two ends of a TCP connection.
func socketPair(tb testing.TB) (near, far net.Conn) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("net.Listen: got error %v, want none", err)
	}
	defer listener.Close()
	if far, err = net.Dial("tcp", listener.Addr().String()); err == nil {
		near, err = listener.Accept()
	}
	if err != nil {
		tb.Fatalf("connection: got error %v, want none", err)
	}
	tb.Cleanup(func() { _, _ = near.Close(), far.Close() })
	_, _ = near.SetDeadline(time.Now().Add(inputPatience)), far.SetDeadline(time.Now().Add(inputPatience))
	return near, far
}

// plainConn hides that a connection is a socket, as TLS does.
type plainConn struct{ net.Conn }

// TestInput: bytes come in their order, whatever the connection is and however much of
// them is taken at a time.
func TestInput(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 3*InputSize/16)
	for name, hide := range map[string]bool{"socket": false, "no socket": true} {
		near, far := socketPair(t)
		if hide {
			near = plainConn{near}
		}
		in := NewInput(near)
		go func() {
			_, _ = io.WriteString(far, text)
			_ = far.Close()
		}()
		var got bytes.Buffer
		var err error
		for size := 1; err == nil; size = size*3 + 1 {
			if err = in.Fill(); err == nil {
				n := min(size, in.Len())
				got.Write(in.Bytes()[:n])
				in.Take(n)
			}
			buffer := make([]byte, size)
			n, _ := in.Read(buffer, in.Len() == 0)
			got.Write(buffer[:n])
			in.Release()
		}
		got.Write(in.Bytes())
		if !errors.Is(err, io.EOF) || got.String() != text {
			t.Errorf("%s: got %d bytes and error %v, want %d, the same, and the end", name, got.Len(), err, len(text))
		}
	}
}

// TestInputPoll: what hasn't come is not waited for.
func TestInputPoll(t *testing.T) {
	near, far := socketPair(t)
	in := NewInput(near)
	if more, err := in.Poll(); more || err != nil || in.buffer != nil {
		t.Errorf("nothing has come: got %t, %v, %d bytes of memory, want false, none and none", more, err, len(in.buffer))
	}
	if n, err := in.Read(make([]byte, 1), false); n != 0 || err != nil {
		t.Errorf("nothing has come: got %d bytes, %v, want none", n, err)
	}
	_, _ = io.WriteString(far, "ab")
	if err := in.Fill(); err != nil || string(in.Bytes()) != "ab" {
		t.Errorf("got %q, %v, want ab", in.Bytes(), err)
	}
	in.Drop()
	_ = far.Close()
	if err := in.Fill(); !errors.Is(err, io.EOF) {
		t.Errorf("closed: got %v, want %v", err, io.EOF)
	}
	if more, err := in.Poll(); more || !errors.Is(err, io.EOF) {
		t.Errorf("closed: got %t, %v, want %v", more, err, io.EOF)
	}
}

// TestInputDeadline: a read ends with its deadline, and says so as any other.
func TestInputDeadline(t *testing.T) {
	near, _ := socketPair(t)
	in := NewInput(near)
	_ = near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	err := in.Fill()
	var operation *net.OpError
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &operation) || operation.Op != "read" || in.buffer != nil {
		t.Errorf("got %v and %d bytes of memory, want the deadline of a read and none", err, len(in.buffer))
	}
}

// TestInputForgets: nothing that was read is in memory that others get.
func TestInputForgets(t *testing.T) {
	for name, end := range map[string]func(*Input){
		"taken and released": func(in *Input) { in.Take(in.Len()); in.Release() },
		"dropped":            func(in *Input) { in.Take(2); in.Drop() },
		"grown": func(in *Input) {
			for in.Len() <= InputSize {
				if err := in.Fill(); err != nil {
					t.Fatalf("Fill: got error %v, want none", err)
				}
			}
		},
	} {
		near, far := socketPair(t)
		in := NewInput(near)
		go func() { _, _ = io.WriteString(far, strings.Repeat("secret", InputSize/3)) }()
		if err := in.Fill(); err != nil {
			t.Fatalf("Fill: got error %v, want none", err)
		}
		pooled := in.pooled
		if end(in); *pooled != [InputSize]byte{} {
			t.Errorf("%s: got %.20q in the pool, want nothing", name, bytes.TrimLeft(pooled[:], "\x00"))
		}
	}
	near, far := socketPair(t)
	in := NewInput(near)
	_, _ = io.WriteString(far, "secret, kept")
	if err := in.Fill(); err != nil {
		t.Fatalf("Fill: got error %v, want none", err)
	}
	in.Take(8)
	in.Release()
	if string(in.Bytes()) != "kept" || bytes.Contains(in.buffer, []byte("secret")) {
		t.Errorf("got %q of %.20q, want only what nobody has taken", in.Bytes(), in.buffer)
	}
}
