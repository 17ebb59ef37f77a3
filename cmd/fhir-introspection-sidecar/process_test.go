package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain, want: %s", patience, what)
		}
	}
}

// env is the sidecar's environment, without SIDECAR_. An empty value unsets.
type env map[string]string

// child is a running sidecar.
type child struct {
	cmd            *exec.Cmd
	stdout, stderr introspectiontest.Log
	done           chan struct{}
	code           int
	data, admin    string // addresses
	anyExit        bool   // its end is none of the test's business
	dialed         string // file of the dial recorder
	watch          *leakWatch
	leaky          bool // the test has planted a leak
}

// standardOnly has net/http serve every request that a test doesn't say otherwise for.
var standardOnly = flag.Bool("standard", false, "start the program without the fast path")

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
	if _, set := e["FAST_PATH"]; *standardOnly && !set {
		c.cmd.Env = append(c.cmd.Env, "SIDECAR_FAST_PATH=false")
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
		t.Fatalf("cmd.Start: got error %v, want none", err)
	}
	go func() {
		_ = c.cmd.Wait()
		c.code = c.cmd.ProcessState.ExitCode()
		close(c.done)
	}()
	t.Cleanup(func() {
		c.signal(syscall.SIGTERM)
		if code := c.wait(t); code != 0 && !c.anyExit {
			t.Errorf("got exit code %d, want 0\n%s%s", code, c.stdout.String(), c.stderr.String())
		}
		if text := c.stderr.String(); strings.Contains(text, "DATA RACE") || !c.anyExit && strings.Contains(text, "goroutine ") {
			t.Errorf("got %s on stderr, want no stack traces", text)
		}
		if stray := c.strayDials(); len(stray) > 0 {
			t.Errorf("connected to %q, want only what settings name", stray)
		}
		c.watch.end()
		if found := c.leaks(); len(found) > 0 && !c.leaky {
			t.Errorf("got %d leaks, want none:\n%s", len(found), strings.Join(found, "\n"))
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
		t.Errorf("process still runs after %v, want its end\n%s", 2*patience, c.stdout.String())
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
		t.Errorf("%v still runs after %v, want its end", args, patience)
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
			t.Fatalf("ended with code %d, want it to serve\n%s%s", c.code, c.stdout.String(), c.stderr.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("nothing is served after %v, want listeners\n%s%s", patience, c.stdout.String(), c.stderr.String())
		}
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	return path
}

func leastEnv(t *testing.T) env {
	t.Helper()
	return env{
		"UPSTREAM_URL": "http://127.0.0.1:9/fhir", "LISTEN_ADDRESS": "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0",
		"INTROSPECTION_ENDPOINT": "http://127.0.0.1:9/i", "BEARER_TOKEN_FILE": writeFile(t, "b", "own-bearer"),
	}
}
