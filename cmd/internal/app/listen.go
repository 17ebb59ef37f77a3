package app

import (
	"net"
	"net/http"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
)

// ownDescriptors are kept for probes, scrapes, files and calls to the authorization
// server.
const ownDescriptors = 32

// manyDescriptors stand for no limit.
const manyDescriptors = 1 << 21

// clientPlaces is how many connections clients may have, so that a flood of them
// doesn't take the descriptors that probes need: a kubelet that gets no answer
// would end the process, and the flood find the next one. A request needs a second
// descriptor, for the FHIR server.
func clientPlaces(descriptors int) int { return max(1, (descriptors-ownDescriptors)/2) }

// dataListener bounds the connections that clients may have. With fast, canonical
// requests on them are answered before server sees them: then there is a fast path
// to wait for at the end.
func dataListener(ln net.Listener, server *http.Server, fast bool) (net.Listener, *fastpath.Listener) {
	ln = limit(ln, clientPlaces(descriptorLimit()))
	if !fast {
		return ln, nil
	}
	plain := fastpath.New(ln, server)
	return plain, plain
}

// limitedListener accepts while it has places. Who comes later waits in the
// kernel's queue.
type limitedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	close  func() error
}

func limit(ln net.Listener, places int) *limitedListener {
	l := &limitedListener{Listener: ln, places: make(chan struct{}, places), closed: make(chan struct{})}
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
	leave := sync.OnceFunc(func() { <-l.places })
	c, err := l.Listener.Accept()
	if err != nil {
		leave()
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		leave()
		return c, nil
	}
	return &placedConn{tcp, leave}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error { return l.close() }

// placedConn gives its place back. It stays a TCP connection, because net/http
// closes one for writing first, lest a reset destroys the last answer.
type placedConn struct {
	*net.TCPConn
	leave func()
}

// Close implements net.Conn.
func (c *placedConn) Close() error {
	err := c.TCPConn.Close()
	c.leave()
	return err
}
