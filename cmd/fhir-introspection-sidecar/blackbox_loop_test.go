package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// relay passes connections on to an address that is set later, as a Service does.
type relay struct {
	net.Listener
	target atomic.Pointer[string]
}

func newRelay(t *testing.T) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	r := &relay{Listener: ln}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	return r
}

func (r *relay) pass(c net.Conn) {
	defer c.Close()
	far, err := net.Dial("tcp", *r.target.Load())
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		_, _ = io.Copy(far, c)
		_ = far.Close()
	}()
	_, _ = io.Copy(c, far)
}

// M10: an address that leads back to the sidecar, at once or by another one, ends
// in a refusal that says so, and the FHIR server of nobody gets anything.
func TestBlackboxLoop(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]int{"itself": 1, "two replicas": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			back := newRelay(t)
			w := start(t, env{"UPSTREAM_URL": "http://" + back.Addr().String() + "/fhir"})
			last := w
			if replicas == 2 {
				last = start(t, env{"UPSTREAM_URL": "http://" + w.data + "/fhir"})
			}
			back.target.Store(&last.data)
			for _, line := range []string{"GET /fhir/metadata", "GET /fhir/Patient", "POST /fhir/Patient"} {
				a := w.ask(t, line, good, "Content-Length: 0")
				a.refused(t, http.StatusLoopDetected, "processing", "")
			}
			eventually(t, "it is logged", func() bool { return strings.Count(w.stdout.String(), "request came back: ") == 3 })
			eventually(t, "six requests: three, and each once more", func() bool { return w.metric(t, "introspection_sidecar_requests_total") == 6 })
			if w.up.count()+last.up.count() > 0 {
				t.Errorf("FHIR servers got %d requests, want none", w.up.count()+last.up.count())
			}
		})
	}
}
