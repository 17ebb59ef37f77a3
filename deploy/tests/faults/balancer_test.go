package faults

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// probeInterval is how often the balancer looks at /readyz.
const probeInterval = 100 * time.Millisecond

// balancer hands TCP connections to the sidecars that are ready, at random. A
// connection stays where it is for as long as either side keeps it.
type balancer struct {
	listener net.Listener
	work     sync.WaitGroup
	done     chan struct{}

	mu       sync.Mutex
	backends map[*sidecar]bool // and whether new connections go there
	conns    map[net.Conn]bool
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{
		listener: listener, done: make(chan struct{}),
		backends: map[*sidecar]bool{}, conns: map[net.Conn]bool{},
	}
	b.work.Go(b.accept)
	b.work.Go(b.probe)
	t.Cleanup(b.close)
	return b
}

func (b *balancer) address() string { return b.listener.Addr().String() }

func (b *balancer) close() {
	close(b.done)
	_ = b.listener.Close()
	b.mu.Lock()
	for conn := range b.conns {
		_ = conn.Close()
	}
	b.mu.Unlock()
	b.work.Wait()
}

// add makes a sidecar that is ready take part.
func (b *balancer) add(s *sidecar) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends[s] = true
}

func (b *balancer) remove(s *sidecar) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.backends, s)
}

func (b *balancer) probe() {
	// A slow answer doesn't count as none: the machine is busy.
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case <-b.done:
			return
		case <-time.After(probeInterval):
		}
		for _, s := range b.all() {
			ready := isReady(client, s.admin)
			b.mu.Lock()
			if _, there := b.backends[s]; there {
				b.backends[s] = ready
			}
			b.mu.Unlock()
		}
	}
}

// all returns the sidecars in no order.
func (b *balancer) all() (list []*sidecar) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.backends {
		list = append(list, s)
	}
	return list
}

func (b *balancer) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.work.Go(func() { b.serve(conn) })
	}
}

// dial connects to a sidecar that was ready when it was last asked, and to another
// one if that is gone.
func (b *balancer) dial() net.Conn {
	for _, s := range b.all() {
		b.mu.Lock()
		ready := b.backends[s]
		b.mu.Unlock()
		if !ready {
			continue
		}
		if conn, err := net.DialTimeout("tcp", s.data, patience); err == nil {
			return conn
		}
	}
	return nil
}

func (b *balancer) serve(client net.Conn) {
	server := b.dial()
	if server == nil {
		_ = client.Close() // the client sees it, and the test fails
		return
	}
	b.mu.Lock()
	b.conns[client], b.conns[server] = true, true
	b.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
	b.mu.Lock()
	delete(b.conns, client)
	delete(b.conns, server)
	b.mu.Unlock()
	_ = client.Close()
	_ = server.Close()
}

// pass copies to the end, and passes that on too.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
