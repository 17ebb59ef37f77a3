package fastpath

import (
	"net"
	"testing"
	"time"
)

// TestSecondWatcher: whoever would watch a client that is watched already doesn't, as two
// would lose what they read.
func TestSecondWatcher(t *testing.T) {
	const patience = 15 * time.Second
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	defer listener.Close()
	far, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatalf("net.Dial: got error %v, want none", err)
	}
	defer far.Close()
	near, err := listener.Accept()
	if err != nil {
		t.Fatalf("Accept: got error %v, want none", err)
	}
	c := newConn(New(Config{}), near)
	defer c.close()
	c.startWatching() // which begins one after a while
	watched := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.watch != nil
	}
	for end := time.Now().Add(patience); !watched(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody watches, want a watcher")
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watchClient()
	}()
	select {
	case <-done:
	case <-time.After(patience / 5):
		t.Error("a second one watches, want one")
	}
	c.stopWatching()
	<-done
}
