package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fastpath"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain looks for goroutines that are left. net/http lets an ended connection
// linger for half a second, which is longer than goleak waits.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// golden compares got with a file in testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	if got != string(want) {
		t.Errorf("differs from %s\n got %s\nwant %s", path, got, want)
	}
}

// introspectorFunc knows tokens only.
type introspectorFunc func(ctx context.Context, token string) (*introspection.Response, error)

func (f introspectorFunc) Introspect(ctx context.Context, r introspection.Request) (introspection.Verdict, error) {
	response, err := f(ctx, r.Token)
	return introspection.Verdict{Response: response}, err
}

// verdictFunc is an introspection.Introspector.
type verdictFunc func(r introspection.Request) (introspection.Verdict, error)

func (f verdictFunc) Introspect(_ context.Context, r introspection.Request) (introspection.Verdict, error) {
	return f(r)
}

// seedAnswer is what Koppeltaal says about a token of a launched module, with a
// scope and a tenant; %d is exp.
const seedAnswer = `{"active":true,"client_id":"l238j323ds-23ij4","sub":"Z5O3upPC88QrAjx00dis",` +
	`"aud":"https://Koppeltaal.nl/eHealthModule/123","iss":"https://Koppeltaal.Authorization.nl/",` +
	`"exp":%d,"iat":1419350238,"user":"Practitioner/123","patient":"123","scope":"patient/*.read launch",` +
	`"fhirContext":["https://Koppeltaal.nl/Task/123"],"intent":"samenstellen-behandeling","tenant":"kt-1"}`

// farExp is an `exp` in the year 2100.
const farExp = 4102444800

// seedHeaders are the context headers that the seed answer makes.
var seedHeaders = map[string]string{
	"X-Launch-Patient": "123", "X-Launch-User": "Practitioner/123", "X-Launch-Subject": "Z5O3upPC88QrAjx00dis",
	"X-Launch-Issuer": "https://Koppeltaal.Authorization.nl/", "X-Launch-Client-Id": "l238j323ds-23ij4",
	"X-Launch-Expires": "4102444800", "X-Launch-Intent": "samenstellen-behandeling", "X-Launch-Tenant": "kt-1",
	"X-Launch-Fhir-Context": `[{"reference":"https://Koppeltaal.nl/Task/123"}]`,
	"X-Launch-Scope":        "patient/*.read launch",
}

// allClaims are those that a header can be made from.
func allClaims() (claims introspection.ClaimSet) {
	for _, header := range ContextHeaders() {
		claims |= introspection.NewClaimSet(header.Claim)
	}
	return claims
}

// decode reads an introspection answer with all its claims.
func decode(tb testing.TB, body string) *introspection.Response {
	tb.Helper()
	response, err := introspectiontest.Decode([]byte(body), allClaims(), time.Unix(0, 0))
	if err != nil {
		tb.Fatalf("introspectiontest.Decode: got error %v, want none", err)
	}
	return response
}

func seed(tb testing.TB) *introspection.Response {
	tb.Helper()
	return decode(tb, fmt.Sprintf(seedAnswer, farExp))
}

func defaultHeaders() []ContextHeader {
	var headers []ContextHeader
	for _, header := range ContextHeaders() {
		if header.Default {
			headers = append(headers, header)
		}
	}
	return headers
}

// verdicts is a hand-written Introspector: TOK is active with the seed's
// claims, other tokens as set, the rest are inactive. It counts its calls.
type verdicts struct {
	mu       sync.Mutex
	answers  map[string]*introspection.Response
	failures map[string]error
	calls    []string
	during   func(ctx context.Context, token string) // runs in every call, when set
}

func newVerdicts(tb testing.TB) *verdicts {
	tb.Helper()
	return &verdicts{
		answers:  map[string]*introspection.Response{"TOK": seed(tb)},
		failures: map[string]error{},
	}
}

func (v *verdicts) Introspect(ctx context.Context, r introspection.Request) (introspection.Verdict, error) {
	token := r.Token
	v.mu.Lock()
	v.calls = append(v.calls, token)
	during := v.during
	v.mu.Unlock()
	if during != nil {
		during(ctx, token)
	}
	verdict := introspection.Verdict{Lookup: "hit"}
	v.mu.Lock()
	defer v.mu.Unlock()
	if response := v.answers[token]; response != nil {
		verdict.Response = response
		return verdict, nil
	}
	if err := v.failures[token]; err != nil {
		return verdict, err
	}
	return verdict, introspection.ErrInactive
}

func (v *verdicts) asked() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.calls...)
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// deadline is far beyond what any test takes; it only ends a test that hangs.
const deadline = 10 * time.Second

// stack is a raw upstream, a Proxy in a real server before it, and the fakes
// that the Proxy was made with.
type stack struct {
	*testing.T
	upstream *fhirServer
	verdicts *verdicts
	registry *prometheus.Registry
	log      *syncBuffer
	proxy    *Proxy
	address  string
	served   *observed
}

// observed counts the requests that ServeHTTP is done with, so that a test can
// wait for what happens after the response.
type observed struct {
	http.Handler
	done chan struct{}
}

func (o *observed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { o.done <- struct{}{} }()
	o.Handler.ServeHTTP(w, r)
}

// standardOnly is SIDECAR_FAST_PATH=false: net/http reads and writes everything. What is
// true of the fast path is to be true without it.
var standardOnly = flag.Bool("standard", false, "test without the fast path")

// withStandard is for a stack without the fast path.
func withStandard(l net.Listener, _ *http.Server) net.Listener { return l }

// newStack starts everything, as it is in the program. The FHIR base is /fhir.
func newStack(t *testing.T, options ...func(*Config)) *stack {
	t.Helper()
	if *standardOnly {
		return newStackBehind(t, withStandard, options...)
	}
	return newStackBehind(t, withFastPath, options...)
}

// newStackBehind lets front stand before the server.
func newStackBehind(t *testing.T, front func(net.Listener, *http.Server) net.Listener, options ...func(*Config)) *stack {
	t.Helper()
	s := &stack{
		T: t, upstream: newFHIRServer(t), verdicts: newVerdicts(t),
		registry: prometheus.NewPedanticRegistry(), log: &syncBuffer{},
	}
	config := Config{
		Upstream:       &url.URL{Scheme: "http", Host: s.upstream.Addr().String(), Path: "/fhir"},
		UpstreamLimits: upstream.Limits{HeaderTimeout: deadline},
		Introspector:   s.verdicts,
		TokenRef:       func(string) string { return "0badcafe" },
		MaxTokenBytes:  64,
		PublicPaths:    []string{"metadata", ".well-known/smart-configuration"},
		Headers:        defaultHeaders(),
		HeaderPrefix:   "X-Launch-",
		Logger:         slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer:     s.registry,
	}
	for _, option := range options {
		option(&config)
	}
	p, err := New(config)
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	s.served = &observed{Handler: p, done: make(chan struct{}, 1000)}
	server := &http.Server{
		Handler: s.served, DisableGeneralOptionsHandler: true, ReadHeaderTimeout: 2 * deadline, IdleTimeout: 2 * deadline,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	s.address = listener.Addr().String()
	listener = front(listener, server)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		if l, ok := listener.(*passing); ok {
			now, cancel := context.WithCancel(context.Background())
			cancel()
			_ = l.fast.Wait(now)
		}
		p.CloseIdleConnections()
		if o, ok := s.served.Handler.(*oracle); ok {
			o.transport.rest.CloseIdleConnections()
		}
		<-ended
	})
	s.proxy = p
	return s
}

// passing is a listener whose connections the fast path serves first, without what the
// program has between it and http.Server.
type passing struct {
	net.Listener
	fast   *fastpath.Server
	rest   chan net.Conn
	closed chan struct{}
}

// withFastPath makes a stack as it is in the program.
func withFastPath(l net.Listener, s *http.Server) net.Listener {
	served, _ := s.Handler.(*observed)
	p, _ := served.Handler.(*Proxy)
	fast := fastpath.New(fastpath.Config{
		Handler: func(ctx context.Context, r *wire.Request, x *fastpath.Exchange) {
			defer func() { served.done <- struct{}{} }()
			p.Serve(ctx, r, x)
		},
		HeaderTimeout: s.ReadHeaderTimeout, IdleTimeout: s.IdleTimeout, ErrorLog: s.ErrorLog,
	})
	s.RegisterOnShutdown(fast.Close)
	passes := &passing{Listener: l, fast: fast, rest: make(chan net.Conn), closed: make(chan struct{})}
	go passes.accept()
	return passes
}

func (p *passing) accept() {
	defer close(p.closed)
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return
		}
		go func() {
			if c = p.fast.Serve(c); c == nil {
				return
			}
			select {
			case p.rest <- c:
			case <-p.closed:
				_ = c.Close()
			}
		}()
	}
}

// Accept implements net.Listener.
func (p *passing) Accept() (net.Conn, error) {
	select {
	case c := <-p.rest:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// wait returns when n more requests are done, log line and metrics included.
func (s *stack) wait(n int) {
	s.Helper()
	for range n {
		select {
		case <-s.served.done:
		case <-time.After(deadline):
			s.Fatal("request isn't done")
		}
	}
}

// client is one connection to the proxy.
type client struct {
	*testing.T
	net.Conn
	r *bufio.Reader
}

func (s *stack) dial() *client {
	s.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	return &client{T: s.T, Conn: conn, r: bufio.NewReader(conn)}
}

func (c *client) send(raw string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, raw); err != nil {
		c.Fatal(err)
	}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
	err  error // of reading the body
}

// head reads a response up to its body.
func (c *client) head(method string) *http.Response {
	c.Helper()
	response, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.Fatalf("no response: %v", err)
	}
	return response
}

func (c *client) receive(method string) answer {
	c.Helper()
	response := c.head(method)
	body, err := io.ReadAll(response.Body)
	return answer{Response: response, body: string(body), err: err}
}

// reset ends the connection in a way that can't mean that only no more is sent.
func (c *client) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// closed fails unless the proxy ends the connection without another byte.
func (c *client) closed() {
	c.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		c.Errorf("connection goes on with %q", b)
	} else if isTimeout(err) {
		c.Error("connection stays open")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// do sends one request on a connection of its own and waits until it is done.
func (s *stack) do(raw string) answer {
	s.Helper()
	c := s.dial()
	c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	a := c.receive(method)
	_ = c.Close()
	s.wait(1)
	return a
}

// get is a request line and header fields, with Host.
func get(target string, fields ...string) string {
	return message("GET", target, "", fields...)
}

// message makes the bytes of a request with a body of known length.
func message(method, target, body string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: fhir.test\r\n", method, target)
	for _, field := range fields {
		b.WriteString(field + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

const bearerTOK = "Authorization: Bearer TOK"

// received is a request as its bytes arrived at the FHIR server.
type received struct {
	line    string
	fields  [][2]string // name as on the wire, value
	body    string
	trailer []string
	conn    int // which connection it came on
}

// all returns the values of the fields that have name, whatever its case.
func (r *received) all(name string) (values []string) {
	for _, field := range r.fields {
		if strings.EqualFold(field[0], name) {
			values = append(values, field[1])
		}
	}
	return values
}

// one returns the value of a field that must stand once.
func (r *received) one(t *testing.T, name string) string {
	t.Helper()
	values := r.all(name)
	if len(values) != 1 {
		t.Errorf("got %s %d times, want once: %q", name, len(values), values)
		return ""
	}
	return values[0]
}

// fhirServer is a FHIR server that reads bytes, not http.Requests: a Go server
// would repair or hide what a test looks for.
type fhirServer struct {
	net.Listener
	t *testing.T
	// answer writes the response; false ends the connection. Nil: 200 {}.
	answer func(conn net.Conn, r *received) bool
	// early is called after the header was read, before the body is; true
	// means that the request has been dealt with and the connection ends.
	early    func(conn net.Conn, body *bufio.Reader) bool
	requests chan *received
	gone     chan int // connections that ended

	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]bool
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{}"

func newFHIRServer(t *testing.T) *fhirServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	u := &fhirServer{
		Listener: listener, t: t, conns: map[net.Conn]bool{},
		requests: make(chan *received, 1000), gone: make(chan int, 1000),
	}
	u.wg.Add(1)
	go u.serve()
	t.Cleanup(func() {
		_ = u.Close()
		u.closeConns()
		u.wg.Wait()
	})
	return u
}

func (u *fhirServer) closeConns() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for conn := range u.conns {
		_ = conn.Close()
	}
}

// answerWith changes the response while there may be requests, such as ones that are
// repeated.
func (u *fhirServer) answerWith(answer func(conn net.Conn, r *received) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// writes makes the upstream answer every request with these bytes.
func (u *fhirServer) writes(raw string) {
	u.answer = func(conn net.Conn, _ *received) bool {
		_, err := io.WriteString(conn, raw)
		return err == nil
	}
}

func (u *fhirServer) serve() {
	defer u.wg.Done()
	for number := 1; ; number++ {
		conn, err := u.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns[conn] = true
		u.mu.Unlock()
		u.wg.Add(1)
		go func() {
			defer u.wg.Done()
			u.serveConn(conn, number)
			_ = conn.Close()
			u.gone <- number
		}()
	}
}

func (u *fhirServer) serveConn(conn net.Conn, number int) {
	r := bufio.NewReader(conn)
	for {
		_ = conn.SetDeadline(time.Now().Add(2 * deadline)) // of one request, not of them all
		request, ok := u.readHeader(r)
		if !ok {
			return
		}
		request.conn = number
		if u.early != nil && u.early(conn, r) {
			u.requests <- request
			return
		}
		if !readBody(r, request) {
			return // the proxy broke the request off
		}
		u.requests <- request
		u.mu.Lock()
		respond := u.answer
		u.mu.Unlock()
		if respond == nil {
			answer := okAnswer
			if strings.HasPrefix(request.line, "HEAD ") {
				answer = strings.TrimSuffix(answer, "{}")
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		} else if !respond(conn, request) {
			return
		}
	}
}

// readHeader is strict: whatever isn't the one plain form fails the test.
func (u *fhirServer) readHeader(r *bufio.Reader) (*received, bool) {
	var request received
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, false
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		switch {
		case !ok || strings.ContainsAny(line, "\r\x00"):
			u.t.Errorf("upstream got line %q, want one that ends in CR LF", line)
		case first:
			request.line = line
			if strings.Count(line, " ") != 2 || !strings.HasSuffix(line, " HTTP/1.1") {
				u.t.Errorf("upstream got request line %q, want three parts", line)
			}
		case line == "":
			return &request, true
		default:
			name, value, ok := strings.Cut(line, ": ")
			if !ok || strings.ContainsAny(name, " \t") {
				u.t.Errorf("upstream got field line %q, want a name and a value", line)
			}
			request.fields = append(request.fields, [2]string{name, value})
		}
	}
}

// readBody reads by the framing that was announced, and reports whether all of
// it came.
func readBody(r *bufio.Reader, request *received) bool {
	if len(request.all("Transfer-Encoding")) > 0 {
		return readChunks(r, request)
	}
	var n int64
	for _, value := range request.all("Content-Length") {
		n, _ = strconv.ParseInt(value, 10, 64)
	}
	body, err := io.ReadAll(io.LimitReader(r, n))
	request.body = string(body)
	return err == nil && int64(len(body)) == n
}

func readChunks(r *bufio.Reader, request *received) bool {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(line, "\r\n"), 16, 32)
		if err != nil {
			return false
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return false
		}
		request.body += string(chunk[:n])
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == "\r\n" {
			return true
		}
		request.trailer = append(request.trailer, strings.TrimSuffix(line, "\r\n"))
	}
}

// got returns the next request that arrived.
func (u *fhirServer) got() *received {
	u.t.Helper()
	select {
	case r := <-u.requests:
		return r
	case <-time.After(deadline):
		u.t.Fatal("FHIR server got no request, want one")
		return nil
	}
}

// untouched fails when a request has arrived. It is called after the response, so
// that whatever was going to be sent has been sent.
func (u *fhirServer) untouched() {
	u.t.Helper()
	select {
	case r := <-u.requests:
		u.t.Errorf("FHIR server got %q %q, want nothing", r.line, r.fields)
	default:
	}
}
