// Package sharedcache runs replicas of the binary against real stores, and breaks
// those: it stops, wipes, fails over and fills them, takes passwords away, and looks
// into what they hold.
package sharedcache

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// patience is for what takes a moment on a machine that others use too.
const patience = 30 * time.Second

// password is that of the account fis at every store; the account default is off,
// or a client with a wrong password would go on as that.
const password = "a-password-of-32-letters-or-so--"

// rules are what the account of a sidecar may do, as the documentation has them.
var rules = []string{
	"resetkeys", "~fis:*", "resetchannels", "-@all",
	"+get", "+set", "+del", "+watch", "+unwatch", "+multi", "+exec", "+xadd", "+xread", "+wait", "+ping", "+hello",
	"+client|setname", "+client|id",
}

// server is a process of a store.
type server struct {
	binary, address string
	directory       string
	environment     []string // beside this process's
	cmd             *exec.Cmd
	log             *bytes.Buffer
	stopped         bool
}

// binaryOf returns the server that run.sh found.
func binaryOf(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s must name a server; run.sh sets it", name)
	}
	return path
}

var usedPorts sync.Map

// freePort returns a loopback port that nobody has, nor had in this run. Those of a
// cluster's bus are 10,000 above.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		_ = l.Close()
		if _, used := usedPorts.LoadOrStore(port, true); !used && port < "55000" {
			return port
		}
	}
}

// startStore runs a server with the account fis until the test ends. The
// configuration is lines of its configuration file.
func startStore(t *testing.T, binary string, configuration ...string) *server {
	t.Helper()
	s := newServer(t, binary, append(accounts(), configuration...)...)
	s.start(t)
	return s
}

// accounts are the sidecar's, and root.
func accounts() []string {
	return []string{
		"user fis on >" + password + " " + strings.Join(rules, " "),
		"user default off",
		"user root on >root ~* &* +@all",
	}
}

func newServer(t *testing.T, binary string, configuration ...string) *server {
	t.Helper()
	port := freePort(t)
	directory := t.TempDir()
	s := &server{binary: binary, address: "127.0.0.1:" + port, directory: directory}
	lines := append([]string{"port " + port, "bind 127.0.0.1", "dir " + directory, `save ""`}, configuration...)
	if err := os.WriteFile(filepath.Join(directory, "conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.kill() })
	return s
}

// start starts it, again if it was killed.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.startWith(t, filepath.Join(s.directory, "conf"))
}

// startWith starts it with other arguments than its configuration file.
func (s *server) startWith(t *testing.T, arguments ...string) {
	t.Helper()
	s.log = new(bytes.Buffer)
	s.cmd = exec.Command(s.binary, arguments...)
	s.cmd.Env = append(os.Environ(), s.environment...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stopped = false
	eventually(t, "the store listens", func() bool {
		conn, err := net.DialTimeout("tcp", s.address, time.Second)
		if err != nil {
			return false
		}
		_ = conn.Close() // what is listened to may still be loading, which clients take
		return true
	})
}

func (s *server) kill() {
	if s.cmd == nil || s.stopped {
		return
	}
	s.stopped = true
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// signal stops it (SIGSTOP) or lets it go on (SIGCONT).
func (s *server) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// root is a client that may do everything.
func (s *server) root(t *testing.T) rueidis.Client {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.address}, Username: "root", Password: "root", DisableCache: true, ForceSingleClient: true,
	})
	if err != nil {
		t.Fatalf("connecting to the store: %v\n%s", err, s.log)
	}
	t.Cleanup(client.Close)
	return client
}

// rootThrough is root through a socket in the store's directory, for one that wants TLS.
func (s *server) rootThrough(t *testing.T, socket string) rueidis.Client {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.address}, Username: "root", Password: "root", DisableCache: true, ForceSingleClient: true,
		DialCtxFn: func(ctx context.Context, _ string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", filepath.Join(s.directory, socket))
		},
	})
	if err != nil {
		t.Fatalf("connecting to the store: %v\n%s", err, s.log)
	}
	t.Cleanup(client.Close)
	return client
}

// do runs a command as root and returns its response as text.
func (s *server) do(t *testing.T, client rueidis.Client, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	response, err := client.Do(ctx, client.B().Arbitrary(command...).Build()).ToAny()
	if err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%v: got %v, want no error", command, err)
	}
	return fmt.Sprint(response)
}

// overwrite replaces a file's content, in a way that is seen at once.
func overwrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// settings are those of a sidecar that uses this store.
func (s *server) settings(t *testing.T) env {
	return env{
		"SHARED_CACHE_ADDRESSES": s.address, "SHARED_CACHE_TLS": "false",
		"SHARED_CACHE_USERNAME": "fis", "SHARED_CACHE_PASSWORD_FILE": writeFile(t, "password", password),
		"SHARED_CACHE_KEY_FILE": writeFile(t, "key", strings.Repeat("5a", 32)),
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

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	within(t, patience, what, holds)
}

// within wants something to hold in time.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: got nothing within %v", what, limit)
		}
	}
}

// replaceInConf changes the configuration file before the start.
func (s *server) replaceInConf(t *testing.T, old, replacement string) {
	t.Helper()
	path := filepath.Join(s.directory, "conf")
	if err := os.WriteFile(path, []byte(strings.Replace(readFile(t, path), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
