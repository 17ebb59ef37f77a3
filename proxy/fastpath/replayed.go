package fastpath

import "net"

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	first []byte
}

// NetConn returns the connection itself, as tls.Conn does.
func (r *replayed) NetConn() net.Conn { return r.Conn }

// CloseWrite is what http.Server calls before Close, lest a reset destroys the last
// response.
func (r *replayed) CloseWrite() error { return closeWrite(r.Conn) }

func closeWrite(c net.Conn) error {
	if closer, ok := c.(interface{ CloseWrite() error }); ok {
		return closer.CloseWrite()
	}
	return nil
}

// Read implements net.Conn.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	if r.first = r.first[n:]; len(r.first) == 0 {
		r.first = nil
	}
	return n, nil
}
