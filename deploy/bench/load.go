package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sample is one measurement of a proxy under the load of a case.
type sample struct {
	cpu      float64 // µs of user and system time per request
	rate     float64 // requests per second
	p50, p99 float64 // µs; zero: not known
}

// load makes requests from the load's core.
type load struct {
	world   *world
	seconds int
	tokens  int
	fresh   int // first opaque token that nobody has used
}

// coldTokens is more than a cold run can use up.
const coldTokens = 200_000

// loadTimeout is longer than any load takes: a load generator that hangs is a failure.
const loadTimeout = 2 * time.Minute

// h2Rate is how many requests h2load sends for each second of a measurement. It has a mode
// that goes by time, which doesn't always end.
const h2Rate = 10_000

// measure loads a proxy for a while.
func (l *load) measure(c testCase, t target, seconds int) (sample, error) {
	before, err := t.process.cpu()
	if err != nil {
		return sample{}, err
	}
	var s sample
	var requests float64
	if c.streams > 0 {
		requests, s, err = l.h2load(c, t, seconds)
	} else {
		requests, s, err = l.wrk(c, t, seconds)
	}
	if err != nil {
		return sample{}, fmt.Errorf("%s: %s: %w", c.name, t.url(), err)
	}
	after, err := t.process.cpu()
	s.cpu = float64((after - before).Nanoseconds()) / 1000 / requests
	return s, err
}

func (l *load) command(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	return exec.CommandContext(ctx, "taskset", append([]string{"-c", l.world.loadCore, name}, args...)...).CombinedOutput()
}

func (l *load) wrk(c testCase, t target, seconds int) (requests float64, s sample, err error) {
	args := []string{"-t", "1", "-c", strconv.Itoa(c.connections()), "-d", strconv.Itoa(seconds) + "s", "--timeout", "10s",
		"--latency", "-s", filepath.Join(l.world.dir, "wrk.lua"), t.url(), "--", c.token.format()}
	if c.cold {
		args = append(args, strconv.Itoa(coldTokens), strconv.Itoa(l.fresh))
		l.fresh += coldTokens
	} else {
		args = append(args, strconv.Itoa(l.tokens), "0")
	}
	all, err := c.requests(t.host)
	if err != nil {
		return 0, s, err
	}
	for i, r := range all {
		file := filepath.Join(l.world.dir, "request-"+strconv.Itoa(i))
		if err := os.WriteFile(file, r.text, 0o600); err != nil {
			return 0, s, err
		}
		args = append(args, file)
	}
	out, err := l.command("wrk", args...)
	if err != nil {
		return 0, s, fmt.Errorf("%w: %s", err, out)
	}
	return parseWrk(c, string(out))
}

// parseWrk reads the line that wrk.lua prints.
func parseWrk(c testCase, out string) (requests float64, s sample, err error) {
	var took, broken, refused float64
	_, line, ok := strings.Cut(out, "\nRESULT ")
	if !ok {
		return 0, s, fmt.Errorf("wrk said: %s", out)
	}
	if _, err := fmt.Sscan(line, &requests, &took, &s.p50, &s.p99, &broken, &refused); err != nil {
		return 0, s, err
	}
	wanted := 0.0
	if c.status >= 400 {
		wanted = requests
	}
	if requests == 0 || broken != 0 || refused != wanted {
		return 0, s, fmt.Errorf("%.0f requests, %.0f broken, %.0f refused, of which %.0f should be", requests, broken, refused, wanted)
	}
	s.rate = requests / took * 1e6
	return requests, s, nil
}

var (
	h2loadDone = regexp.MustCompile(`status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2loadBad  = regexp.MustCompile(`(\d+) failed, (\d+) errored, (\d+) timeout`)
)

func (l *load) h2load(c testCase, t target, seconds int) (requests float64, s sample, err error) {
	args := []string{"-n", strconv.Itoa(seconds * h2Rate), "-t", "1", "-c", strconv.Itoa(c.connections()), "-m", strconv.Itoa(c.streams),
		"-H", "authorization: Bearer " + c.token.token(1)}
	lines, err := headerLines(c.headers)
	if err != nil {
		return 0, s, err
	}
	for _, line := range lines {
		args = append(args, "-H", line)
	}
	began := time.Now()
	out, err := l.command("h2load", append(args, t.url()+pathOneWrite)...)
	if err != nil {
		return 0, s, fmt.Errorf("%w: %s", err, out)
	}
	done, bad := h2loadDone.FindSubmatch(out), h2loadBad.FindSubmatch(out)
	if done == nil || bad == nil {
		return 0, s, fmt.Errorf("h2load said: %s", out)
	}
	if string(done[2])+string(done[3])+string(done[4]) != "000" || string(bad[1])+string(bad[2])+string(bad[3]) != "000" {
		return 0, s, fmt.Errorf("failures: %s; %s", done[0], bad[0])
	}
	requests, err = strconv.ParseFloat(string(done[1]), 64)
	s.rate = requests / time.Since(began).Seconds()
	return requests, s, err
}

// round measures every proxy once, the other way round in every second round.
func (l *load) round(c testCase, proxies []*proxy, n int, results map[string][]sample) error {
	for i := range proxies {
		p := proxies[i]
		if n%2 == 1 {
			p = proxies[len(proxies)-1-i]
		}
		if c.cold {
			time.Sleep(200 * time.Millisecond) // nobody's verdicts are written any more
		}
		s, err := l.measure(c, p.of(c), l.seconds)
		if err != nil {
			return err
		}
		results[p.name] = append(results[p.name], s)
	}
	return nil
}
