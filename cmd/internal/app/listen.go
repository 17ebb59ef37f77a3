package app

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// reservedDescriptors are kept for probes, scrapes, files and calls to the authorization
// server.
const reservedDescriptors = 32

// unlimitedDescriptors stand for no limit.
const unlimitedDescriptors = 1 << 21

// maxClientConns is how many connections clients may have, so that a flood of them
// doesn't take the descriptors that probes need: a kubelet that gets no response
// would end the process, and the flood find the next one. A request needs a second
// descriptor, for the FHIR server.
func maxClientConns(descriptors int) int { return max(1, (descriptors-reservedDescriptors)/2) }

// limitedListener accepts while it has places. Who comes later waits in the
// kernel's queue.
type limitedListener struct {
	net.Listener
	stall  time.Duration // of writing; 0: no bound
	places chan struct{}
	closed chan struct{}
	close  func() error
}

func limit(ln net.Listener, places int, stall time.Duration) *limitedListener {
	l := &limitedListener{Listener: ln, stall: stall, places: make(chan struct{}, places), closed: make(chan struct{})}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		return ln.Close()
	})
	return l
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	release := sync.OnceFunc(func() { <-l.places })
	c, err := l.Listener.Accept()
	if err != nil {
		release()
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		release()
		return c, nil
	}
	// What a client doesn't read waits in the kernel, which counts it as ours.
	_ = tcp.SetWriteBuffer(socketBuffer)
	_ = tcp.SetReadBuffer(socketBuffer)
	return &limitedConn{TCPConn: tcp, stall: l.stall, release: release}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error { return l.close() }

// socketBuffer is what the kernel keeps for a connection each way, in bytes. It
// doubles that for its own book-keeping.
const socketBuffer = 64 << 10

// pieceSize is what is written at a time: a client that takes less in all the time
// that it has makes no progress.
const pieceSize = 64 << 10

// limitedConn gives its place back. It stays a TCP connection, because net/http
// closes one for writing first, lest a reset destroy the last response.
type limitedConn struct {
	*net.TCPConn
	stall    time.Duration
	deadline time.Time // of writing
	release  func()
}

// Write implements net.Conn. Only the time counts in which something waits to be
// written.
func (c *limitedConn) Write(p []byte) (written int, err error) {
	for first := true; first || len(p) > 0; first = false {
		if err := c.postpone(); err != nil {
			return written, err
		}
		n, err := c.TCPConn.Write(p[:min(len(p), pieceSize)])
		written, p = written+n, p[n:]
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return written, err
		}
	}
	return written, nil
}

// postpone moves the deadline when it would come too soon. To do that for each write
// takes more time than a small one itself.
func (c *limitedConn) postpone() error {
	now := time.Now()
	if c.stall <= 0 || c.deadline.Sub(now) >= c.stall {
		return nil
	}
	c.deadline = now.Add(c.stall + c.stall/64)
	return c.SetWriteDeadline(c.deadline)
}

// ReadFrom implements io.ReaderFrom by Write: the kernel's way around it has no bound.
func (c *limitedConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.TCPConn.Close()
	c.release()
	return err
}
