package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// upstream is a FHIR server that records what it gets, byte for byte, keeps
// connections, and takes every byte after one request for the next one.
type upstream struct {
	address string
	ln      net.Listener

	mu       sync.Mutex
	requests []*arrival
	answers  map[string]responder
	faults   []string
	aborted  int // requests that broke off
	conns    map[net.Conn]bool
}

// arrival is a request as it came in.
type arrival struct {
	line    string
	head    string // all of it, with its end
	body    string // at most 64 KiB
	size    int64
	sum     [sha256.Size]byte
	trailer string
}

// responder answers a request. It reads the body when it likes, and tells
// whether the connection lives on.
type responder func(c *upstreamConn, r *arrival) (keep bool)

type upstreamConn struct {
	*conn
	up      *upstream
	length  int64
	chunked bool
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	return newUpstreamOn(t, ln)
}

// newUpstreamOn takes the listener, which may speak TLS.
func newUpstreamOn(t *testing.T, ln net.Listener) *upstream {
	t.Helper()
	u := &upstream{address: ln.Addr().String(), ln: ln, answers: map[string]responder{}, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			u.conns[c] = true
			u.mu.Unlock()
			go u.serve(&conn{c, bufio.NewReaderSize(c, 64<<10)})
		}
	}()
	t.Cleanup(func() {
		u.close()
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, fault := range u.faults {
			t.Errorf("FHIR server got %s, want well-formed requests", fault)
		}
	})
	return u
}

func (u *upstream) close() {
	_ = u.ln.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	for c := range u.conns {
		_ = c.Close()
	}
}

// on answers requests for a path, or for "*", every path that has no response of
// its own.
func (u *upstream) on(path string, r responder) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers[path] = r
}

// bytesOn answers requests for a path with these bytes.
func (u *upstream) bytesOn(path, response string, keep bool) {
	u.on(path, func(c *upstreamConn, r *arrival) bool {
		c.readBody(r)
		_, err := io.WriteString(c.Conn, response)
		return err == nil && keep
	})
}

// all returns the requests so far.
func (u *upstream) all() []*arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.requests)
}

// open is the number of connections that aren't closed.
func (u *upstream) open() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.conns)
}

func (u *upstream) count() int { return len(u.all()) }

// last returns the latest request.
func (u *upstream) last(t *testing.T) *arrival {
	t.Helper()
	all := u.all()
	if len(all) == 0 {
		t.Fatal("FHIR server got nothing, want a request")
	}
	return all[len(all)-1]
}

func (u *upstream) fault(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = append(u.faults, fmt.Sprintf(format, args...))
}

func (u *upstream) serve(c *conn) {
	defer func() {
		_ = c.Close()
		u.mu.Lock()
		delete(u.conns, c.Conn)
		u.mu.Unlock()
	}()
	for {
		head, ok := u.readHead(c)
		if !ok {
			return
		}
		r := &arrival{head: head}
		r.line, _, _ = strings.Cut(head, "\r\n")
		uc := &upstreamConn{conn: c, up: u}
		lengths, codings := r.values("Content-Length"), r.values("Transfer-Encoding")
		switch {
		case len(codings) > 0 && (len(lengths) > 0 || len(codings) > 1 || codings[0] != "chunked"), len(lengths) > 1:
			u.fault("two framings: %q", head)
			return
		case len(codings) > 0:
			uc.chunked = true
		case len(lengths) > 0:
			n, err := strconv.ParseUint(lengths[0], 10, 62)
			if err != nil {
				u.fault("length: %q", head)
				return
			}
			uc.length = int64(n)
		}
		u.mu.Lock()
		u.requests = append(u.requests, r)
		respond, fallback := u.answers[r.path()], u.answers["*"]
		u.mu.Unlock()
		if respond == nil {
			respond = fallback
		}
		if respond == nil {
			respond = echo
		}
		keep := respond(uc, r)
		if uc.length != 0 || uc.chunked {
			u.mu.Lock()
			u.aborted++
			u.mu.Unlock()
			return // the body was not read
		}
		if !keep {
			return
		}
	}
}

// readHead reads up to the empty line. Every line must end in CR LF and be a
// field as RFC 9112 has it.
func (u *upstream) readHead(c *conn) (string, bool) {
	var head strings.Builder
	for {
		line, err := c.ReadString('\n')
		head.WriteString(line)
		switch {
		case err != nil && head.Len() == 0:
			return "", false
		case err != nil:
			u.fault("broken head: %q", head.String())
			return "", false
		case !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(line[:len(line)-2], "\r\x00"):
			u.fault("line end: %q", head.String())
			return "", false
		case line == "\r\n":
			return head.String(), true
		case head.Len() > len(line) && !regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+:").MatchString(line):
			u.fault("header: %q", line)
			return "", false
		}
	}
}

// echo says which request it answers.
func echo(c *upstreamConn, r *arrival) bool {
	if !c.readBody(r) {
		return false
	}
	body := fmt.Sprintf(`{"line":%q}`, strings.TrimSuffix(r.line, " HTTP/1.1"))
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n", len(body))
	if strings.HasPrefix(r.line, "HEAD ") {
		body = ""
	}
	_, err := io.WriteString(c.Conn, head+body)
	return err == nil
}

// readBody reads the request's body, and reports whether it was whole.
func (c *upstreamConn) readBody(r *arrival) bool {
	sum, kept := sha256.New(), &bytes.Buffer{}
	size, trailer, err := c.copyBody(sum, kept)
	c.up.mu.Lock()
	defer c.up.mu.Unlock()
	r.body, r.sum, r.size, r.trailer = kept.String(), [sha256.Size]byte(sum.Sum(nil)), size, trailer
	if err == nil {
		c.length, c.chunked = 0, false
	}
	return err == nil
}

func (c *upstreamConn) copyBody(sum hash.Hash, kept *bytes.Buffer) (size int64, trailer string, err error) {
	copyN := func(n int64) error {
		first := min(n, max(0, 64<<10-int64(kept.Len())))
		if _, err := io.CopyN(io.MultiWriter(sum, kept), c.Reader, first); err != nil {
			return err
		}
		size += n
		_, err := io.CopyN(sum, c.Reader, n-first)
		return err
	}
	if !c.chunked {
		err = copyN(c.length)
		return size, "", err
	}
	for {
		line, err := c.ReadString('\n')
		if err != nil {
			return size, "", err
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(line, "\r\n"), 16, 40)
		if err != nil {
			return size, "", err
		}
		if n == 0 {
			break
		}
		if err := copyN(int64(n)); err != nil {
			return size, "", err
		}
		if line, err := c.ReadString('\n'); err != nil || line != "\r\n" {
			return size, "", errors.New("chunk without end")
		}
	}
	for {
		line, err := c.ReadString('\n')
		if err != nil || line == "\r\n" {
			return size, trailer, err
		}
		trailer += line
	}
}

// path is the request target without its query.
func (r *arrival) path() string {
	path, _, _ := strings.Cut(r.target(), "?")
	return path
}

func (r *arrival) target() string {
	_, target, _ := strings.Cut(r.line, " ")
	return strings.TrimSuffix(target, " HTTP/1.1")
}

// values returns the values of a header, whatever its case.
func (r *arrival) values(name string) (values []string) {
	for line := range strings.SplitSeq(r.head, "\r\n") {
		n, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// has checks that a header stands there once, with this value; "" for absent.
func (r *arrival) has(t testing.TB, name, value string) {
	t.Helper()
	got := r.values(name)
	if value == "" && got != nil || value != "" && !slices.Equal(got, []string{value}) {
		t.Errorf("FHIR server got %s %q, want %q", name, got, value)
	}
}

// lacks checks that no part of the head has the text.
func (r *arrival) lacks(t testing.TB, text string) {
	t.Helper()
	if strings.Contains(strings.ToLower(r.head+r.trailer), strings.ToLower(text)) {
		t.Errorf("FHIR server got %q, want nothing with %q", r.head+r.trailer, text)
	}
}

// entitled returns the token of a request, after checking that it may be here.
func (r *arrival) entitled(t *testing.T, active map[string]bool) string {
	t.Helper()
	method, _, _ := strings.Cut(r.line, " ")
	authorization := r.values("Authorization")
	public := (method == http.MethodGet || method == http.MethodHead) &&
		slices.Contains([]string{"/fhir/metadata", "/fhir/.well-known/smart-configuration"}, r.path())
	preflight := method == http.MethodOptions && r.values("Origin") != nil && r.values("Access-Control-Request-Method") != nil
	if len(authorization) == 0 {
		if !public && !preflight || strings.Contains(strings.ToLower(r.head), "launch") {
			t.Errorf("FHIR server got %q, want a token", r.head)
		}
		return ""
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	if len(authorization) != 1 || !strings.EqualFold(scheme, "Bearer") || !active[strings.TrimSpace(token)] || public || preflight ||
		!strings.HasPrefix(r.target(), "/fhir") || strings.Contains(r.head, "evil") || strings.Contains(r.trailer, ":") {
		t.Errorf("FHIR server got %q, want one good token, and nothing forged", r.head)
	}
	return token
}

// trap is where nobody must go.
type trap struct {
	net.Listener
	visits atomic.Int64
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	s := &trap{Listener: ln}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.visits.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		if n := s.visits.Load(); n > 0 {
			t.Errorf("%d connections to where a client wanted them", n)
		}
	})
	return s
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// launch returns the lines a server could read as context headers.
func (r *arrival) launch() (lines []string) {
	for line := range strings.SplitSeq(r.head+r.trailer, "\r\n") {
		if name, _, _ := strings.Cut(line, ":"); strings.HasPrefix(strings.Map(foldRune, name), "x-launch-") {
			lines = append(lines, line)
		}
	}
	return lines
}
