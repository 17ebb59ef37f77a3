package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Asked to drain, the sidecar tells its clients to leave and serves on: the FHIR
// server in the same pod still does. SIGTERM then ends it without a second delay.
func TestBlackboxDrainRequest(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SHUTDOWN_DELAY": "1h"})
	kept := dial(t, w.data)
	first, err := kept.do(request("GET /fhir/Patient", good))
	if err != nil || first.closed || w.get(t, "/readyz").status != 200 {
		t.Fatalf("before: got %v (%v), want a kept connection and readiness", first, err)
	}
	w.signal(syscall.SIGUSR1)
	eventually(t, "readiness turns red", func() bool { return w.get(t, "/readyz").status == 503 })
	for name, c := range map[string]*conn{"kept": kept, "new": dial(t, w.data)} {
		a, err := c.do(request("GET /fhir/Patient", good))
		if err != nil || a.status != 200 || !a.closed {
			t.Errorf("on a %s connection: got %v (%v), want 200 and its end", name, a, err)
		}
	}
	w.signal(syscall.SIGUSR1) // again makes no difference
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if w.get(t, "/livez").status != 200 {
		t.Error("got a red liveness while draining, want 200")
	}
	began := time.Now()
	if code := w.terminate(t); code != 0 || time.Since(began) > patience/2 {
		t.Errorf("ended with %d after %v, want 0 within %v", code, time.Since(began), patience/2)
	}
}

// A connection that its client keeps and doesn't use is closed while the FHIR server
// still answers: its next request would find that gone. One that has just been opened
// isn't.
func TestBlackboxDrainUnused(t *testing.T) {
	t.Parallel()
	for _, fast := range []string{"true", "false"} {
		t.Run("fast path "+fast, func(t *testing.T) {
			t.Parallel()
			w := start(t, env{"FAST_PATH": fast})
			unused := dial(t, w.data)
			if a, err := unused.do(request("GET /fhir/Patient", good)); err != nil || a.closed {
				t.Fatalf("before: got %v (%v), want a kept connection", a, err)
			}
			w.signal(syscall.SIGUSR1)
			eventually(t, "readiness turns red", func() bool { return w.get(t, "/readyz").status == 503 })
			fresh := dial(t, w.data)
			if rest, err := io.ReadAll(unused); err != nil || len(rest) > 0 {
				t.Errorf("on the unused connection: got %q, %v, want its end", rest, err)
			}
			if a, err := fresh.do(request("GET /fhir/Patient", good)); err != nil || a.status != 200 {
				t.Errorf("on a new connection: got %v (%v), want 200", a, err)
			}
		})
	}
}

// The command finds the process by the file that it runs from. This test runs
// both from a copy of the test binary, or it would drain the other tests' too.
func TestBlackboxDrainCommand(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("os.Executable: got error %v, want none", err)
	}
	// Written by this process, it would be busy while a child that another test
	// has just started holds what is open here.
	binary := filepath.Join(t.TempDir(), program)
	if output, err := exec.Command("cp", self, binary).CombinedOutput(); err != nil {
		t.Fatalf("cp: got %v and %s, want a copy", err, output)
	}
	drain := func() (string, error) {
		output, err := exec.Command(binary, "drain").CombinedOutput()
		return string(output), err
	}
	if output, err := drain(); err == nil || !strings.Contains(output, "no other process") {
		t.Errorf("without a sidecar: got %v and %q, want an error that says so", err, output)
	}

	as := introspectiontest.NewServer(t)
	sidecar := exec.Command(binary)
	sidecar.Env = []string{
		"SIDECAR_UPSTREAM_URL=http://127.0.0.1:9/fhir", "SIDECAR_INTROSPECTION_ENDPOINT=" + as.Endpoint(),
		"SIDECAR_BEARER_TOKEN_FILE=" + writeFile(t, "bearer", introspectiontest.DefaultBearer),
		"SIDECAR_LISTEN_ADDRESS=127.0.0.1:0", "SIDECAR_ADMIN_ADDRESS=127.0.0.1:0",
	}
	stdout, err := sidecar.StdoutPipe()
	if err != nil {
		t.Fatalf("sidecar.StdoutPipe: got error %v, want none", err)
	}
	if err := sidecar.Start(); err != nil {
		t.Fatalf("sidecar.Start: got error %v, want none", err)
	}
	t.Cleanup(func() { _ = sidecar.Process.Kill() })
	lines := bufio.NewReader(stdout)
	await := func(msg string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if strings.Contains(line, `"msg":"`+msg+`"`) {
				return
			}
			if err != nil {
				t.Fatalf("got no %q in the log (%v), want one", msg, err)
			}
		}
	}
	await("serving")
	if output, err := drain(); err != nil || output != "" {
		t.Fatalf("drain: got %v and %q, want nothing", err, output)
	}
	await("draining")
	_ = sidecar.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, lines)
	if err := sidecar.Wait(); err != nil {
		t.Errorf("sidecar.Wait: got error %v, want none", err)
	}
}
