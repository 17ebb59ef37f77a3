package wire

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// InputSize is how many bytes an Input takes before it has to grow.
const InputSize = 16 << 10

var inputs = sync.Pool{New: func() any { return new([InputSize]byte) }}

// errNothing says that nothing has come yet.
var errNothing = errors.New("nothing to read yet")

// ErrUnasked says that a connection is at its end, or that something came on it that
// nobody has asked for.
var ErrUnasked = errors.New("connection is closed or disturbed")

// Input reads from a connection and keeps what nobody has taken yet. While it waits for
// something it holds no memory, and what it gives back to others is cleared: these bytes
// are tokens and patients' data. It is for one goroutine at a time.
type Input struct {
	conn   net.Conn
	raw    syscall.RawConn       // nil: only conn can be read
	pooled *[InputSize]byte      // under buffer; nil: it isn't
	buffer []byte                // nil: there is nothing
	r, w   int                   // what nobody has taken
	high   int                   // of the buffer, what was used
	step   func(fd uintptr) bool // is attempt

	// Of the read under way:
	target   []byte // nil: the buffer's free part
	question []byte // to be written first; nil: nothing
	asked    int    // of it
	waits    bool   // for something to come
	n        int
	err      error
}

// NewInput returns an Input for a connection, which is read directly where it is a
// socket.
func NewInput(conn net.Conn) *Input {
	in := &Input{conn: conn}
	in.step = in.attempt
	if s, ok := conn.(syscall.Conn); ok && canRead {
		if raw, err := s.SyscallConn(); err == nil {
			in.raw = raw
		}
	}
	return in
}

// Bytes returns what nobody has taken, until the next call.
func (in *Input) Bytes() []byte { return in.buffer[in.r:in.w] }

// Len is how many bytes that are.
func (in *Input) Len() int { return in.w - in.r }

// Take takes the first n of them.
func (in *Input) Take(n int) {
	if in.r += n; in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// Fill waits until there are more.
func (in *Input) Fill() error { return in.fill(true) }

// Ask writes b, which nothing on the connection may precede, and waits for what comes then.
// It reports how much of b it wrote, which is nothing beside ErrUnasked. The connection
// must be one that is read directly.
func (in *Input) Ask(b []byte) (written int, err error) {
	in.question, in.asked = b, 0
	err = in.fill(true)
	written = in.asked
	if in.question = nil; err != nil || written == len(b) {
		return written, err
	}
	n, err := in.conn.Write(b[written:]) // waits for room
	if written += n; err == nil {
		err = in.fill(true)
	}
	return written, err
}

// ask writes what the socket has room for. It reports whether that was all.
func (in *Input) ask(fd uintptr) (all bool) {
	var b [1]byte
	if _, err := readSocket(fd, b[:]); err != errNothing { //nolint:errorlint // it comes as it is
		in.err = ErrUnasked
		return false
	}
	n, err := writeSocket(fd, in.question)
	in.asked, in.err = n, in.operationError("write", err)
	all = in.asked == len(in.question)
	in.question = nil
	return all
}

// Poll gets more if they are there. It reports whether that can't be known, or is so.
func (in *Input) Poll() (more bool, err error) {
	if in.raw == nil {
		return false, nil
	}
	if err = in.fill(false); errors.Is(err, errNothing) {
		return false, nil
	}
	return err == nil, err
}

// Read takes some of the bytes, and waits for them if there are none. It waits for
// nothing when wait is false: then there may be none.
func (in *Input) Read(p []byte, wait bool) (n int, err error) {
	if in.r < in.w {
		n = copy(p, in.buffer[in.r:in.w])
		in.Take(n)
		return n, nil
	}
	if !wait && in.raw == nil {
		return 0, nil
	}
	n, err = in.read(p, wait)
	if errors.Is(err, errNothing) {
		err = nil
	}
	return n, err
}

// Release gives the memory back. Bytes that nobody has taken keep theirs.
func (in *Input) Release() {
	if in.r < in.w {
		clear(in.buffer[:in.r])
		clear(in.buffer[in.w:in.high])
		in.high = in.w
		return
	}
	in.drop()
}

// Drop gives the memory back, and what nobody has taken with it.
func (in *Input) Drop() {
	in.r, in.w = 0, 0
	in.drop()
}

func (in *Input) drop() {
	clear(in.buffer[:in.high])
	if in.pooled != nil {
		inputs.Put(in.pooled)
	}
	in.pooled, in.buffer, in.high = nil, nil, 0
}

func (in *Input) fill(wait bool) error {
	if in.raw == nil && in.buffer == nil {
		return in.fillFirst()
	}
	if in.buffer != nil {
		in.makeRoom()
	}
	n, err := in.read(nil, wait)
	in.w += n
	in.high = max(in.high, in.w)
	return err
}

// fillFirst waits for a byte before it takes memory for more.
func (in *Input) fillFirst() error {
	var first [1]byte
	n, err := in.conn.Read(first[:])
	if n > 0 {
		in.begin()
		in.w = copy(in.buffer, first[:])
		in.high = in.w
	}
	return err
}

// begin gets memory.
func (in *Input) begin() {
	in.pooled, _ = inputs.Get().(*[InputSize]byte)
	in.buffer, in.high = in.pooled[:], 0
}

// makeRoom makes a part of the buffer free.
func (in *Input) makeRoom() {
	if in.w < len(in.buffer) {
		return
	}
	if in.r > 0 {
		in.w = copy(in.buffer, in.buffer[in.r:in.w])
		in.r = 0
		return
	}
	larger := make([]byte, 2*len(in.buffer))
	n := copy(larger, in.buffer)
	in.drop()
	in.buffer, in.high = larger, n
}

// read reads into p, or into the free part of the buffer.
func (in *Input) read(p []byte, wait bool) (int, error) {
	if in.raw == nil {
		if p == nil {
			p = in.buffer[in.w:]
		}
		return in.conn.Read(p)
	}
	in.target, in.waits, in.n, in.err = p, wait, 0, nil
	err := in.raw.Read(in.step)
	in.target = nil
	if err == nil {
		err = in.err
	}
	if operation, ok := err.(*net.OpError); ok && operation.Op == "raw-read" { //nolint:errorlint // it comes as it is
		operation.Op = "read" // as of any other one
	}
	return in.n, err
}

// attempt reads what there is. False waits.
func (in *Input) attempt(fd uintptr) bool {
	if in.question != nil {
		// Whatever comes from now on ends the wait, so that to look at once would be vain.
		return !in.ask(fd)
	}
	p, empty := in.target, in.buffer == nil
	if p == nil {
		if empty {
			in.begin()
		}
		p = in.buffer[in.w:]
	}
	in.n, in.err = readSocket(fd, p)
	if in.n == 0 && in.target == nil && empty {
		in.drop()
	}
	if in.err == errNothing { //nolint:errorlint // it comes as it is
		return !in.waits
	}
	in.err = in.operationError("read", in.err)
	return true
}

// operationError makes an error of a system call one of package net.
func (in *Input) operationError(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // it comes as it is
		return &net.OpError{Op: op, Net: "tcp", Source: in.conn.LocalAddr(), Addr: in.conn.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
	}
	return err
}
