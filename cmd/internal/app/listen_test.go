package app

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestClientPlaces(t *testing.T) {
	for descriptors, want := range map[int]int{0: 1, 34: 1, 36: 2, 64: 16, 1024: 496, manyDescriptors: 1<<20 - 16} {
		if got := clientPlaces(descriptors); got != want {
			t.Errorf("%d descriptors: %d places, want %d", descriptors, got, want)
		}
	}
}

// TestDataListener: the http.Server sees no connection as long as requests on it are
// canonical, unless the fast path is off.
func TestDataListener(t *testing.T) {
	for _, fast := range []bool{true, false} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("net.Listen: got error %v, want none", err)
		}
		var seen atomic.Int32
		server := &http.Server{
			Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
			ReadHeaderTimeout: patience, IdleTimeout: patience, ErrorLog: log.New(io.Discard, "", 0),
			ConnState: func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					seen.Add(1)
				}
			},
		}
		data, plain := dataListener(ln, server, 100, patience, fast)
		if fast != (plain != nil) {
			t.Errorf("fast path: got %v, want one: %t", plain, fast)
		}
		ended := make(chan error)
		go func() { ended <- server.Serve(data) }()
		transport := &http.Transport{MaxConnsPerHost: 1}
		client := &http.Client{Transport: transport}
		for _, c := range []struct {
			line string
			seen bool
		}{{"GET /", !fast}, {"HEAD /", !fast}, {"POST /", true}, {"GET /", true}} {
			method, target, _ := strings.Cut(c.line, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+ln.Addr().String()+target, nil)
			if err != nil {
				t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
			}
			res, err := client.Do(r)
			if err != nil || res.StatusCode != http.StatusNoContent {
				t.Fatalf("%s: got %v %v, want status 204", c.line, res, err)
			}
			_ = res.Body.Close()
			if got := seen.Load() > 0; got != c.seen {
				t.Errorf("fast path %t, after %s: the server has seen the connection: got %t, want %t", fast, c.line, got, c.seen)
			}
		}
		transport.CloseIdleConnections()
		_ = server.Close()
		<-ended
	}
}

// TestLimitedListener: a place that is given back twice is one place, and whoever
// waits for one learns that the listener is closed.
func TestLimitedListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	l := limit(ln, 1, 0)
	for range 2 {
		for range 2 {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatalf("net.Dial: got error %v, want none", err)
			}
			defer c.Close()
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatalf("l.Accept: got error %v, want none", err)
		}
		if len(l.places) != 1 {
			t.Errorf("got %d places taken, want 1", len(l.places))
		}
		if _, ok := c.(interface{ CloseWrite() error }); !ok {
			t.Error("got a connection that can't be closed for writing, want one that can")
		}
		_ = c.Close()
		if err := c.Close(); !errors.Is(err, net.ErrClosed) || len(l.places) != 0 {
			t.Errorf("closed twice: got error %v and %d places taken, want net.ErrClosed and none", err, len(l.places))
		}
	}
	if _, err := l.Accept(); err != nil {
		t.Fatalf("l.Accept: got error %v, want none", err)
	}
	failed := make(chan error)
	go func() {
		_, err := l.Accept()
		failed <- err
	}()
	_ = l.Close()
	select {
	case err := <-failed:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("got error %v, want net.ErrClosed", err)
		}
	case <-time.After(patience):
		t.Error("waits for a place at a closed listener, want an error")
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: got error %v, want none", err)
	}
}
