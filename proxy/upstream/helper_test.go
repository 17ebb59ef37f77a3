package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// TestMain looks for goroutines that are left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is far beyond what any test takes; it only ends one that hangs.
const patience = 15 * time.Second

// server is a FHIR server that reads and writes bytes.
type server struct {
	net.Listener
	testing.TB
	// serve answers a request, whose head and, if it is framed by a length, body are
	// given, and reports whether the connection goes on. Nil answers 200 {}.
	serve func(conn net.Conn, r *bufio.Reader, head string) bool
	heads chan string
	conns chan net.Conn // that were accepted

	wg sync.WaitGroup
	mu sync.Mutex
	on []net.Conn
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

func newServer(tb testing.TB) *server {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("net.Listen: got error %v, want none", err)
	}
	s := &server{Listener: listener, TB: tb, heads: make(chan string, 1000), conns: make(chan net.Conn, 1000)}
	s.wg.Go(s.accept)
	tb.Cleanup(func() {
		_ = s.Close()
		s.mu.Lock()
		for _, conn := range s.on {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) accept() {
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.on = append(s.on, conn)
		s.mu.Unlock()
		s.conns <- conn
		s.wg.Go(func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				head, err := readRawHead(r)
				if err != nil {
					return
				}
				s.heads <- head
				if s.serve == nil {
					if _, err := io.WriteString(conn, okResponse); err != nil {
						return
					}
				} else if !s.serve(conn, r, head) {
					return
				}
			}
		})
	}
}

func readRawHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
	}
}

// transport returns one for the server, with a bound for heads.
func (s *server) transport(headerTimeout time.Duration) *Transport {
	t := New(&url.URL{Scheme: "http", Host: s.Addr().String()}, Limits{HeaderTimeout: headerTimeout})
	s.Cleanup(t.CloseIdleConnections)
	return t
}

// outgoing makes a request with a body of that length, if it isn't nil.
func (s *server) outgoing(ctx context.Context, method string, body io.Reader, length int64) *http.Request {
	s.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr().String()+"/fhir/Patient", body)
	if err != nil {
		s.Fatal(err)
	}
	r.ContentLength = length
	return r
}

// sent sends a request.
func sent(t *Transport, r *http.Request) (*Response, error) {
	b := wire.Builder{}
	b.Request(r.Method, r.Host, r.URL.RequestURI())
	for name, values := range r.Header {
		for _, value := range values {
			b.Field(name, value)
		}
	}
	switch {
	case r.ContentLength < 0:
		b.Field("Transfer-Encoding", "chunked")
	case r.ContentLength > 0 || r.Method == http.MethodPost:
		b.Field("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	b.End()
	out := &Request{Method: r.Method, Bytes: b.Bytes, Length: r.ContentLength, Waits: r.Header["Expect"] != nil}
	if r.ContentLength != 0 {
		out.Body = r.Body
	}
	res := new(Response)
	return res, t.Send(r.Context(), out, res)
}

// fetched sends a request and returns the status and body of the response.
func fetched(t *Transport, r *http.Request) (string, error) {
	res, err := sent(t, r)
	if err != nil {
		return "", err
	}
	defer res.Close()
	body, err := io.ReadAll(res)
	return fmt.Sprint(res.Status, " ", string(body)), err
}

func (t *Transport) idleCount() int {
	t.idle.mu.Lock()
	defer t.idle.mu.Unlock()
	return len(t.idle.conns)
}

var errClient = errors.New("client failed")
