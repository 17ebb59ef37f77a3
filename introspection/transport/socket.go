package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// socket is a TCP connection that can also be read without waiting.
type socket struct {
	*net.TCPConn
	atOnce bool // while disturbance looks
}

// errNothing says that nothing is there. It is temporary, so that TLS
// goes on with the half of a record that it may have got.
var errNothing net.Error = nothingYet{}

type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing to read yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if s.atOnce {
		return readAtOnce(s.TCPConn, p)
	}
	return s.TCPConn.Read(p)
}

// disturbance says why nothing may be asked on a connection: the other side has closed
// it, or sent something on it for the application; session tickets of TLS are no
// response. A server of TLS 1.3 that wants another client certificate says so here,
// after its handshake. It doesn't wait. A byte that it reads is lost, but so is the
// connection.
func disturbance(conn net.Conn) error {
	s := socketOf(conn)
	if s == nil {
		return nil
	}
	s.atOnce = true
	defer func() { s.atOnce = false }()
	var b [1]byte
	n, err := conn.Read(b[:])
	switch {
	case n > 0 || err == nil:
		return errUnasked
	case errors.Is(err, errNothing):
		return nil
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// socketOf returns what is below TLS, if there is any.
func socketOf(conn net.Conn) *socket {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	s, _ := conn.(*socket)
	return s
}

// hangUp closes a connection so that no port waits: at a thousand calls a second
// the minute of TIME-WAIT would use up all of them (RFC 9293 §3.6.1). Everything
// that was asked for has arrived, or is not wanted any more.
func hangUp(conn net.Conn) {
	if s := socketOf(conn); s != nil {
		_ = s.SetLinger(0)
		_ = s.Close() // TLS would first say goodbye, and wait when that isn't read
		return
	}
	_ = conn.Close()
}
