package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers with the body it read, by length or chunks.
func echo(conn net.Conn, r *bufio.Reader, head string) bool {
	request, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
	if err != nil {
		return false
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return false
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return err == nil
}

// TestBodies: a body arrives whole, whatever says where it ends, and the
// connection is used again.
func TestBodies(t *testing.T) {
	s := newServer(t)
	s.serve = echo
	tr := s.transport(patience)
	large := strings.Repeat("0123456789", 50_000)
	for _, tt := range []struct {
		name, body string
		length     int64
		framing    string
	}{
		{"none", "", 0, "Content-Length: 0\r\n"},
		{"length", "{}", 2, "Content-Length: 2\r\n"},
		{"large", large, int64(len(large)), "Content-Length: " + strconv.Itoa(len(large)) + "\r\n"},
		{"chunked", "{}", -1, "Transfer-Encoding: chunked\r\n"},
		{"chunked, large", large, -1, "Transfer-Encoding: chunked\r\n"},
		{"chunked, empty", "", -1, "Transfer-Encoding: chunked\r\n"},
	} {
		for _, reader := range []io.Reader{strings.NewReader(tt.body), bytes.NewBufferString(tt.body), io.MultiReader(strings.NewReader(tt.body), new(bytes.Buffer))} {
			got, err := fetched(tr, s.outgoing(t.Context(), http.MethodPost, reader, tt.length))
			if want := "200 " + tt.body; got != want || err != nil {
				t.Errorf("%s: got %.60q, %v, want %.60q", tt.name, got, err, want)
			}
			if head := <-s.heads; !strings.Contains(head, tt.framing) || strings.Count(head, "Content-Length")+strings.Count(head, "Transfer-Encoding") != 1 {
				t.Errorf("%s: got head %q, want framed by %q alone", tt.name, head, tt.framing)
			}
			if n := tr.idleCount(); n != 1 {
				t.Errorf("%s: got %d idle connections, want 1", tt.name, n)
			}
		}
	}
	if n := len(s.conns); n != 1 {
		t.Errorf("connections: got %d, want 1", n)
	}
}

// stalled is a client that sends a part of its body and then waits to be stopped.
type stalled struct {
	part    io.Reader
	stopped chan struct{}
	err     error
}

func newStalled(t *testing.T, part string, err error) *stalled {
	t.Helper()
	c := &stalled{strings.NewReader(part), make(chan struct{}), err}
	return c
}

func (c *stalled) Read(p []byte) (int, error) {
	if n, err := c.part.Read(p); err == nil {
		return n, nil
	}
	<-c.stopped
	return 0, c.err
}

// TestServerEndsUpload: R3, a server that closes, or answers, while the client still
// sends ends the exchange at once.
func TestServerEndsUpload(t *testing.T) {
	for _, tt := range []struct {
		name, response string
		want           string
	}{
		{"closes", "", ""},
		{"closes in the head", "HTTP/1.1 200 O", ""},
		{"answers and closes", "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", "413 no"},
		{"sends a hint and closes", "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", ""},
	} {
		for _, length := range []int64{1000, -1} {
			s := newServer(t)
			s.serve = func(conn net.Conn, r *bufio.Reader, _ string) bool {
				_, _ = r.ReadByte()
				_, _ = io.WriteString(conn, tt.response)
				return false
			}
			tr, client := s.transport(patience), newStalled(t, "x", errClient)
			began := time.Now()
			got, err := fetched(tr, s.outgoing(t.Context(), http.MethodPost, client, length))
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%s, length %d: got %q, %v, want %q", tt.name, length, got, err, tt.want)
			}
			if took := time.Since(began); took > patience/3 {
				t.Errorf("%s, length %d: took %v, want it at once", tt.name, length, took)
			}
			if n := tr.idleCount(); n != 0 {
				t.Errorf("%s, length %d: got %d idle connections, want none with half a request", tt.name, length, n)
			}
			close(client.stopped)
		}
	}
}

// TestAnsweredEarly: a connection on which half a request was written is not used
// again, though the server leaves it open.
func TestAnsweredEarly(t *testing.T) {
	s := newServer(t)
	s.serve = func(conn net.Conn, r *bufio.Reader, _ string) bool {
		_, err := io.WriteString(conn, okResponse)
		return err == nil
	}
	tr, client := s.transport(patience), newStalled(t, "", errClient)
	defer close(client.stopped)
	if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodPut, client, 5)); got != "200 {}" || err != nil {
		t.Errorf("early response: got %q, %v, want 200 {}", got, err)
	}
	if n := tr.idleCount(); n != 0 {
		t.Errorf("idle connections: got %d, want 0", n)
	}
}

// TestClientEndsUpload: a client that fails is why there is no response.
func TestClientEndsUpload(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		want   error
	}{
		{"fails", &stalled{strings.NewReader("x"), closed(), errClient}, 5, errClient},
		{"fails in a chunk", &stalled{strings.NewReader("x"), closed(), errClient}, -1, errClient},
		{"too short", strings.NewReader("x"), 5, io.ErrUnexpectedEOF},
		{"too long", strings.NewReader("abc"), 2, io.ErrUnexpectedEOF},
	} {
		s := newServer(t)
		s.serve = func(_ net.Conn, r *bufio.Reader, _ string) bool {
			_, _ = io.Copy(io.Discard, r)
			return false
		}
		got, err := fetched(s.transport(patience), s.outgoing(t.Context(), http.MethodPost, tt.body, tt.length))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %q, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestExpectContinue: a body waits for 100, but not for ever, and is never read when
// the server refuses it first (RFC 9110 §10.1.1).
func TestExpectContinue(t *testing.T) {
	for _, tt := range []struct {
		name     string
		response string // before the body
		sent     bool
	}{
		{"continue", "HTTP/1.1 100 Continue\r\n\r\n", true},
		{"a hint is no leave", "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", true},
		{"nothing", "", true},
		{"refused", "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.serve = func(conn net.Conn, r *bufio.Reader, head string) bool {
				_, _ = io.WriteString(conn, tt.response)
				return tt.sent && echo(conn, r, strings.Replace(head, "Expect: 100-continue\r\n", "", 1))
			}
			tr, body := s.transport(patience), &counted{Reader: strings.NewReader("{}")}
			r := s.outgoing(t.Context(), http.MethodPost, body, 2)
			r.Header.Set("Expect", "100-continue")
			want := "403 "
			if tt.sent {
				want = "200 {}"
			}
			if got, err := fetched(tr, r); got != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			if (body.n > 0) != tt.sent {
				t.Errorf("bytes read from the client: got %d, want some: %t", body.n, tt.sent)
			}
			if kept := tr.idleCount() == 1; kept != tt.sent {
				t.Errorf("connection kept: got %t, want %t", kept, tt.sent)
			}
		})
	}
}

type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// TestUploadTimeout: a server that takes no body, or gives no response to a whole
// one, runs into the bound; a client that is slow does not.
func TestUploadTimeout(t *testing.T) {
	const bound = 200 * time.Millisecond
	t.Run("no response", func(t *testing.T) {
		s := newServer(t)
		s.serve = func(_ net.Conn, r *bufio.Reader, _ string) bool {
			_, _ = io.Copy(io.Discard, r)
			return false
		}
		got, err := fetched(s.transport(bound), s.outgoing(t.Context(), http.MethodPost, strings.NewReader("{}"), 2))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %q, %v, want %v", got, err, os.ErrDeadlineExceeded)
		}
	})
	t.Run("server doesn't read", func(t *testing.T) {
		s := newServer(t)
		end := make(chan struct{})
		defer close(end)
		s.serve = func(net.Conn, *bufio.Reader, string) bool { <-end; return false }
		endless := io.LimitReader(zeros{}, 1<<30)
		got, err := fetched(s.transport(bound), s.outgoing(t.Context(), http.MethodPost, endless, 1<<30))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %q, %v, want %v", got, err, os.ErrDeadlineExceeded)
		}
	})
	t.Run("slow client", func(t *testing.T) {
		s := newServer(t)
		s.serve = echo
		r, w := io.Pipe()
		go func() {
			for range 4 {
				time.Sleep(bound / 2)
				_, _ = io.WriteString(w, "x")
			}
			_ = w.Close()
		}()
		if got, err := fetched(s.transport(bound), s.outgoing(t.Context(), http.MethodPost, r, -1)); got != "200 xxxx" || err != nil {
			t.Errorf("got %q, %v, want 200 xxxx", got, err)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestNeverTwice: what may have been carried out is not sent again; what was not,
// is (R24).
func TestNeverTwice(t *testing.T) {
	for _, tt := range []struct {
		method  string
		body    string
		repeats bool
	}{
		{http.MethodGet, "", true},
		{http.MethodHead, "", true},
		{http.MethodOptions, "", true},
		{http.MethodPost, "{}", false},
		{http.MethodPost, "", false},
		{http.MethodPut, "{}", false},
		{http.MethodDelete, "", false},
		{http.MethodPatch, "{}", false},
		{http.MethodGet, "{}", false},
	} {
		s := newServer(t)
		var n atomic.Int32
		s.serve = func(conn net.Conn, _ *bufio.Reader, _ string) bool {
			if n.Add(1) == 2 {
				return false // it has the request, and closes
			}
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return err == nil
		}
		tr := s.transport(patience)
		if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); got != "200 " || err != nil {
			t.Fatalf("first: got %q, %v, want 200", got, err)
		}
		var body io.Reader
		if tt.body != "" {
			body = strings.NewReader(tt.body)
		}
		r := s.outgoing(t.Context(), tt.method, body, int64(len(tt.body)))
		r.Header.Set("Idempotency-Key", "1") // which the FHIR server need not know
		_, err := fetched(tr, r)
		if tt.repeats != (err == nil) {
			t.Errorf("%s %q: got error %v, want it repeated: %t", tt.method, tt.body, err, tt.repeats)
		}
		want := 2
		if tt.repeats {
			want = 3
		}
		if got := len(s.heads); got != want {
			t.Errorf("%s %q: server got %d requests, want %d", tt.method, tt.body, got, want)
		}
	}
}

// TestLookBeforeReuse: a connection that the server has closed, or written to, is
// not used again, whatever the method (R24).
func TestLookBeforeReuse(t *testing.T) {
	if !canPeek {
		t.Skip("no connection is used again here")
	}
	for name, late := range map[string]string{
		"closed": "", "a byte": "\n", "another's response": "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "408": "HTTP/1.1 408 T\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			s := newServer(t)
			s.serve = echo
			tr := s.transport(patience)
			body := func() (io.Reader, int64) {
				if method == http.MethodGet {
					return nil, 0
				}
				return strings.NewReader("{}"), 2
			}
			send := func() (string, error) {
				reader, length := body()
				return fetched(tr, s.outgoing(t.Context(), method, reader, length))
			}
			if _, err := send(); err != nil {
				t.Fatalf("%s, %s, first: got %v, want no error", name, method, err)
			}
			conn := <-s.conns
			if late == "" {
				_ = conn.(*net.TCPConn).CloseWrite()
			} else if _, err := io.WriteString(conn, late); err != nil {
				t.Fatalf("io.WriteString: got error %v, want none", err)
			}
			c := tr.idle.conns[0]
			arrived(t, c)
			got, err := send()
			if want := map[string]string{http.MethodGet: "200 ", http.MethodPost: "200 {}"}[method]; got != want || err != nil {
				t.Errorf("%s, %s: got %q, %v, want %q", name, method, got, err, want)
			}
			if len(s.conns) != 1 {
				t.Errorf("%s, %s: got %d more connections, want 1", name, method, len(s.conns))
			}
		}
	}
}

// TestNothingWritten: what couldn't be written at all goes over another connection.
func TestNothingWritten(t *testing.T) {
	s := newServer(t)
	s.serve = echo
	tr := s.transport(patience)
	dial := tr.dialContext
	if _, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); err != nil {
		t.Fatalf("fetched: got error %v, want none", err)
	}
	tr.dialContext = dial
	tr.idle.conns[0].Conn = unwritable{tr.idle.conns[0].Conn}
	if got, err := fetched(tr, s.outgoing(t.Context(), http.MethodPost, strings.NewReader("{}"), 2)); got != "200 {}" || err != nil {
		t.Errorf("got %q, %v, want 200 {}", got, err)
	}
}

// unwritable is a connection that breaks when it is written to.
type unwritable struct{ net.Conn }

func (unwritable) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestInformationalResponsesAreBounded: I10, however many a server sends.
func TestInformationalResponsesAreBounded(t *testing.T) {
	hint := "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for n, fails := range map[int]bool{100: false, maxHead/len(hint) + 1: true} {
			s := newServer(t)
			s.serve = func(conn net.Conn, _ *bufio.Reader, _ string) bool {
				_, err := io.WriteString(conn, strings.Repeat(hint, n)+"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return err == nil
			}
			got, err := fetched(s.transport(patience), s.outgoing(t.Context(), method, nil, 0))
			if (err == nil) == fails { // net/http may hide errHead behind half a line
				t.Errorf("%s, %d informational responses: got %q, %v, want failure: %t", method, n, got, err, fails)
			}
		}
	}
}

// TestCancel: the end of the request's context ends it and its connection, in
// every phase.
func TestCancel(t *testing.T) {
	for _, tt := range []struct{ name, response string }{
		{"before the response", ""}, {"in the head", "HTTP/1.1 200 OK\r\nConte"}, {"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			s := newServer(t)
			ctx, cancel := context.WithCancel(t.Context())
			s.serve = func(conn net.Conn, r *bufio.Reader, _ string) bool {
				_, _ = io.WriteString(conn, tt.response)
				cancel()
				_, _ = io.Copy(io.Discard, r) // until the connection ends
				return false
			}
			client := newStalled(t, "x", errClient)
			var body io.Reader
			length := int64(0)
			if method == http.MethodPost {
				body, length = client, 5
			}
			got, err := fetched(s.transport(patience), s.outgoing(ctx, method, body, length))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s: got %q, %v, want %v", tt.name, method, got, err, context.Canceled)
			}
			close(client.stopped)
		}
	}
}

// TestIdleTimeout: a connection that nobody uses is closed in time.
func TestIdleTimeout(t *testing.T) {
	s := newServer(t)
	tr := s.transport(patience)
	tr.idle.timeout = 50 * time.Millisecond
	if _, err := fetched(tr, s.outgoing(t.Context(), http.MethodGet, nil, 0)); err != nil {
		t.Fatalf("fetched: got error %v, want none", err)
	}
	conn := <-s.conns
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("idle connection: got %v, want it closed", err)
	}
}

// TestHalfWrittenBody: a connection on which a body is still missing a part is not used
// again, for the next request would become that part.
func TestHalfWrittenBody(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r := bufio.NewReaderSize(far, 16)
		if _, err := readRawHead(r); err == nil {
			_, _ = r.ReadByte() // the write of the last part is under way
			_, _ = io.WriteString(far, okResponse)
		}
	}()
	released := false
	c := newConn(near, patience, func(*conn) { released = true })
	defer c.close()
	r := &Request{Method: http.MethodPost, Bytes: []byte("POST / HTTP/1.1\r\n\r\n"), Length: 100, Body: strings.NewReader(strings.Repeat("a", 100))}
	res := new(Response)
	if err := c.exchange(t.Context(), r, res); err != nil {
		t.Fatalf("exchange: got error %v, want none", err)
	}
	if body, err := io.ReadAll(res); string(body) != "{}" || err != nil {
		t.Errorf("got %q, %v, want {}", body, err)
	}
	if <-ended; released {
		t.Error("got the connection kept, want it closed")
	}
}
