package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// stalled starts a sidecar whose stdout is read up to the line "serving" only. The
// test may read on, or close it.
func stalled(t *testing.T, e env) (*child, *bufio.Reader, io.Closer) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	c := spawnPrepared(t, e, nil, func(cmd *exec.Cmd) { cmd.Stdout = in })
	_ = in.Close()
	_ = out.SetReadDeadline(time.Now().Add(4 * patience))
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	var serving struct {
		Data  string `json:"listen_address"`
		Admin string `json:"admin_address"`
	}
	if json.Unmarshal([]byte(line), &serving); err != nil || serving.Data == "" {
		t.Fatalf("%v: %q", err, line)
	}
	c.data, c.admin = serving.Data, serving.Admin
	return c, r, out
}

// J13: nobody reads stdout. Every request gets its answer all the same, the lines
// that were lost are counted when somebody reads again, and the program ends.
func TestBlackboxLogStalled(t *testing.T) {
	t.Parallel()
	e := leastEnv(t)
	e["AUDIT_LOG"], e["LOG_LEVEL"] = "stdout", "debug"
	c, out, _ := stalled(t, e)
	refuse := func(n int) {
		client := dial(t, c.data)
		for range n {
			if a, err := client.do(request("GET /fhir/Patient")); err != nil || a.status != 401 {
				t.Fatal(err, a)
			}
		}
	}
	const n = 4096 + 2000 // more than queue and pipe hold
	refuse(n)
	if a := c.get(t, "/livez"); a.status != 200 {
		t.Errorf("livez %d", a.status)
	}
	seen, lost := 0, 0
	for seen+lost < n {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %d lines, and %d lost", err, seen, lost)
		}
		var m struct {
			Msg, Log string
			Lines    int
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		switch {
		case m.Msg == "request":
			seen++
		case m.Msg == "log lines were lost":
			lost += m.Lines
		}
	}
	if lost == 0 {
		t.Error("nothing was lost, so nothing is proved")
	}
	refuse(1000) // stalled again
	if code := c.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// J13: what read stdout is gone. A program that writes to it dies of SIGPIPE, unless
// it sees to that; this one goes on, and ends as ever.
func TestBlackboxLogGone(t *testing.T) {
	t.Parallel()
	e := leastEnv(t)
	e["AUDIT_LOG"], e["LOG_LEVEL"] = "stdout", "debug"
	c, _, out := stalled(t, e)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	// Lines are written in the background, so that death may come a little later.
	for range 100 {
		if a := exchange(t, c.data, request("GET /fhir/Patient", "Connection: close")); a.status != 401 {
			t.Fatal(a)
		}
	}
	if code := c.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
