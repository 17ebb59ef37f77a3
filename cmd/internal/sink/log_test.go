package sink

import (
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asJSON is the format of the lines in these tests.
func asJSON(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

// TestLog: J13: what a slow or failing log loses is counted, and told by the next
// line that gets through.
func TestLog(t *testing.T) {
	var text strings.Builder
	entered, release := make(chan struct{}, 1), make(chan struct{})
	l := NewLog(sinkFunc(func(p []byte) (int, error) {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-release
		return text.Write(p)
	}), asJSON)
	_, _ = io.WriteString(l, "first\n")
	<-entered
	for range logQueue {
		_, _ = io.WriteString(l, "queued\n")
	}
	for range 3 {
		_, _ = io.WriteString(l, "lost\n")
	}
	close(release)
	l.Close()
	lines := strings.SplitAfter(text.String(), "\n")
	if want := logQueue + 2; len(lines) != want+1 || lines[0] != "first\n" || lines[2] != "queued\n" || !strings.Contains(lines[1], `"lines":3`) {
		t.Errorf("%d lines, want %d: %q", len(lines), want, lines[:3])
	}
}

// TestLogFails: J13: on a full disk half a line is ended, and counts as lost.
func TestLogFails(t *testing.T) {
	var text strings.Builder
	calls := 0
	l := NewLog(sinkFunc(func(p []byte) (int, error) {
		if calls++; calls == 2 {
			n, _ := text.Write(p[:3])
			return n, syscall.ENOSPC
		}
		return text.Write(p)
	}), asJSON)
	for _, line := range []string{"first\n", "second\n", "third\n"} {
		_, _ = io.WriteString(l, line)
	}
	l.Close()
	lines := strings.Split(text.String(), "\n")
	if len(lines) != 5 || lines[1] != "sec" || !strings.Contains(lines[2], `"lines":1`) || lines[3] != "third" {
		t.Errorf("got %q, want five lines, one of them about a lost one", lines)
	}
}

// TestLogGivesUp: a log that is stuck doesn't keep the program from ending.
func TestLogGivesUp(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	l := NewLog(sinkFunc(func([]byte) (int, error) { <-release; return 0, io.ErrClosedPipe }), asJSON)
	_, _ = io.WriteString(l, "line\n")
	ended := make(chan struct{})
	go func() { l.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Error("waits for the log, want it to give up")
	}
}
