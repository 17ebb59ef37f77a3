package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// get asks the admin listener.
func (c *child) get(t testing.TB, path string) *answer {
	t.Helper()
	return exchange(t, c.admin, "GET "+path+" HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n\r\n")
}

// metric sums the series of a name that have all the labels.
func (c *child) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(c.get(t, "/metrics").body) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(line, name+"{") {
			if series, value, _ = strings.Cut(strings.TrimSpace(line), " "); series != name {
				continue
			}
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series+"}", l) }) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("strconv.ParseFloat: got error %v, want none", err)
			}
			sum += v
		}
	}
	return sum
}

// residentKiB is the memory the process has, at its peak or now.
func (c *child) residentKiB(t *testing.T, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	match := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
	n, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatalf("strconv.Atoi: got error %v, want none", err)
	}
	return n
}

const lookups = "introspection_sidecar_cache_lookups_total"

const rejected = "introspection_sidecar_introspections_total"

func (c *child) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, "ready", func() bool { return c.get(t, "/readyz").status == 200 })
}

// reasons are why the sidecar isn't ready.
func (c *child) reasons(t *testing.T) (status int, reasons []string) {
	t.Helper()
	a := c.get(t, "/readyz")
	var body struct{ Reasons []string }
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Errorf("got %s (%v), want reasons in JSON", a.body, err)
	}
	return a.status, body.Reasons
}
