package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// canary is part of every secret of these tests and must appear nowhere else.
const canary = "cAnArY-7f3b"

// replacedFile is a File that a test replaces.
type replacedFile struct {
	mu      sync.Mutex
	content []byte
	err     error
	rereads int
}

func newFile(content string) *replacedFile { return &replacedFile{content: []byte(content)} }

func (f *replacedFile) read(reread bool) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reread {
		f.rereads++
	}
	return f.content, f.err
}

func (f *replacedFile) replace(content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.err = []byte(content), nil
}

func (f *replacedFile) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content, f.err = nil, err
}

// fixed is a File that stays as it is.
func fixed(content string) *File { return newFile(content).file() }

func (f *replacedFile) file() *File { return &File{Read: f.read} }

// logBuffer collects log lines from any goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// noCanary fails the test when a secret shows, plain or as it travels.
func noCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{canary, url.QueryEscape(canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(text, form) {
			t.Errorf("got %s in %s, want no secret", text, where)
		}
	}
}
