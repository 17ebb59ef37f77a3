package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// sinkFunc is where audit records go in a test.
type sinkFunc func(p []byte) (int, error)

func (f sinkFunc) Write(p []byte) (int, error) { return f(p) }

// newTestAudit returns an audit log that runs, and what ends it.
func newTestAudit(t *testing.T, target string, sink io.Writer, log io.Writer) (a *AuditLog, end func()) {
	t.Helper()
	a, err := NewAuditLog(AuditConfig{
		Target: target, Stdout: sink, Logger: slog.New(slog.NewJSONHandler(log, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatalf("NewAuditLog: got error %v, want none", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	end = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("got error %v, want none", err)
		}
	})
	t.Cleanup(end)
	return a, end
}

// record is what these tests write.
type record struct {
	Subject string `json:"sub"`
}

type auditLine struct {
	introspectiontest.AuditHead
	record
}

// TestAuditOneWrite: a record is one Write, so that nothing gets into its line
// on a stream that others write to.
// Nothing in it ends the line (L09).
func TestAuditOneWrite(t *testing.T) {
	var text bytes.Buffer
	writes := 0
	a, end := newTestAudit(t, "stdout", sinkFunc(func(p []byte) (int, error) { writes++; return text.Write(p) }), io.Discard)
	for range 10 {
		a.Add(record{Subject: "a\nb\u2028\"<" + strings.Repeat("x", 100_000)})
	}
	end()
	introspectiontest.InSequence(t, introspectiontest.AuditLines[auditLine](t, text.String()), 10)
	if writes != 10 {
		t.Errorf("got %d writes for 10 records, want 10", writes)
	}
}

// TestAuditBlockedSink: nobody waits for a sink that is stuck. What didn't fit
// is counted, and missing in the numbers.
func TestAuditBlockedSink(t *testing.T) {
	const lost = 100
	var text bytes.Buffer
	entered, release := make(chan struct{}, 1), make(chan struct{})
	a, end := newTestAudit(t, "stdout", sinkFunc(func(p []byte) (int, error) {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-release
		return text.Write(p)
	}), io.Discard)
	a.Add(record{})
	<-entered
	for range auditQueue + lost {
		a.Add(record{})
	}
	if got := testutil.ToFloat64(a.dropped); got != lost {
		t.Errorf("%v dropped, want %d", got, lost)
	}
	close(release)
	end()
	a.Add(record{})
	a.write(<-a.queue)
	lines := introspectiontest.AuditLines[auditLine](t, text.String())
	introspectiontest.InSequence(t, lines[:len(lines)-1], auditQueue+1)
	if last := lines[len(lines)-1].Sequence; last != auditQueue+1+lost+1 {
		t.Errorf("got number %d after the gap, want %d", last, auditQueue+1+lost+1)
	}
}

// TestAuditFailingSink: failures are counted each and logged once, and half a
// line doesn't spoil the next.
func TestAuditFailingSink(t *testing.T) {
	var text, log bytes.Buffer
	full := &fs.PathError{Op: "write", Path: "/secret/path", Err: syscall.ENOSPC}
	script := []func(p []byte) (int, error){
		text.Write,
		func([]byte) (int, error) { return 0, full },
		func(p []byte) (int, error) { n, _ := text.Write(p[:20]); return n, full },
		func([]byte) (int, error) { return 0, full },
		text.Write,
		text.Write,
		func([]byte) (int, error) { return 0, errors.New("gone") },
	}
	a, end := newTestAudit(t, "stdout", sinkFunc(func(p []byte) (int, error) {
		write := script[0]
		script = script[1:]
		return write(p)
	}), &log)
	for range len(script) {
		a.Add(record{})
	}
	end()
	raw := strings.SplitAfter(text.String(), "\n")
	lines := introspectiontest.AuditLines[auditLine](t, raw[0]+strings.Join(raw[2:], ""))
	var numbers []uint64
	for _, line := range lines {
		numbers = append(numbers, line.Sequence)
	}
	if !slices.Equal(numbers, []uint64{1, 5, 6}) || len(raw[1]) != 21 {
		t.Errorf("got numbers %v, want 1, 5 and 6\n%s", numbers, &text)
	}
	if got := testutil.ToFloat64(a.dropped); got != 4 {
		t.Errorf("%v dropped, want 4", got)
	}
	if n := strings.Count(log.String(), "audit record can't be written"); n != 2 {
		t.Errorf("got %d log lines for two failures, want 2:\n%s", n, &log)
	}
	if !strings.Contains(log.String(), `"no space left on device"`) || strings.Contains(log.String(), "secret") {
		t.Errorf("got log %s, want the cause and nothing of the record", &log)
	}
}

// TestAuditFile: a new file is the owner's alone, an old one is appended to,
// and copy-and-truncate loses nothing that comes later.
func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	for i := range 2 {
		a, end := newTestAudit(t, path, nil, io.Discard)
		a.Add(record{Subject: fmt.Sprint(i)})
		end()
	}
	read := func() []auditLine {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("os.ReadFile: got error %v, want none", err)
		}
		return introspectiontest.AuditLines[auditLine](t, string(text))
	}
	if lines := read(); len(lines) != 2 || lines[0].Subject != "0" || lines[1].Subject != "1" {
		t.Errorf("got records %+v, want those of both", lines)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got mode %v (%v), want 0600", info.Mode(), err)
	}
	a, end := newTestAudit(t, path, nil, io.Discard)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatalf("os.Truncate: got error %v, want none", err)
	}
	a.Add(record{Subject: "2"})
	end()
	if lines := read(); len(lines) != 1 || lines[0].Subject != "2" {
		t.Errorf("got records %+v, want the third", lines)
	}
}

// TestAuditReopen: rotated by a rename, the file is written on under its old name, and
// no record is lost or torn.
func TestAuditReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	a, end := newTestAudit(t, path, nil, io.Discard)
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	written := func(path string, n int) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); strings.Count(read(path), "\n") != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("got %q, want %d records", read(path), n)
			}
		}
	}
	a.Add(record{"one"})
	written(path, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	a.Add(record{"two"}) // nobody has told yet
	written(path+".1", 2)
	a.Reopen()
	a.Reopen() // again makes no difference
	a.Add(record{"three"})
	end()
	introspectiontest.InSequence(t, introspectiontest.AuditLines[auditLine](t, read(path+".1")+read(path)), 3)
	if got := introspectiontest.AuditLines[auditLine](t, read(path)); len(got) != 1 || got[0].Subject != "three" {
		t.Errorf("got %+v under the old name, want the third record", got)
	}
}
