package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// idleConnections is how many connections the memory of one is measured with.
const idleConnections = 2000

// memory measures what an idle connection and cached tokens take, and the start.
func (b *run) memory(r report) error {
	fmt.Fprintln(os.Stderr, "memory")
	r.head("memory of an idle connection", "KiB")
	for _, p := range b.proxies {
		kib, err := idle(p.plain)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.row(p.name, fmt.Sprintf("%.1f", kib))
	}
	fmt.Fprintln(r.w)
	r.head("sidecar", "value")
	for _, p := range b.proxies {
		if p.binary == "" {
			continue
		}
		if err := b.memoryOf(r, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	fmt.Fprintln(r.w)
	return nil
}

func (b *run) memoryOf(r report, p *proxy) error {
	ready, err := b.world.startTime(p.binary)
	if err != nil {
		return err
	}
	r.row(p.name+": exec to ready", fmt.Sprintf("%.1f ms", float64(ready.Microseconds())/1000))
	few, err := b.filled(r, p, 1000)
	if err != nil {
		return err
	}
	many, err := b.filled(r, p, b.options.fill)
	if err != nil {
		return err
	}
	var ratios []float64
	c := testCase{name: "tokens", headers: "requests"}
	for range b.options.rounds {
		var s [2]sample
		for i, t := range []target{few, many} {
			l := b.load
			l.tokens = []int{1000, b.options.fill}[i]
			if s[i], err = l.measure(c, t, b.options.seconds); err != nil {
				return err
			}
		}
		ratios = append(ratios, s[1].cpu/s[0].cpu)
	}
	r.row(fmt.Sprintf("%s: CPU time with %d tokens in use, of that with 1000", p.name, b.options.fill),
		fmt.Sprintf("%.2f (%.2f–%.2f)", median(ratios), slices.Min(ratios), slices.Max(ratios)))
	return nil
}

// filled starts a sidecar of its own, fills its cache and reports its memory.
func (b *run) filled(r report, p *proxy, tokens int) (target, error) {
	t, err := b.world.sidecar(p.binary, false, "SIDECAR_CACHE_MAX_ENTRIES="+strconv.Itoa(max(tokens, 50_000)))
	if err != nil {
		return t, err
	}
	if err := fill(t, tokens); err != nil {
		return t, err
	}
	kib, err := t.process.rss()
	r.row(fmt.Sprintf("%s: RSS, %d tokens cached", p.name, tokens), fmt.Sprintf("%.0f MiB", float64(kib)/1024))
	return t, err
}

// idle returns how many KiB a proxy takes for each connection that has had one request.
func idle(t target) (kib float64, err error) {
	before, err := t.process.rss()
	if err != nil {
		return 0, err
	}
	c := testCase{headers: "requests"}
	requests, err := c.requests(t.host)
	if err != nil {
		return 0, err
	}
	text := []byte(string(slices.Concat(requests[0].text)))
	buffer := make([]byte, 4096)
	for range idleConnections {
		conn, err := net.Dial("tcp", t.host)
		if err != nil {
			return 0, err
		}
		defer conn.Close() // all of them, at the end
		if _, err := conn.Write(replaceToken(text)); err != nil {
			return 0, err
		}
		if n, err := conn.Read(buffer); err != nil || !isOK(buffer[:n]) {
			return 0, errors.Join(err, fmt.Errorf("got %q, want 200", buffer[:n]))
		}
	}
	time.Sleep(2 * time.Second) // what is freed at once when idle, is
	after, err := t.process.rss()
	return float64(after-before) / idleConnections, err
}

// fill sends one request with each of n tokens.
func fill(t target, n int) error {
	const workers = 16
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	failures := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && failures[w] == nil; i += workers {
				failures[w] = fillOne(transport, t, opaque.token(i))
			}
		})
	}
	wg.Wait()
	return errors.Join(failures...)
}

func fillOne(transport *http.Transport, t target, token string) error {
	req, err := http.NewRequest(http.MethodGet, t.url()+pathOneWrite, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// startTime returns the median time from exec to ready.
func (w *world) startTime(binary string) (time.Duration, error) {
	data, err := w.port()
	if err != nil {
		return 0, err
	}
	admin, err := w.port()
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	for range 11 {
		cmd := exec.Command("taskset", "-c", w.proxyCore, binary)
		cmd.Env = append(os.Environ(), w.sidecarEnv(data, admin)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		d, err := startOnce(cmd, "http://"+address(admin)+"/readyz")
		if err != nil {
			return 0, err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func startOnce(cmd *exec.Cmd, url string) (time.Duration, error) {
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for time.Since(began) < 10*time.Second {
		if res, _, err := get(url); err == nil && res.StatusCode == http.StatusOK {
			return time.Since(began), nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return 0, errors.New("not ready after 10 s")
}
