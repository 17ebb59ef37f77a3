// Package faults breaks the network around the sidecar, floods it, restarts it and
// replaces its files, all while requests come in, and looks at what got lost and
// what was left behind. The binary is the real one; everything stays on loopback.
package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for what takes a moment on a machine that others use too.
const patience = 30 * time.Second

// sidecar is a running process and its addresses, host:port.
type sidecar struct {
	data, admin string
	binary      string
	cmd         *exec.Cmd
	read        chan struct{} // closed when its output has ended
	stderr      *bytes.Buffer
	ended       bool
}

// env are settings without their SIDECAR_ prefix.
type env map[string]string

// start runs the binary in SIDECAR_BINARY until the test ends.
func start(t *testing.T, settings env) *sidecar {
	t.Helper()
	return startFrom(t, os.Getenv("SIDECAR_BINARY"), settings)
}

// startFrom runs a binary until the test ends.
func startFrom(t *testing.T, binary string, settings env) *sidecar {
	t.Helper()
	if binary == "" {
		t.Fatal("SIDECAR_BINARY must name the binary to test; run.sh sets it")
	}
	cmd := exec.Command(binary)
	cmd.Env = []string{"SIDECAR_LISTEN_ADDRESS=127.0.0.1:0", "SIDECAR_ADMIN_ADDRESS=127.0.0.1:0"}
	for name, value := range settings {
		cmd.Env = append(cmd.Env, "SIDECAR_"+name+"="+value)
	}
	s := &sidecar{binary: binary, cmd: cmd, read: make(chan struct{}), stderr: new(bytes.Buffer)}
	cmd.Stderr = s.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan [2]string, 1)
	go func() {
		defer close(s.read)
		lines := bufio.NewReader(stdout)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var entry struct {
				Msg   string `json:"msg"`
				Data  string `json:"listen_address"`
				Admin string `json:"admin_address"`
			}
			if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
				serving <- [2]string{entry.Data, entry.Admin}
				_, _ = io.Copy(io.Discard, lines)
				return
			}
		}
	}()
	t.Cleanup(func() { s.end(t) })
	select {
	case addresses := <-serving:
		s.data, s.admin = addresses[0], addresses[1]
	case <-s.read:
		t.Fatalf("the sidecar doesn't serve\n%s", s.stderr)
	case <-time.After(patience):
		t.Fatal("the sidecar doesn't serve")
	}
	eventually(t, patience, "readiness", s.ready)
	return s
}

// end asks the process to end, which must succeed. Asked twice it does nothing.
func (s *sidecar) end(t *testing.T) {
	t.Helper()
	if s.ended {
		return
	}
	s.ended = true
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.read:
	case <-time.After(2 * patience):
		_ = s.cmd.Process.Kill()
		<-s.read
		t.Error("the sidecar doesn't end")
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the sidecar did not end well: %v\n%s", err, s.stderr)
	}
}

// drain runs the drain command, as a preStop hook would.
func (s *sidecar) drain(t *testing.T) {
	t.Helper()
	if output, err := exec.Command(s.binary, "drain").CombinedOutput(); err != nil {
		t.Errorf("drain: %v %s", err, output)
	}
}

var admin = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func (s *sidecar) ready() bool { return isReady(admin, s.admin) }

func isReady(client *http.Client, address string) bool {
	res, err := client.Get("http://" + address + "/readyz")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// metric returns the sum of the series of a name that have all the labels.
func (s *sidecar) metric(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
	res, err := admin.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	found := false
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		base, rest, _ := strings.Cut(series, "{")
		if base != name || !containsAll(rest, labels) {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum, found = sum+number, true
	}
	if !found {
		t.Fatalf("no metric %s %v", name, labels)
	}
	return sum
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// usage is what a process holds.
type usage struct {
	goroutines, descriptors int
	resident                float64 // MiB
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MiB", u.goroutines, u.descriptors, u.resident)
}

func (s *sidecar) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, name)
}

func (s *sidecar) usage(t *testing.T) usage {
	t.Helper()
	descriptors, err := os.ReadDir(s.proc("fd"))
	if err != nil {
		t.Fatal(err)
	}
	return usage{int(s.metric(t, "go_goroutines")), len(descriptors), s.resident(t)}
}

// resident is the memory that the process has, in MiB.
func (s *sidecar) resident(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(s.proc("status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// cpu is the processor time that the process has used, in user and system mode.
func (s *sidecar) cpu(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(s.proc("stat"))
	if err != nil {
		t.Fatal(err)
	}
	// The second field is the name, in parentheses; user and system are 14 and 15.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on Linux
}

// warm makes the process collect its garbage a few times: only then its memory is
// what it stays at.
func (s *sidecar) warm(t *testing.T) {
	t.Helper()
	withoutToken := load{
		address: s.data, workers: 2, request: func(int) request { return request{method: "GET", target: "/fhir/Patient"} },
		fault: func(_ request, a *answer) string { return isRefusal(a, http.StatusUnauthorized) },
	}
	eventually(t, 2*patience, "garbage is collected", func() bool {
		withoutToken.run(200*time.Millisecond).none(t, "requests without token")
		return s.metric(t, "go_gc_duration_seconds_count") >= 3
	})
}

// settles waits until the process holds no more than before, but for a few
// goroutines and descriptors of connections that come and go, and memory that Go
// gives back when it likes.
func (s *sidecar) settles(t *testing.T, before usage) {
	t.Helper()
	var after usage
	eventually(t, patience, "goroutines, descriptors and memory return", func() bool {
		after = s.usage(t)
		return after.goroutines <= before.goroutines+2 && after.descriptors <= before.descriptors+2 &&
			after.resident <= before.resident+32
	})
	t.Logf("%s: before: %v; after: %v", t.Name(), before, after)
}

// eventually waits until what is asked for holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s: not within %v", what, limit)
			return
		}
	}
}

// write puts a file in place by a rename, as careful programs do.
func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}
