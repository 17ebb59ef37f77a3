package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLogWriter: J13: what a slow or failing log loses is counted, and told by the next
// line that gets through.
func TestLogWriter(t *testing.T) {
	var text strings.Builder
	entered, release := make(chan struct{}, 1), make(chan struct{})
	l := newLogWriter(sinkFunc(func(p []byte) (int, error) {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-release
		return text.Write(p)
	}))
	_, _ = io.WriteString(l, "first\n")
	<-entered
	for range logQueue {
		_, _ = io.WriteString(l, "queued\n")
	}
	for range 3 {
		_, _ = io.WriteString(l, "lost\n")
	}
	close(release)
	l.close()
	lines := strings.SplitAfter(text.String(), "\n")
	if want := logQueue + 2; len(lines) != want+1 || lines[0] != "first\n" || lines[2] != "queued\n" || !strings.Contains(lines[1], `"lines":3`) {
		t.Errorf("%d lines, want %d: %q", len(lines), want, lines[:3])
	}
}

// TestLogWriterFails: J13: on a full disk half a line is ended, and counts as lost.
func TestLogWriterFails(t *testing.T) {
	var text strings.Builder
	calls := 0
	l := newLogWriter(sinkFunc(func(p []byte) (int, error) {
		if calls++; calls == 2 {
			n, _ := text.Write(p[:3])
			return n, syscall.ENOSPC
		}
		return text.Write(p)
	}))
	for _, line := range []string{"first\n", "second\n", "third\n"} {
		_, _ = io.WriteString(l, line)
	}
	l.close()
	lines := strings.Split(text.String(), "\n")
	if len(lines) != 5 || lines[1] != "sec" || !strings.Contains(lines[2], `"lines":1`) || lines[3] != "third" {
		t.Errorf("%q", lines)
	}
}

// TestLogWriterGivesUp: a log that is stuck doesn't keep the program from ending.
func TestLogWriterGivesUp(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	l := newLogWriter(sinkFunc(func([]byte) (int, error) { <-release; return 0, io.ErrClosedPipe }))
	_, _ = io.WriteString(l, "line\n")
	ended := make(chan struct{})
	go func() { l.close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("waits for the log")
	}
}

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
	const n = logQueue + 2000 // more than queue and pipe hold
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
