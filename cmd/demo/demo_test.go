package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// runDemo runs the demo with the test binary as sidecar. Its temporary files go
// to dir.
func runDemo(t *testing.T, ctx context.Context, fault, dir string, stdout io.Writer, args ...string) (code int, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("os.Executable: got error %v, want none", err)
	}
	t.Setenv("TMPDIR", dir)
	var errs bytes.Buffer
	code = run(ctx, append([]string{"-sidecar", self}, args...), append(os.Environ(), "DEMO_STAND_IN="+fault), strings.NewReader(""), stdout, &errs)
	return code, errs.String()
}

// output is what the demo printed so far; another goroutine may read along.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	line chan string // gets every piece written, if not nil
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.line != nil {
		o.line <- string(p)
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("got %v (%v) left in the temporary directory, want nothing", entries, err)
	}
}

func TestStoryHolds(t *testing.T) {
	dir := t.TempDir()
	var out output
	// A setting of the shell's own doesn't reach the sidecar.
	t.Setenv("SIDECAR_BEARER_TOKEN_FILE", "/nowhere")
	code, stderr := runDemo(t, t.Context(), "", dir, &out, "-once", "-v")
	if code != 0 || stderr != "" {
		t.Fatalf("got exit code %d, want 0: %s\n%s", code, stderr, out.String())
	}
	for _, want := range []string{
		"1. The capability statement is public", "9. What the cache was worth",
		"X-Launch-Patient: 123", "< 503 Service Unavailable", `result="hit"`, "expectations held.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q isn't told", want)
		}
	}
	if strings.Contains(out.String(), "\x1b[") {
		t.Error("got colour, though not on a terminal, want none")
	}
	empty(t, dir)
}

// TestBrief: without -v the story fits a screen or two, and every line the terminal.
func TestBrief(t *testing.T) {
	var out output
	code, stderr := runDemo(t, t.Context(), "", t.TempDir(), &out, "-once")
	if code != 0 {
		t.Fatalf("got exit %d, want 0: %s", code, stderr)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) > 60 {
		t.Errorf("got %d lines, want 60 at most:\n%s", len(lines), out.String())
	}
	for _, line := range lines {
		if got := utf8.RuneCountInString(line); got > 80 {
			t.Errorf("got %d characters, want 80 at most: %s", got, line)
		}
	}
	for _, want := range []string{"9. What the cache was worth", "X-Launch-Patient: 123", "503, asked", "expectations held."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got no %q", want)
		}
	}
}

// TestSteps: -step waits for Enter, and an interrupt while it waits is no failure.
func TestSteps(t *testing.T) {
	var out output
	stdin, typed := io.Pipe()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"-sidecar", self, "-step"}, append(os.Environ(), "DEMO_STAND_IN="), stdin, &out, io.Discard)
	}()
	if _, err := io.WriteString(typed, "\n"); err != nil { // goes on after step 1
		t.Fatal(err)
	}
	if _, err := io.WriteString(typed, "\n"); err != nil { // and after step 2, once it waits
		t.Fatal(err)
	}
	interrupt()
	if code := <-ended; code != 0 {
		t.Errorf("got exit %d after an interrupt, want 0", code)
	}
	_ = typed.Close()
	if strings.Contains(out.String(), "5. ") {
		t.Errorf("it didn't wait:\n%s", out.String())
	}
}

// A check that can't fail is worth nothing: every fault must be noticed.
func TestFaultsAreNoticed(t *testing.T) {
	for fault, want := range map[string]string{
		"lets all in": `FAILED: status 401 Unauthorized`,
		"believes":    `FAILED: the request arrived, and none of the forged headers with it`,
		"forgets":     `FAILED: introspections: 0`,
		"says 401":    `FAILED: status 503 Service Unavailable`,
		"hangs up":    `demo: step 3`,
		"ends badly":  `did not end cleanly on SIGTERM: exit status 1`,
		"dies":        "the sidecar ended before it was ready: exit status 2; it said:\n    bad configuration: no reason",
	} {
		t.Run(fault, func(t *testing.T) {
			dir := t.TempDir()
			var out output
			code, stderr := runDemo(t, t.Context(), fault, dir, &out, "-once")
			if code != 1 || !strings.Contains(out.String()+stderr, want) {
				t.Errorf("exit %d, want 1 and %q in:\n%s%s", code, want, out.String(), stderr)
			}
			empty(t, dir)
		})
	}
}

// The lines to paste must work as they stand, until the demo is interrupted.
func TestStaysUp(t *testing.T) {
	dir := t.TempDir()
	out := &output{line: make(chan string)}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan int)
	go func() {
		code, _ := runDemo(t, ctx, "", dir, out)
		close(out.line)
		ended <- code
	}()
	curl := regexp.MustCompile(`curl -i -H 'Authorization: Bearer (\S+)' \$F(/Task) `)
	address := regexp.MustCompile(`F=(http://\S+/fhir)\n`)
	base := ""
	for piece := range out.line {
		if m := address.FindStringSubmatch(piece); m != nil {
			base = m[1]
		}
		if got := utf8.RuneCountInString(strings.TrimRight(piece, "\n")); got > 80 {
			t.Errorf("got %d characters, want 80 at most: %s", got, piece)
		}
		if strings.Contains(piece, "the counts") {
			interrupt()
			continue
		}
		m := curl.FindStringSubmatch(piece)
		if m == nil {
			continue
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+m[2], nil)
		req.Header.Set("Authorization", "Bearer "+m[1])
		client := http.Client{Timeout: 10 * time.Second}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("client.Do: got error %v, want none", err)
			continue
		}
		_ = resp.Body.Close()
		if want := map[bool]int{true: 401, false: 200}[m[1] == revokedToken]; resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", m[0], resp.StatusCode, want)
		}
	}
	if code := <-ended; code != 0 {
		t.Errorf("got exit code %d after an interrupt, want 0", code)
	}
	empty(t, dir)
}

// Whoever listens may leave: the story ends, and so does what it started.
func TestNobodyListens(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("os.Pipe: got error %v, want none", err)
	}
	defer w.Close()
	_ = r.Close()
	code, stderr := runDemo(t, t.Context(), "", dir, w)
	if code != 1 || !strings.Contains(stderr, "broken pipe") {
		t.Errorf("got exit code %d and %s, want 1 and a broken pipe", code, stderr)
	}
	empty(t, dir)
}

func TestArguments(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-h"}, 0, "-once"},
		{[]string{"-wrong"}, 2, "flag provided but not defined"},
		{[]string{"-once", "extra"}, 2, `unexpected argument "extra"`},
		{[]string{"-once", "-sidecar", missing}, 1, "go build -o " + missing},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), tt.args, nil, strings.NewReader(""), &stdout, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%v: exit %d %s, want %d and %q", tt.args, code, stderr.String(), tt.code, tt.want)
		}
	}
}

func TestNoReadiness(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &sidecar{admin: "http://127.0.0.1:1", output: &tail{}, exited: make(chan struct{})}
	_, _ = s.output.Write([]byte("waiting for nothing\n"))
	if err := s.waitReady(ctx); err == nil || !strings.Contains(err.Error(), "waiting for nothing") {
		t.Errorf("got error %v, want one that says what it waited for", err)
	}
}

func TestTailForgetsTheOldest(t *testing.T) {
	var kept tail
	for range 3 * tailBytes / 8 {
		_, _ = kept.Write([]byte("old log\n"))
	}
	_, _ = kept.Write([]byte("new"))
	if len(kept.kept) != tailBytes || !strings.HasSuffix(kept.String(), "    new") {
		t.Errorf("kept %d bytes, ending in %q, want %d and the new ones", len(kept.kept), kept.kept[len(kept.kept)-20:], tailBytes)
	}
}

func TestColour(t *testing.T) {
	for _, tt := range []struct {
		path    string
		environ []string
		want    bool
	}{
		{os.DevNull, nil, true}, // a character device, as a terminal is
		{os.DevNull, []string{"NO_COLOR=1"}, false},
		{os.DevNull, []string{"NO_COLOR="}, true},
		{os.DevNull, []string{"TERM=dumb"}, false},
		{filepath.Join(t.TempDir(), "file"), nil, false},
	} {
		f, err := os.OpenFile(tt.path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatalf("os.OpenFile: got error %v, want none", err)
		}
		p := newPrinter(f, tt.environ)
		if _ = f.Close(); p.colour != tt.want || (p.paint(red, "x") == "x") == tt.want {
			t.Errorf("%s %v: colour %v, want %v", tt.path, tt.environ, p.colour, tt.want)
		}
	}
}

func TestExcerpt(t *testing.T) {
	if got, want := excerpt("{\n  \"a\": [1,  2]\n}\n"), `{"a":[1,2]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := excerpt(strings.Repeat("é", 200)); got != strings.Repeat("é", 110)+" ..." {
		t.Errorf("got %s, want it cut after 110 characters", got)
	}
}
