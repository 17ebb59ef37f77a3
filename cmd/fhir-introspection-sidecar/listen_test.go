package main

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os/exec"
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
// plain, unless it speaks TLS.
func TestDataListener(t *testing.T) {
	for _, tls := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
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
		data, plain := dataListener(ln, server, tls)
		if tls != (plain == nil) {
			t.Errorf("TLS %t, fast path %v", tls, plain)
		}
		ended := make(chan error)
		go func() { ended <- server.Serve(data) }()
		client := dial(t, ln.Addr().String())
		for _, c := range []struct {
			line string
			seen bool
		}{{"GET /", tls}, {"HEAD /", tls}, {"POST /", true}, {"GET /", true}} {
			if a, err := client.do(request(c.line)); err != nil || a.status != http.StatusNoContent {
				t.Errorf("%s: %v %v", c.line, err, a)
			}
			if got := seen.Load() > 0; got != c.seen {
				t.Errorf("TLS %t, after %s: the server has seen the connection: %t", tls, c.line, got)
			}
		}
		_ = server.Close()
		<-ended
	}
}

// TestLimitedListener: a place that is given back twice is one place, and whoever
// waits for one learns that the listener is closed.
func TestLimitedListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limit(ln, 1)
	for range 2 {
		for range 2 {
			dial(t, ln.Addr().String())
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if len(l.places) != 1 {
			t.Errorf("%d places taken", len(l.places))
		}
		if _, ok := c.(interface{ CloseWrite() error }); !ok {
			t.Error("the connection can't be closed for writing")
		}
		_ = c.Close()
		if err := c.Close(); !errors.Is(err, net.ErrClosed) || len(l.places) != 0 {
			t.Errorf("closed twice: %v, %d places taken", err, len(l.places))
		}
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
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
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("waits for a place at a closed listener")
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// J06: with few descriptors and many clients, probes are answered throughout, those
// who have a place are served, and when clients leave the others are.
func TestBlackboxFewDescriptors(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("prlimit isn't there")
	}
	w := startLimited(t, "prlimit", "--nofile=64:64")
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	var clients []*conn
	for range 200 {
		clients = append(clients, dial(t, w.data))
	}
	first := clients[0]
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if a := w.get(t, path); a.status != 200 {
			t.Errorf("%s: %d while clients flood", path, a.status)
		}
	}
	if a, err := first.do(request("GET /fhir/Patient", good)); err != nil || a.status != 200 {
		t.Errorf("who has a place: %v %v", a, err)
	}
	if open := w.metric(t, "process_open_fds"); open > 60 {
		t.Errorf("%v of 64 descriptors are open", open)
	}
	last := clients[len(clients)-1]
	if _, err := io.WriteString(last, request("GET /fhir/Patient", good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients[:len(clients)-1] {
		_ = c.Close()
	}
	if a, err := last.answer("GET"); err != nil || a.status != 200 {
		t.Errorf("who waited: %v %v", a, err)
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if strings.Contains(w.stdout.String(), "too many open files") {
		t.Error("descriptors ran out")
	}
}

// startLimited starts a sidecar by a program that takes it as its last arguments.
func startLimited(t *testing.T, prefix ...string) *world {
	t.Helper()
	return startPrepared(t, nil, func(cmd *exec.Cmd) {
		path, err := exec.LookPath(prefix[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(append(prefix, cmd.Path), cmd.Args[1:]...)
		cmd.Path = path
	})
}
