package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"
)

// TestHasOneReading: E20, which heads have one reading.
func TestHasOneReading(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		head                 string
		final, informational bool
	}{
		{ok + "\r\n", true, true},
		{ok + "Content-Length: 2\r\n\r\n", true, false},
		{ok + "CONTENT-length:2\r\n\r\n", true, false},
		{ok + "Transfer-Encoding: chunked\r\n\r\n", true, false},
		{ok + "X-Content-Length: 2\r\nContent-Length-X: 2\r\nContent-Length: 2\r\n\r\n", true, false},
		{ok + "Content-Length: 2\r\ncontent-length: 2\r\n\r\n", false, false},
		{ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", false, false},
		{ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", false, false},
		{ok + "Content-Length : 2\r\n\r\n", false, false},
		{ok + "Transfer-Encoding\t: chunked\r\n\r\n", false, false},
		{ok + "X: y\n\r\n", false, false},
		{ok + "\n", false, false},
		{ok + "X: y\rz\r\n\r\n", false, false},
		{ok + "X: y\r\n z\r\n\r\n", false, false},
		{ok + "X: y\r\n\tz\r\n\r\n", false, false},
		{ok + "X: y\x00\r\n\r\n", false, false},
	} {
		if got := hasOneReading([]byte(tt.head), false); got != tt.final {
			t.Errorf("%q, final: %t", tt.head, got)
		}
		if got := hasOneReading([]byte(tt.head), true); got != tt.informational {
			t.Errorf("%q, informational: %t", tt.head, got)
		}
	}
}

// TestWatchedConn: E20, what http.Transport gets to see, however it comes in.
func TestWatchedConn(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, method, answer string
		fails                bool
	}{
		{"length", "POST", ok + "Content-Length: 2\r\n\r\n{}", false},
		{"part of the body", "POST", ok + "Content-Length: 200\r\n\r\n{}", false},
		{"chunked", "POST", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", false},
		{"until the end", "POST", ok + "\r\n{}", false},
		{"no head yet", "POST", ok + "Content-Le", false},
		{"informational", "POST", "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n{}", false},
		{"switch", "POST", "HTTP/1.1 101 Switch\r\n\r\nwhatever", false},
		{"HEAD", "HEAD", ok + "Content-Length: 200\r\n\r\n", false},
		{"two lengths", "POST", ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", true},
		{"informational with length", "POST", "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n{}", true},
		{"odd after informational", "POST", "HTTP/1.1 100 Continue\r\n\r\n" + ok + "X: y\nContent-Length: 2\r\n\r\n{}", true},
		{"two lengths after informational, two blanks", "POST", "HTTP/1.1  100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", true},
		{"bare line feeds", "POST", "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", true},
		{"more than the length", "POST", ok + "Content-Length: 2\r\n\r\n{}x", true},
		{"more than nothing", "POST", ok + "Content-Length: 0\r\n\r\nx", true},
		{"HEAD with a body", "HEAD", ok + "Content-Length: 1\r\n\r\nx", true},
		{"204 with a body", "POST", "HTTP/1.1 204 No\r\n\r\nx", true},
		{"304 with a body", "POST", "HTTP/1.1 304 No\r\nContent-Length: 1\r\n\r\nx", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A body that comes later can't be told from the next answer here.
			for _, size := range []int{len(tt.answer), len(tt.answer) - 1} {
				near, far := net.Pipe()
				defer near.Close()
				c := &watchedConn{Conn: near}
				c.begin(tt.method)
				go func() {
					defer far.Close()
					_, _ = io.WriteString(far, tt.answer[:size])
					_, _ = io.WriteString(far, tt.answer[size:])
				}()
				var got bytes.Buffer
				_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{c}, make([]byte, 4096))
				if size < len(tt.answer) && strings.HasSuffix(tt.answer, "x") {
					continue
				}
				if tt.fails != errors.Is(err, errAmbiguous) || !tt.fails && got.String() != tt.answer {
					t.Errorf("%v after %q", err, got.String())
				}
			}
		})
	}
}

// TestInterimAnswersAreBounded: I10, however many a FHIR server sends, and again
// for the next request on the connection.
func TestInterimAnswersAreBounded(t *testing.T) {
	hint := []byte("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n")
	c := &watchedConn{}
	for range 2 {
		c.begin("POST")
		for n := len(hint); n <= maxUpstreamHeader; n += len(hint) {
			if err := c.take(hint); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
		}
		if err := c.take(hint); !errors.Is(err, errHead) {
			t.Errorf("beyond the bound: %v", err)
		}
	}
}

// TestUnaskedAnswer: E20, an answer that was there before the request is another
// client's. http.Transport looks for one, but can't rule it out.
func TestUnaskedAnswer(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	rest := &http.Transport{}
	rest.RegisterProtocol("stale", roundTrip(func(r *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{Conn: &watchedConn{Conn: near}})
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("poison"))}, nil
	}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "stale://fhir.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := (&directTransport{rest: rest}).roundTripWatched(r); !errors.Is(err, errUnasked) {
		t.Errorf("got %v, %v", res, err)
	}
	_ = far.SetWriteDeadline(time.Now().Add(deadline))
	if _, err := far.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("connection lives on: %v", err)
	}
}
