package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestBlackboxStalledBody: a request body that makes no progress ends with 408, one
// that trickles doesn't, and neither holds up the end of the process.
func TestBlackboxStalledBody(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a limit")
	}
	t.Parallel()
	w := start(t, env{"STALL_TIMEOUT": "1s", "SHUTDOWN_TIMEOUT": "10s"})
	post := func(length int) *conn {
		c := dial(t, w.data)
		_, _ = fmt.Fprintf(c, "POST /fhir/Patient HTTP/1.1\r\nHost: a\r\n%s\r\nContent-Length: %d\r\n\r\n{", good, length)
		return c
	}
	began := time.Now()
	a, err := post(1000).answer("POST")
	if err != nil {
		t.Fatalf("got error %v, want a response", err)
	}
	a.refused(t, 408, "timeout", "")
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Errorf("took %v, want a little more than 1s", took)
	}
	if !a.closed {
		t.Error("the connection stays open, want it closed")
	}
	eventually(t, "it is counted as the client's", func() bool {
		return w.metric(t, "introspection_sidecar_requests_total", `decision="client_closed"`, `code="4xx"`) == 1
	})
	slow := post(4)
	for range 3 {
		time.Sleep(700 * time.Millisecond)
		_, _ = io.WriteString(slow, "}")
	}
	if a, err := slow.answer("POST"); err != nil || a.status != 200 {
		t.Errorf("trickling body: got %v and error %v, want 200", a, err)
	}
	post(1000)
	began = time.Now()
	if code := w.terminate(t); code != 0 || time.Since(began) > 5*time.Second {
		t.Errorf("exit code %d after %v, want 0 as soon as the body has stalled", code, time.Since(began))
	}
}

// TestBlackboxStalledReader: a client that reads nothing of its response is broken
// off, and holds up nobody's end.
func TestBlackboxStalledReader(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a limit")
	}
	t.Parallel()
	w := start(t, env{"STALL_TIMEOUT": "1s"})
	w.up.bytesOn("/fhir/Patient", "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n"+strings.Repeat("x", 64<<20), false)
	c, err := net.Dial("tcp", w.data)
	if err != nil {
		t.Fatalf("net.Dial: got error %v, want none", err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, request("GET /fhir/Patient", good))
	eventually(t, "the request ends", func() bool {
		return w.metric(t, "introspection_sidecar_requests_total", `decision="client_closed"`)+
			w.metric(t, "introspection_sidecar_requests_total", `decision="allowed"`) > 0
	})
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, bufio.NewReader(c)); err == nil && n >= 64<<20 {
		t.Errorf("got all of the response, want it broken off")
	}
}
