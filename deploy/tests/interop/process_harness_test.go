package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything but the start of a server may take, and startup how
// long that. A JVM needs a minute on a busy machine.
const (
	patience = 30 * time.Second
	startup  = 5 * time.Minute
)

// client follows no redirects and never hangs.
var client = &http.Client{
	Timeout:       patience,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// tool returns the path that run.sh put into a variable.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set; run.sh sets it", name)
	}
	return path
}

// process is somebody else's program.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  *lockedBuffer
}

// lockedBuffer holds what a process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail returns the end of it.
func (l *lockedBuffer) tail() string {
	all := l.String()
	return all[max(0, len(all)-4000):]
}

// start runs a command until the test ends. Its children end with it.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, done: make(chan struct{}), log: new(lockedBuffer)}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	t.Cleanup(p.end)
	return p
}

// end asks the process to end, and soon makes it.
func (p *process) end() {
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = syscall.Kill(group, syscall.SIGKILL)
		<-p.done
	}
}

// await waits until something answers a GET of url, whatever it says.
func (p *process) await(t *testing.T, url string) {
	t.Helper()
	began := time.Now()
	for time.Since(began) < startup {
		select {
		case <-p.done:
			t.Fatalf("%s ended\n%s", p.name, p.log.tail())
		default:
		}
		if res, err := client.Get(url); err == nil {
			_ = res.Body.Close()
			if res.StatusCode < 500 {
				t.Logf("%s serves after %.1f s", p.name, time.Since(began).Seconds())
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s doesn't serve at %s\n%s", p.name, url, p.log.tail())
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("waiting for %s: it doesn't come", what)
		}
	}
}

// ports hands out ports below those that the kernel gives to clients, so that
// nothing else takes one between here and the start of a server.
var ports = struct {
	sync.Mutex
	next int
}{next: 22000}

func freePort(t *testing.T) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for ports.next++; ports.next < 24000; ports.next++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.next)); err == nil {
			_ = l.Close()
			return fmt.Sprint(ports.next)
		}
	}
	t.Fatal("no free port")
	return ""
}

// writeFile writes into the test's own folder and returns the path.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// response is a whole response.
type response struct {
	status int
	header http.Header
	body   string
}

// send sends a request and reads all of the response.
func send(t *testing.T, req *http.Request) response {
	t.Helper()
	return sendBy(t, client, req)
}

func sendBy(t *testing.T, c *http.Client, req *http.Request) response {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the body: %v", req.Method, req.URL, err)
	}
	return response{status: res.StatusCode, header: res.Header, body: string(body)}
}

// request makes a request; headers are name, value, name, value.
func request(t *testing.T, method, url, body string, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}
