package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestBlackboxAbandoned: clients that send junk and leave at once, far more of them
// than the authorization server can answer, keep nobody from a verdict.
func TestBlackboxAbandoned(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for clients to be missed")
	}
	t.Parallel()
	as := introspectiontest.NewServer(t)
	w := startWith(t, as, env{"MAX_INTROSPECTIONS": "4", "INTROSPECTION_TIMEOUT": "2s"})
	as.SetAnswer(introspectiontest.Delay(50*time.Millisecond, nil)) // 80 a second
	stop := make(chan struct{})
	var flood sync.WaitGroup
	defer func() { close(stop); flood.Wait() }()
	for i := range 4 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", w.data)
				if err != nil {
					continue
				}
				_, _ = io.WriteString(c, request("GET /fhir/Patient", bearer(fmt.Sprintf("junk-%d-%d", i, n))))
				time.Sleep(3 * time.Millisecond)
				if n%2 == 0 { // a reset; otherwise nobody can tell whether it waits for its response
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
			}
		})
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); { // more than the timeout, or no queue would be full
		token := fmt.Sprint("good", time.Now().UnixNano())
		as.AddToken(token, nil)
		w.ask(t, "GET /fhir/Patient", bearer(token)).is(t, 200)
	}
}
