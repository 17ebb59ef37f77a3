package faults

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// request is one of a client.
type request struct {
	n                           int // of a request that creates something
	method, target, token, body string
}

// answer is one of the sidecar, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// client has one connection and sends one request at a time. It never sends one
// twice, as net/http's client would, so that whatever gets lost is seen.
type client struct {
	address string
	tls     *tls.Config // nil: plain HTTP
	brief   bool        // a connection for each request
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) do(r request) (*answer, error) {
	began := time.Now()
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			return nil, err
		}
		if c.tls != nil {
			conn = tls.Client(conn, c.tls)
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	a, kept, err := c.exchange(r)
	if err != nil || !kept || c.brief {
		c.close()
	}
	if err != nil {
		return nil, err
	}
	a.took = time.Since(began)
	return a, nil
}

func (c *client) exchange(r request) (a *answer, kept bool, err error) {
	_ = c.conn.SetDeadline(time.Now().Add(2 * patience))
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: fhir.example\r\n", r.method, r.target)
	if r.token != "" {
		head = fmt.Appendf(head, "Authorization: Bearer %s\r\n", r.token)
	}
	if r.body != "" {
		head = fmt.Appendf(head, "Content-Type: application/fhir+json\r\nContent-Length: %d\r\n", len(r.body))
	}
	if _, err := c.conn.Write(append(append(head, "\r\n"...), r.body...)); err != nil {
		return nil, false, err
	}
	res, err := http.ReadResponse(c.reader, &http.Request{Method: r.method})
	if err != nil {
		return nil, false, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, false, err
	}
	return &answer{status: res.StatusCode, header: res.Header, body: body}, !res.Close, nil
}

// atOnce sends all requests at the same time, each on a connection of its own.
func atOnce(t *testing.T, address string, requests []request) []*answer {
	t.Helper()
	answers := make([]*answer, len(requests))
	var wg sync.WaitGroup
	for i, r := range requests {
		wg.Go(func() {
			c := &client{address: address}
			defer c.close()
			a, err := c.do(r)
			if err != nil {
				t.Errorf("%s %s: %v", r.method, r.target, err)
				a = &answer{}
			}
			answers[i] = a
		})
	}
	wg.Wait()
	return answers
}

// know makes the sidecar ask about the tokens, which must all be active.
func (s *sidecar) know(t *testing.T, tokens []string) {
	t.Helper()
	requests := make([]request, len(tokens))
	for i, token := range tokens {
		requests[i] = read(token)
	}
	for i, a := range atOnce(t, s.data, requests) {
		if wrong := forPatient(requests[i], a); wrong != "" {
			t.Fatalf("%s: %s", tokens[i], wrong)
		}
	}
}

// isRefusal tells what is wrong with a refusal of the sidecar, or "".
func isRefusal(a *answer, status int) string {
	switch {
	case a.status != status:
		return fmt.Sprintf("status %d instead of %d", a.status, status)
	case !bytes.Contains(a.body, []byte(`"resourceType":"OperationOutcome"`)):
		return "no OperationOutcome"
	case status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "":
		return "no Retry-After"
	}
	return ""
}

// load is a stream of requests at a fixed rate, or as near to it as the machine
// gets.
type load struct {
	address string
	tls     *tls.Config
	brief   bool
	workers int // each with a connection of its own
	rate    int // requests a second of all of them; 0: as many as they get through
	request func(n int) request
	fault   func(request, *answer) string // what is wrong with a response, or ""
}

// tally is what became of a load.
type tally struct {
	requests, bad int
	statuses      map[int]int
	slowest       time.Duration
	first         []string // of what was bad
}

func (y *tally) String() string {
	return fmt.Sprintf("%d requests, %d bad, statuses %v, slowest %v", y.requests, y.bad, y.statuses, y.slowest.Round(time.Millisecond))
}

// none fails the test unless everything went well.
func (y *tally) none(t *testing.T, what string) {
	t.Helper()
	if y.requests == 0 {
		t.Errorf("%s: no requests, so nothing is shown", what)
	}
	if y.bad > 0 {
		t.Errorf("%s: %v: %q", what, y, y.first)
	}
}

// start begins to send. The function it returns ends that, after the responses to
// what was sent, and tells what became of it.
func (l load) start() (stop func() *tally) {
	result := &tally{statuses: map[int]int{}}
	done := make(chan struct{})
	var (
		mu   sync.Mutex
		next int
		wg   sync.WaitGroup
	)
	began := time.Now()
	for range l.workers {
		wg.Go(func() {
			c := &client{address: l.address, tls: l.tls, brief: l.brief}
			defer c.close()
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				pause := time.Duration(0)
				if l.rate > 0 {
					pause = time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(l.rate)))
				}
				select {
				case <-done:
					return
				case <-time.After(pause):
				}
				r := l.request(n)
				a, err := c.do(r)
				mu.Lock()
				result.add(r, a, err, l.fault)
				mu.Unlock()
			}
		})
	}
	return func() *tally {
		close(done)
		wg.Wait()
		return result
	}
}

func (y *tally) add(r request, a *answer, err error, fault func(request, *answer) string) {
	y.requests++
	var wrong string
	if err != nil {
		wrong = err.Error()
	} else {
		y.statuses[a.status]++
		y.slowest = max(y.slowest, a.took)
		wrong = fault(r, a)
	}
	if wrong == "" {
		return
	}
	y.bad++
	if len(y.first) < 5 {
		y.first = append(y.first, fmt.Sprintf("%s %s: %s", r.method, r.target, wrong))
	}
}

// run sends for a while.
func (l load) run(d time.Duration) *tally {
	stop := l.start()
	time.Sleep(d)
	return stop()
}
