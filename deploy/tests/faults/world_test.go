package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// authority is an authorization server that counts who is being served.
type authority struct {
	*introspectiontest.Server
	url string
	// delay is the time.Duration that an introspection takes, so that calls meet
	// each other.
	delay atomic.Int64
	// closes is a path whose responses end with their connection: a connection that
	// closes late then matters.
	closes string

	mu     sync.Mutex
	active map[string]map[context.Context]bool // by path
	peak   map[string]int
}

func newAuthority(t *testing.T, cfg introspectiontest.Config) *authority {
	t.Helper()
	a := &authority{
		Server: introspectiontest.New(cfg),
		active: map[string]map[context.Context]bool{}, peak: map[string]int{},
	}
	a.delay.Store(int64(10 * time.Millisecond))
	// Large answers, so that a narrow line matters.
	pad := introspectiontest.Change(func(m map[string]any) { m["padding"] = strings.Repeat("x", 16<<10) })
	a.SetAnswer(pad)
	a.SetGrantAnswer(pad)
	server := httptest.NewServer(a)
	a.url = server.URL
	t.Cleanup(func() {
		a.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer a.enter(r)()
	if r.URL.Path == a.closes {
		w.Header().Set("Transfer-Encoding", "identity")
	}
	if r.URL.Path == introspectiontest.IntrospectionPath {
		time.Sleep(time.Duration(a.delay.Load()))
	}
	a.Server.ServeHTTP(w, r)
}

// enter counts a request until the function that it returns is called. One whose
// client has left is no longer a call: only this server doesn't know yet.
func (a *authority) enter(r *http.Request) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path, ctx := r.URL.Path, r.Context()
	if a.active[path] == nil {
		a.active[path] = map[context.Context]bool{}
	}
	a.active[path][ctx] = true
	now := 0
	for other := range a.active[path] {
		if other.Err() == nil {
			now++
		}
	}
	a.peak[path] = max(a.peak[path], now)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.active[path], ctx)
	}
}

// peakOf is the highest number of requests to a path at the same time.
func (a *authority) peakOf(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peak[path]
}

// grant makes a token active, for a patient of the same name and longer than any
// test.
func (a *authority) grant(token string) string {
	claims := a.Claims()
	claims["patient"], claims["exp"] = token, time.Now().AddDate(1, 0, 0).Unix()
	a.AddToken(token, claims)
	return token
}

// grantAll makes n tokens active and returns them.
func (a *authority) grantAll(prefix string, n int) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = a.grant(prefix + strconv.Itoa(i))
	}
	return tokens
}

// fhirServer answers with the patient it was told about, and counts what arrives.
type fhirServer struct {
	url string
	// closes makes answers end with their connection.
	closes bool

	mu       sync.Mutex
	arrivals map[int]int // of requests that create something, by number
}

func newFHIRServer(t *testing.T) *fhirServer {
	t.Helper()
	f := &fhirServer{arrivals: map[int]int{}}
	server := httptest.NewServer(f)
	f.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return f
}

func (f *fhirServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n, err := strconv.Atoi(r.URL.Query().Get("n")); err == nil {
		f.mu.Lock()
		f.arrivals[n]++
		f.mu.Unlock()
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client sees its connection break
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	if f.closes {
		w.Header().Set("Transfer-Encoding", "identity")
	}
	if size, err := strconv.Atoi(r.URL.Query().Get("size")); err == nil {
		stream(w, size)
		return
	}
	_, _ = fmt.Fprintf(w, `{"resourceType":"Patient","id":"%s"}`, r.Header.Get("X-Launch-Patient"))
}

// stream sends numbered lines, as a server that makes them while it sends.
func stream(w http.ResponseWriter, size int) {
	for line := 0; size > 0; line++ {
		n, err := fmt.Fprintf(w, "%0*d\n", 1023, line)
		if err != nil {
			return
		}
		size -= n
		_ = http.NewResponseController(w).Flush()
	}
}

// arrived is how often a request that creates something reached the server.
func (f *fhirServer) arrived(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.arrivals[n]
}

// forget is arrived for a test that makes more requests than one can remember.
func (f *fhirServer) forget(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	times := f.arrivals[n]
	delete(f.arrivals, n)
	return times
}

// twice returns the requests that reached the server more than once.
func (f *fhirServer) twice() (requests []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, times := range f.arrivals {
		if times > 1 {
			requests = append(requests, n)
		}
	}
	return requests
}

// forPatient tells what is wrong with an answer to a token that is active, or "".
func forPatient(r request, a *answer) string {
	if want := fmt.Sprintf(`{"resourceType":"Patient","id":"%s"}`, r.token); a.status != http.StatusOK || string(a.body) != want {
		return fmt.Sprintf("%d %.80q", a.status, a.body)
	}
	return ""
}

// read is the request of most loads. It is safe, so that a sidecar may send it
// again when a kept connection turns out to be closed.
func read(token string) request {
	return request{method: "GET", target: "/fhir/Patient", token: token}
}

// create is a request that must never be sent again. The FHIR server counts it by
// its number.
func create(n int, token string) request {
	return request{n: n, method: "POST", target: "/fhir/Task?n=" + strconv.Itoa(n), token: token, body: `{"resourceType":"Task"}`}
}
