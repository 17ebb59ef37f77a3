package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// The black-box tests run this test binary as the sidecar, in a process of its
// own, between a raw client, a raw FHIR server that keeps to the letter of
// HTTP/1.1, and an authorization server.

const program = "fhir-introspection-sidecar"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){program: func() {
		recordDials(os.Getenv(dialFile))
		main()
	}})
}

// patience is how long anything may take before a test gives up on it.
const patience = 15 * time.Second

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// env is the sidecar's environment, without SIDECAR_. An empty value unsets.
type env map[string]string

// safeBuffer collects the output of a process.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// child is a running sidecar.
type child struct {
	cmd            *exec.Cmd
	stdout, stderr safeBuffer
	done           chan struct{}
	code           int
	data, admin    string // addresses
	anyExit        bool   // its end is none of the test's business
	dialed         string // file of the dial recorder
	watch          *leakWatch
	leaky          bool // the test has planted a leak
}

// spawn starts the program without waiting for anything.
func spawn(t *testing.T, e env, extra []string, args ...string) *child {
	t.Helper()
	return spawnPrepared(t, e, extra, func(*exec.Cmd) {}, args...)
}

// spawnPrepared lets the test change the command before it starts.
func spawnPrepared(t *testing.T, e env, extra []string, prepare func(*exec.Cmd), args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(program, args...), done: make(chan struct{}), dialed: dialRecord(t)}
	c.cmd.Env = append([]string{dialFile + "=" + c.dialed, "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}, extra...)
	if _, set := e["LOG_LEVEL"]; !set {
		c.cmd.Env = append(c.cmd.Env, "SIDECAR_LOG_LEVEL=debug") // the more is said, the more can leak
	}
	for name, value := range e {
		if value != "" {
			c.cmd.Env = append(c.cmd.Env, "SIDECAR_"+name+"="+value)
		}
	}
	c.watch = newLeakWatch(c.cmd.Env)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	prepare(c.cmd)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		c.code = c.cmd.ProcessState.ExitCode()
		close(c.done)
	}()
	t.Cleanup(func() {
		c.signal(syscall.SIGTERM)
		if code := c.wait(t); code != 0 && !c.anyExit {
			t.Errorf("exit code %d\n%s%s", code, c.stdout.String(), c.stderr.String())
		}
		if text := c.stderr.String(); strings.Contains(text, "DATA RACE") || !c.anyExit && strings.Contains(text, "goroutine ") {
			t.Errorf("stderr: %s", text)
		}
		if stray := c.strayDials(); len(stray) > 0 {
			t.Errorf("connected to what no setting names: %q", stray)
		}
		c.watch.end()
		if found := c.leaks(); len(found) > 0 && !c.leaky {
			t.Errorf("%d leaks:\n%s", len(found), strings.Join(found, "\n"))
		}
	})
	return c
}

func (c *child) signal(s os.Signal) {
	c.scrape()
	_ = c.cmd.Process.Signal(s)
}

// scrape looks at the admin listener a last time, if there still is one.
func (c *child) scrape() {
	for _, path := range []string{"/metrics", "/readyz"} {
		if n, err := net.Dial("tcp", c.admin); err == nil {
			_ = n.SetDeadline(time.Now().Add(time.Second))
			_, _ = (&conn{n, bufio.NewReader(n)}).do("GET " + path + " HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n\r\n")
			_ = n.Close()
		}
	}
}

// wait returns the exit code.
func (c *child) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(2 * patience):
		t.Errorf("process doesn't end\n%s", c.stdout.String())
		_ = c.cmd.Process.Kill()
		<-c.done
	}
	return c.code
}

// terminate asks the process to end and returns its exit code.
func (c *child) terminate(t *testing.T) int {
	t.Helper()
	c.signal(syscall.SIGTERM)
	return c.wait(t)
}

// logs returns the JSON lines with the message so far.
func (c *child) logs(msg string) (lines []map[string]any) {
	for line := range strings.Lines(c.stdout.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
			lines = append(lines, m)
		}
	}
	return lines
}

// runToEnd runs the program until it ends by itself.
func runToEnd(t *testing.T, e env, extra []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := spawn(t, e, extra, args...)
	c.anyExit = true
	select {
	case <-c.done:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.done
		t.Errorf("%v did not end by itself", args)
	}
	return c.code, c.stdout.String(), c.stderr.String()
}

// world is a sidecar with its neighbours.
type world struct {
	*child
	as   *introspectiontest.Server
	up   *upstream
	file string // with the sidecar's own bearer
}

// start runs a sidecar with the default neighbours; "good" is an active token.
func start(t *testing.T, e env) *world {
	t.Helper()
	return startWith(t, introspectiontest.NewServer(t), e)
}

// startWith takes further variables, each as name=value.
func startWith(t *testing.T, as *introspectiontest.Server, e env, extra ...string) *world {
	t.Helper()
	return startIn(t, as, e, extra, func(*exec.Cmd) {})
}

// startPrepared lets the test change the command before it starts.
func startPrepared(t *testing.T, e env, prepare func(*exec.Cmd)) *world {
	t.Helper()
	return startIn(t, introspectiontest.NewServer(t), e, nil, prepare)
}

func startIn(t *testing.T, as *introspectiontest.Server, e env, extra []string, prepare func(*exec.Cmd)) *world {
	t.Helper()
	w := &world{as: as, up: newUpstream(t), file: writeFile(t, "bearer", introspectiontest.DefaultBearer+"\n")}
	as.AddToken("good", as.Claims())
	all := env{
		"UPSTREAM_URL": "http://" + w.up.address + "/fhir", "LISTEN_ADDRESS": "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0",
		"INTROSPECTION_ENDPOINT": as.URL + introspectiontest.IntrospectionPath, "BEARER_TOKEN_FILE": w.file, "SHUTDOWN_TIMEOUT": "2s",
	}
	maps.Copy(all, e)
	w.child = spawnPrepared(t, all, extra, prepare)
	w.watch.sources = append(w.watch.sources, as.Secrets)
	w.awaitServing(t)
	return w
}

func (c *child) awaitServing(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); c.data == ""; time.Sleep(2 * time.Millisecond) {
		for _, line := range c.logs("serving") {
			c.data, _ = line["listen_address"].(string)
			c.admin, _ = line["admin_address"].(string)
			c.watch.listens(c.data, "refusals")
			c.watch.listens(c.admin, "admin listener")
		}
		select {
		case <-c.done:
			c.anyExit = true
			t.Fatalf("ended with code %d\n%s%s", c.code, c.stdout.String(), c.stderr.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("doesn't serve\n%s%s", c.stdout.String(), c.stderr.String())
		}
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// get asks the admin listener.
func (c *child) get(t *testing.T, path string) *answer {
	t.Helper()
	return exchange(t, c.admin, "GET "+path+" HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n\r\n")
}

// metric sums the series of a name that have all the labels.
func (c *child) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(c.get(t, "/metrics").body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(line, name+"{") {
			if series, value, _ = strings.Cut(strings.TrimSpace(line), " "); series != name {
				continue
			}
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series+"}", l) }) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// residentKiB is the memory the process has, at its peak or now.
func (c *child) residentKiB(t *testing.T, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	match := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
	n, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Requests are written as text, so that the tests decide every byte.

const (
	good = "Authorization: Bearer good"
	host = "Host: fhir.test"
)

// request puts a request together: its method and target, header lines, no body.
func request(methodAndTarget string, header ...string) string {
	return strings.Join(append([]string{methodAndTarget + " HTTP/1.1", host}, header...), "\r\n") + "\r\n\r\n"
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	closed bool // the connection was closed after it
}

// conn is a client's connection.
type conn struct {
	net.Conn
	*bufio.Reader
}

func (c *conn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func dial(t *testing.T, address string) *conn {
	t.Helper()
	c, err := dialPlain(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialPlain is dial for goroutines of a test; its caller closes.
func dialPlain(address string) (*conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &conn{c, bufio.NewReader(c)}, nil
}

// crowd has n clients ask at the same time, each on a connection of its own, and
// returns what waits for them.
func (c *child) crowd(t *testing.T, n int, ask func(i int, conn *conn)) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			conn, err := dialPlain(c.data)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			ask(i, conn)
		})
	}
	return wg.Wait
}

// do writes the bytes and reads one response.
func (c *conn) do(raw string) (*answer, error) {
	listenerAt(c.RemoteAddr()).sent(raw)
	// The answer may come, and the connection close, before all is written.
	_, writeErr := io.WriteString(c, raw)
	method, _, _ := strings.Cut(raw, " ")
	a, err := c.answer(method)
	if err != nil {
		return nil, errors.Join(err, writeErr)
	}
	return a, nil
}

func (c *conn) answer(method string) (*answer, error) {
	res, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols {
		return c.answer(method)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	a := &answer{res.StatusCode, res.Header, string(body), res.Close}
	listenerAt(c.RemoteAddr()).answered(a)
	return a, err
}

// exchange sends the bytes over a new connection and reads one response.
func exchange(t *testing.T, address, raw string) *answer {
	t.Helper()
	c := dial(t, address)
	defer c.Close()
	a, err := c.do(raw)
	if err != nil {
		t.Fatalf("%.100q: %v", raw, err)
	}
	return a
}

// send is exchange with the data listener.
func (c *child) send(t *testing.T, raw string) *answer {
	t.Helper()
	return exchange(t, c.data, raw)
}

// ask sends one request.
func (c *child) ask(t *testing.T, methodAndTarget string, header ...string) *answer {
	t.Helper()
	return c.send(t, request(methodAndTarget, header...))
}

func (a *answer) is(t *testing.T, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %v %.200s", a.status, status, a.header, a.body)
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// refused checks everything that all refusals have in common. oauth is the
// challenge's error: "" for no challenge, "none" for one without an error.
func (a *answer) refused(t *testing.T, status int, code, oauth string) {
	t.Helper()
	a.is(t, status)
	challenge := a.header["Www-Authenticate"]
	switch {
	case oauth == "" && challenge != nil:
		t.Errorf("WWW-Authenticate %q", challenge)
	case oauth == "":
	case len(challenge) != 1 || !strings.HasPrefix(challenge[0], "Bearer realm="):
		t.Errorf("WWW-Authenticate %q", challenge)
	case oauth == "none" && strings.Contains(challenge[0], "error"):
		t.Errorf("WWW-Authenticate %q names an error", challenge)
	case oauth != "none" && !strings.Contains(challenge[0], `error="`+oauth+`"`):
		t.Errorf("WWW-Authenticate %q, want error %s", challenge, oauth)
	}
	if after := a.header.Get("Retry-After"); (status == 503) != (after != "") {
		t.Errorf("Retry-After %q with status %d", after, status)
	} else if n, err := strconv.Atoi(after); after != "" && (err != nil || n < 0) {
		t.Errorf("Retry-After %q", after)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header["Location"] != nil || a.header.Get("X-Request-Id") == "" {
		t.Errorf("header %v", a.header)
	}
	if got := a.issue(t); got != code {
		t.Errorf("issue code %q, want %q: %s", got, code, a.body)
	}
}

// issue reads the OperationOutcome's code in either format.
func (a *answer) issue(t *testing.T) string {
	t.Helper()
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/fhir+xml") {
		var o struct {
			XMLName  xml.Name `xml:"http://hl7.org/fhir OperationOutcome"`
			Severity struct {
				Value string `xml:"value,attr"`
			} `xml:"issue>severity"`
			Code struct {
				Value string `xml:"value,attr"`
			} `xml:"issue>code"`
		}
		if err := xml.Unmarshal([]byte(a.body), &o); err != nil || o.Severity.Value != "error" {
			t.Errorf("no OperationOutcome: %v %s", err, a.body)
		}
		return o.Code.Value
	}
	var o struct {
		ResourceType string
		Issue        []struct{ Severity, Code string }
	}
	err := json.Unmarshal([]byte(a.body), &o)
	if err != nil || o.ResourceType != "OperationOutcome" || len(o.Issue) != 1 || o.Issue[0].Severity != "error" ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "application/fhir+json") {
		t.Errorf("no OperationOutcome: %v %v %s", err, a.header, a.body)
		return ""
	}
	return o.Issue[0].Code
}

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
		t.Fatal(err)
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
			t.Errorf("FHIR server got: %s", fault)
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

// on answers requests for a path, or for "*", every path that has no answer of
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

func (u *upstream) count() int { return len(u.all()) }

// last returns the latest request.
func (u *upstream) last(t *testing.T) *arrival {
	t.Helper()
	all := u.all()
	if len(all) == 0 {
		t.Fatal("FHIR server got nothing")
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
func (r *arrival) has(t *testing.T, name, value string) {
	t.Helper()
	got := r.values(name)
	if value == "" && got != nil || value != "" && !slices.Equal(got, []string{value}) {
		t.Errorf("FHIR server got %s %q, want %q", name, got, value)
	}
}

// lacks checks that no part of the head has the text.
func (r *arrival) lacks(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(strings.ToLower(r.head+r.trailer), strings.ToLower(text)) {
		t.Errorf("FHIR server got %q in %q", text, r.head+r.trailer)
	}
}
