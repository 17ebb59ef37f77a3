package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyWithin = 15 * time.Second
	stopWithin  = 40 * time.Second // longer than the sidecar's own drain
)

// sidecar is the real binary, running as a child process.
type sidecar struct {
	data, admin string // base URLs of its two ports
	dir         string // holds its token file, removed at the end
	output      *tail
	process     *os.Process
	exited      chan struct{} // closed when the process has ended and err is set
	err         error
}

func startSidecar(binary string, environ []string) (*sidecar, error) {
	cmd := exec.Command(binary)
	cmd.Env = environ
	cmd.WaitDelay = time.Second // nobody may hold the output open after the end
	s := &sidecar{output: &tail{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s.output, s.output
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the sidecar (build it with: go build -o %s ./cmd/fhir-introspection-sidecar): %w", binary, err)
	}
	s.process = cmd.Process
	go func() {
		defer close(s.exited)
		s.err = cmd.Wait()
	}()
	return s, nil
}

// waitReady waits for the sidecar's readiness probe. When it stays red the error
// holds the probe's last response and what the sidecar said.
func (s *sidecar) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		last := probe(ctx, s.admin+"/readyz")
		if last == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.exited:
			return fmt.Errorf("the sidecar ended before it was ready: %w; it said:\n%s", s.err, s.output)
		case <-ctx.Done():
			return fmt.Errorf("the sidecar did not get ready: %w; it said:\n%s", last, s.output)
		}
	}
}

func probe(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	return fmt.Errorf("%s answers %s %s", url, resp.Status, body)
}

// stop ends the sidecar as Kubernetes does, and complains when it doesn't end
// cleanly. A Ctrl-C went to the sidecar too: with our signal it is the second
// one, after which it may end at once.
func (s *sidecar) stop(interrupted bool) error {
	defer os.RemoveAll(s.dir)
	select {
	case <-s.exited:
		return nil // whoever waited for it has reported that
	default:
	}
	_ = s.process.Signal(syscall.SIGTERM)
	timeout := time.NewTimer(stopWithin)
	defer timeout.Stop()
	select {
	case <-s.exited:
	case <-timeout.C:
		_ = s.process.Kill()
		<-s.exited
		return errors.New("the sidecar did not end on SIGTERM and was killed")
	}
	if s.err != nil && !interrupted {
		return fmt.Errorf("the sidecar did not end cleanly on SIGTERM: %w; it said:\n%s", s.err, s.output)
	}
	return nil
}

// tail keeps the last of what is written to it: a demonstration may run for days.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 8 << 10

// Write keeps p, and forgets the oldest of the rest.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return "    (nothing)"
	}
	return "    " + strings.ReplaceAll(strings.TrimSpace(string(t.kept)), "\n", "\n    ")
}
