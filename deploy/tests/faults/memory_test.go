package faults

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// chartLimit is the memory limit of the chart's own values.
	chartLimit = 192 << 20

	// crowd is how many clients come at once that read nothing, or send nothing.
	crowd = 10_000
)

// confined returns a command that runs the binary in a control group with the chart's
// memory limit. It skips the test where such a group can't be made.
func confined(t *testing.T) (command string) {
	t.Helper()
	for _, place := range []struct{ root, limit string }{
		{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	} {
		group := filepath.Join(place.root, fmt.Sprintf("fhir-introspection-sidecar-%d", os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) })
		if _, err := os.Stat(filepath.Join(group, place.limit)); err != nil {
			continue // not the kernel's, or without a controller for memory
		}
		if os.WriteFile(filepath.Join(group, place.limit), []byte(strconv.Itoa(chartLimit)), 0o600) != nil {
			continue
		}
		command = filepath.Join(t.TempDir(), "confined")
		script := fmt.Sprintf("#!/bin/sh\necho $$ >%s/cgroup.procs && exec %s \"$@\"\n", group, os.Getenv("SIDECAR_BINARY"))
		if err := os.WriteFile(command, []byte(script), 0o755); err != nil { //nolint:gosec // it is a command
			t.Fatal(err)
		}
		return command
	}
	t.Skip("no control group with a memory limit can be made here: that takes root and a writable /sys/fs/cgroup")
	return ""
}

// TestMemoryLimit: ten thousand clients that ask for a document and don't read it, or
// that send nothing, don't end the process in the chart's own limits; and when they
// leave, it serves.
func TestMemoryLimit(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < crowd+1000 {
		t.Skipf("needs %d open files, got %d", crowd+1000, files.Cur)
	}
	document := strings.Repeat("x", 2<<20)
	fhir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = io.WriteString(w, document)
	}))
	t.Cleanup(fhir.Close)
	for name, request := range map[string]string{
		"read nothing": "GET /fhir/metadata HTTP/1.1\r\nHost: a\r\n\r\n",
		"send nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := startFrom(t, confined(t), env{
				"UPSTREAM_URL": fhir.URL + "/fhir", "INTROSPECTION_ENDPOINT": "http://127.0.0.1:9/introspect", "INTROSPECTION_AUTH": "none",
			})
			clients := make([]net.Conn, crowd)
			var dials sync.WaitGroup
			for i := range clients {
				dials.Go(func() {
					c, err := net.DialTimeout("tcp", s.data, 20*time.Second)
					if err != nil {
						return // the kernel's queue is full
					}
					clients[i] = c
					_, _ = io.WriteString(c, request)
				})
			}
			dials.Wait()
			connected, most := 0, 0.0
			for _, c := range clients {
				if c != nil {
					connected++
				}
			}
			for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
				if !s.ready() {
					t.Fatalf("not ready with %d clients that %s\n%s", connected, name, s.stderr)
				}
				most = max(most, s.resident(t))
			}
			t.Logf("%d clients connected, %.0f MiB resident at most", connected, most)
			for _, c := range clients {
				if c != nil {
					_ = c.Close()
				}
			}
			eventually(t, patience, "it serves again", func() bool {
				res, err := admin.Get("http://" + s.data + "/fhir/metadata")
				if err != nil {
					return false
				}
				defer res.Body.Close()
				n, err := io.Copy(io.Discard, res.Body)
				return err == nil && n == int64(len(document))
			})
		})
	}
}
