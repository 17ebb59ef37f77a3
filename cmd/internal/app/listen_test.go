package app

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

func TestClientPlaces(t *testing.T) {
	for descriptors, want := range map[int]int{0: 1, 34: 1, 36: 2, 64: 16, 1024: 496, unlimitedDescriptors: 1<<20 - 16} {
		if got := maxClientConns(descriptors); got != want {
			t.Errorf("%d descriptors: %d places, want %d", descriptors, got, want)
		}
	}
}

// TestFastServer: there is a fast path unless it is off.
func TestFastServer(t *testing.T) {
	for _, on := range []bool{true, false} {
		settings := &config.Config{Settings: &config.Settings{}}
		settings.FastPath = on
		sc := &sidecar{settings: settings}
		if fast := sc.fastServer(&http.Server{}); on != (fast != nil) {
			t.Errorf("got %v, want one: %t", fast, on)
		}
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
