package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestHeadTimeout: the bound holds for the whole head, and for nothing after it.
func TestHeadTimeout(t *testing.T) {
	const bound = 200 * time.Millisecond
	drip := func(conn net.Conn, text string, every time.Duration) {
		for i := range len(text) {
			if _, err := conn.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(every)
		}
	}
	for _, tt := range []struct {
		name    string
		respond func(conn net.Conn)
		want    string // "" for the bound
	}{
		{"silence", func(net.Conn) {}, ""},
		{"half a line", func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 O") }, ""},
		{"half a head", func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n") }, ""},
		{"drop by drop", func(conn net.Conn) { drip(conn, okResponse, bound/4) }, ""},
		{"a slow body", func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
			drip(conn, "abcd", bound)
		}, "200 abcd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.serve = func(conn net.Conn, r *bufio.Reader, _ string) bool {
				tt.respond(conn)
				_, _ = io.Copy(io.Discard, r) // until the transport ends it
				return false
			}
			began := time.Now()
			got, err := fetched(s.transport(bound), s.outgoing(t.Context(), http.MethodGet, nil, 0))
			if got != tt.want || (tt.want == "") != errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %q, %v, want %q, and the deadline without it", got, err, tt.want)
			}
			if took := time.Since(began); took > patience/3 {
				t.Errorf("took %v, want about %v", took, bound)
			}
		})
	}
}

// TestHeadTimeoutOfKept: each head on a kept connection has the whole bound, and a
// server that is slow with it is not asked again.
func TestHeadTimeoutOfKept(t *testing.T) {
	const bound = 600 * time.Millisecond // a busy machine needs some of it
	s := newServer(t)
	n := 0
	s.serve = func(conn net.Conn, r *bufio.Reader, _ string) bool {
		if n++; n == 3 {
			_, _ = io.Copy(io.Discard, r)
			return false
		}
		_, err := io.WriteString(conn, okResponse)
		return err == nil
	}
	tr := s.transport(bound)
	for range 2 {
		if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); got != "200 {}" || err != nil {
			t.Fatalf("got %q, %v, want 200 {}", got, err)
		}
		<-time.After(bound + bound/10) // the first limit passes
	}
	if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v, want %v", got, err, os.ErrDeadlineExceeded)
	}
	if heads, conns := len(s.heads), len(s.conns); heads != 3 || conns != 1 {
		t.Errorf("got %d requests over %d connections, want 3 over 1", heads, conns)
	}
}

// TestNotKept: a connection of which it isn't certain that it carries nothing more is
// not used again.
func TestNotKept(t *testing.T) {
	for _, tt := range []struct {
		name, response string
		use            func(t *testing.T, res *Response, cancel func())
	}{
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", func(t *testing.T, res *Response, _ func()) {
			if _, err := io.ReadFull(res, make([]byte, 2)); err != nil {
				t.Errorf("io.ReadFull: got error %v, want none", err)
			}
		}},
		{"cancelled in the end", okResponse, func(t *testing.T, res *Response, cancel func()) {
			for res.c.in.Len() < 2 { // until all is here
				if err := res.c.in.Fill(); err != nil {
					t.Errorf("Fill: got error %v, want none", err)
				}
			}
			cancel()
			_, _ = io.Copy(io.Discard, res)
		}},
		{"to be closed", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", func(_ *testing.T, res *Response, _ func()) {
			_, _ = io.Copy(io.Discard, res)
		}},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", func(_ *testing.T, res *Response, _ func()) {
			_, _ = io.Copy(io.Discard, res)
		}},
	} {
		s := newServer(t)
		s.serve = func(conn net.Conn, _ *bufio.Reader, _ string) bool {
			_, err := io.WriteString(conn, tt.response)
			return err == nil
		}
		tr := s.transport(patience)
		ctx, cancel := context.WithCancel(t.Context())
		res, err := sent(tr, s.outgoing(ctx, http.MethodGet, nil, 0))
		if err != nil {
			t.Fatalf("%s: got error %v, want a response", tt.name, err)
		}
		tt.use(t, res, cancel)
		res.Close()
		cancel()
		if n := tr.idleCount(); n != 0 {
			t.Errorf("%s: got %d idle connections, want none", tt.name, n)
		}
	}
}

// TestIdleForLong: a connection that was idle for too long is not used again, even
// before somebody has come to close it.
func TestIdleForLong(t *testing.T) {
	s := newServer(t)
	tr := s.transport(patience)
	for want := 1; want <= 2; want++ {
		if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); got != "200 {}" || err != nil {
			t.Fatalf("got %q, %v, want 200 {}", got, err)
		}
		if n := len(s.conns); n != want {
			t.Errorf("got %d connections, want %d", n, want)
		}
		tr.idle.mu.Lock()
		tr.idle.conns[0].idleSince = time.Now().Add(-tr.idle.timeout)
		tr.idle.mu.Unlock()
	}
}

// TestAmbiguousResponses: E20, a response that can be read in two ways is none, and
// neither is one with bytes behind its end.
func TestAmbiguousResponses(t *testing.T) {
	for name, response := range map[string]string{
		"the same length twice":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
		"a bare line feed":       "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\n{}",
		"a folded line":          "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
		"a hint with a length":   "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"more than its length":   okResponse + "X",
		"another response":       okResponse + okResponse,
		"204 with a body":        "HTTP/1.1 204 No Content\r\n\r\n{}",
		"no length, and a body":  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{}",
		"304 with a body behind": "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			s := newServer(t)
			s.serve = func(conn net.Conn, _ *bufio.Reader, _ string) bool {
				_, err := io.WriteString(conn, response)
				return err == nil
			}
			tr := s.transport(patience)
			if got, err := fetched(tr, s.outgoing(t.Context(), method, nil, 0)); !errors.Is(err, errAmbiguous) {
				t.Errorf("%s, %s: got %q, %v, want %v", name, method, got, err, errAmbiguous)
			}
			if n := tr.idleCount(); n != 0 {
				t.Errorf("%s, %s: got %d idle connections, want none", name, method, n)
			}
		}
	}
}

// TestBegunIsNotRepeated: of a request to which a response has begun, another would
// have been the second.
func TestBegunIsNotRepeated(t *testing.T) {
	for _, begun := range []string{"H", "HTTP/1.1 200 O", "HTTP/1.1 103 Hints\r\n\r\n"} {
		s := newServer(t)
		n := 0
		s.serve = func(conn net.Conn, _ *bufio.Reader, _ string) bool {
			if n++; n == 2 {
				_, _ = io.WriteString(conn, begun)
				return false
			}
			_, err := io.WriteString(conn, okResponse)
			return err == nil
		}
		tr := s.transport(patience)
		if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); got != "200 {}" || err != nil {
			t.Fatalf("first: got %q, %v, want 200 {}", got, err)
		}
		if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); err == nil {
			t.Errorf("%q: got %q, want an error", begun, got)
		}
		if heads := len(s.heads); heads != 2 {
			t.Errorf("%q: server got %d requests, want 2", begun, heads)
		}
	}
}
