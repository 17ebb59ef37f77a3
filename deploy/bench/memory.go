package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// memory measures what an idle connection and cached tokens take, and the start.
func (b *run) memory(r report) error {
	fmt.Fprintln(os.Stderr, "memory")
	var names []string
	for _, p := range b.proxies {
		names = append(names, p.name)
	}
	r.head(append([]string{"KiB of an idle connection"}, names...)...)
	for _, kind := range idleKinds() {
		// None of these has served anything: there is no free memory that they could use.
		fresh, err := b.world.proxies(b.options.sidecars)
		if err != nil {
			return err
		}
		cells := []string{kind.name}
		for _, p := range fresh {
			t := p.plain
			if kind.tls {
				t = p.tls
			}
			kib, err := idle(kind, t)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", p.name, kind.name, err)
			}
			cells = append(cells, fmt.Sprintf("%.1f", kib))
		}
		r.row(cells...)
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
	if err := fill(t, opaque, tokens); err != nil {
		return t, err
	}
	kib, err := t.process.rss()
	r.row(fmt.Sprintf("%s: RSS, %d tokens cached", p.name, tokens), fmt.Sprintf("%.0f MiB", float64(kib)/1024))
	return t, err
}

// fill sends one request with each of n tokens of a kind.
func fill(t target, kind tokenKind, n int) error {
	const workers = 16
	transport := &http.Transport{MaxIdleConnsPerHost: workers, TLSClientConfig: clientTLS()}
	defer transport.CloseIdleConnections()
	failures := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && failures[w] == nil; i += workers {
				failures[w] = fillOne(transport, t, kind.token(i))
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
