package main

import (
	"io"
	"os/exec"
	"strings"
	"testing"
)

// J06: with few descriptors and many clients, probes are answered throughout, those
// who have a place are served, and when clients leave the others are.
func TestBlackboxFewDescriptors(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("prlimit isn't there")
	}
	w := startLimited(t, "prlimit", "--nofile=64:64")
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	var clients []*conn
	for range 200 {
		clients = append(clients, dial(t, w.data))
	}
	first := clients[0]
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if a := w.get(t, path); a.status != 200 {
			t.Errorf("%s: got %d while clients flood, want 200", path, a.status)
		}
	}
	if a, err := first.do(request("GET /fhir/Patient", good)); err != nil || a.status != 200 {
		t.Errorf("who has a place got %v (%v), want 200", a, err)
	}
	if open := w.metric(t, "process_open_fds"); open > 60 {
		t.Errorf("got %v of 64 descriptors open, want at most 60", open)
	}
	last := clients[len(clients)-1]
	if _, err := io.WriteString(last, request("GET /fhir/Patient", good)); err != nil {
		t.Fatalf("io.WriteString: got error %v, want none", err)
	}
	for _, c := range clients[:len(clients)-1] {
		_ = c.Close()
	}
	if a, err := last.answer("GET"); err != nil || a.status != 200 {
		t.Errorf("who waited got %v (%v), want 200", a, err)
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if strings.Contains(w.stdout.String(), "too many open files") {
		t.Error("descriptors ran out, want some left")
	}
}

// startLimited starts a sidecar by a program that takes it as its last arguments.
func startLimited(t *testing.T, prefix ...string) *world {
	t.Helper()
	return startPrepared(t, nil, func(cmd *exec.Cmd) {
		path, err := exec.LookPath(prefix[0])
		if err != nil {
			t.Fatalf("exec.LookPath: got error %v, want none", err)
		}
		cmd.Args = append(append(prefix, cmd.Path), cmd.Args[1:]...)
		cmd.Path = path
	})
}
