package fastpath

import (
	"net"
	"net/http"
	"reflect"
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

// TestTurnForgets finds that nothing of a request is in memory that others get, and that
// those get none of a request with a body, which may be read longer.
func TestTurnForgets(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := newConn(New(Config{}), near)
	defer c.close()
	for text, again := range map[string]bool{
		"GET /secret HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n":     true,
		"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\n":          false,
		"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n": false,
	} {
		used := newTurn()
		if !used.head.parse(text) {
			t.Fatalf("%q: got another form, want the canonical one", text)
		}
		used.exchange.begin(c, &used.head)
		used.exchange.status = http.StatusOK
		used.end()
		if empty := reflect.ValueOf(used).Elem().IsZero(); empty != again {
			t.Errorf("%q: got memory cleared for others: %t, want %t", text, empty, again)
		}
		if !again && newTurn() == used {
			t.Errorf("%q: another request got the memory, want none to", text)
		}
	}
}
