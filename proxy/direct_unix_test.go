//go:build unix

package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// TestDirectUnsolicited lets the FHIR server send something on, or close, a
// connection that nobody uses.
func TestDirectUnsolicited(t *testing.T) {
	for name, late := range map[string]string{
		"an answer": "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "408": "HTTP/1.1 408 T\r\nConnection: close\r\n\r\n", "a byte": "\n", "its end": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			conns := make(chan net.Conn, 10)
			s.upstream.answer = func(conn net.Conn, _ *received) bool {
				conns <- conn
				_, err := io.WriteString(conn, victimAnswer)
				return err == nil
			}
			for range 3 {
				if _, err := s.fetch("/first"); err != nil {
					t.Fatal(err)
				}
				conn := <-conns
				if late == "" {
					_ = conn.(*net.TCPConn).CloseWrite()
				} else if _, err := io.WriteString(conn, late); err != nil {
					t.Fatal(err)
				}
				s.direct().mu.Lock()
				idle := s.direct().idle[0]
				s.direct().mu.Unlock()
				s.eventually("it arrives", func() bool { return !isQuietPeek(t, idle.raw) })
				body, err := s.fetch("/victim")
				if body != "victim" || err != nil {
					t.Errorf("victim got %q, %v", body, err)
				}
				<-conns
				// Nothing was sent on the connection that was found bad.
				if first, second := s.upstream.got(), s.upstream.got(); first.conn == second.conn || second.line != "GET /victim HTTP/1.1" {
					t.Errorf("%q on connection %d, %q on %d", first.line, first.conn, second.line, second.conn)
				}
				s.direct().CloseIdleConnections()
			}
		})
	}
}

// isQuietPeek is isQuiet for who leaves everything as it was.
func isQuietPeek(t *testing.T, conn syscall.RawConn) (quiet bool) {
	t.Helper()
	if err := conn.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return quiet
}
