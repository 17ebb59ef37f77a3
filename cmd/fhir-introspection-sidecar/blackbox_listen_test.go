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
			t.Errorf("%s: %d while clients flood", path, a.status)
		}
	}
	if a, err := first.do(request("GET /fhir/Patient", good)); err != nil || a.status != 200 {
		t.Errorf("who has a place: %v %v", a, err)
	}
	if open := w.metric(t, "process_open_fds"); open > 60 {
		t.Errorf("%v of 64 descriptors are open", open)
	}
	last := clients[len(clients)-1]
	if _, err := io.WriteString(last, request("GET /fhir/Patient", good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients[:len(clients)-1] {
		_ = c.Close()
	}
	if a, err := last.answer("GET"); err != nil || a.status != 200 {
		t.Errorf("who waited: %v %v", a, err)
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if strings.Contains(w.stdout.String(), "too many open files") {
		t.Error("descriptors ran out")
	}
}

// startLimited starts a sidecar by a program that takes it as its last arguments.
func startLimited(t *testing.T, prefix ...string) *world {
	t.Helper()
	return startPrepared(t, nil, func(cmd *exec.Cmd) {
		path, err := exec.LookPath(prefix[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(append(prefix, cmd.Path), cmd.Args[1:]...)
		cmd.Path = path
	})
}
