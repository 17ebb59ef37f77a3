package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// run is one run of the bench.
type run struct {
	options options
	world   *world
	proxies []*proxy
	extra   []*proxy
	load    load
	warmed  map[string]bool
}

// all checks the proxies, measures the cases, and reports.
func (b *run) all(cases []testCase, memory bool) (err error) {
	if b.extra, err = b.world.lesser(); err != nil {
		return err
	}
	before := loadAverage()
	context, err := b.check(cases)
	if err != nil || b.options.smoke {
		return err
	}
	var out bytes.Buffer
	r := report{w: &out}
	for _, p := range b.proxies {
		if p.binary != "" {
			r.sidecars = append(r.sidecars, p.name)
		} else {
			r.others = append(r.others, p.name)
		}
	}
	for _, c := range cases {
		result, err := b.measure(c)
		if err != nil { // which one hiccup of the machine is enough for
			fmt.Fprintln(os.Stderr, "again:", err)
			if result, err = b.measure(c); err != nil {
				return err
			}
		}
		r.results = append(r.results, result)
	}
	b.write(r, &out)
	if memory {
		err = b.memory(r)
	}
	b.footer(&out, context, before)
	fmt.Print(out.String())
	if b.options.write != "" {
		err = errors.Join(err, replaceMarked(b.options.write, out.String()))
	}
	return err
}

func (b *run) write(r report, out *bytes.Buffer) {
	if len(r.results) == 0 {
		return
	}
	r.summary()
	fmt.Fprintln(out)
	r.cpu()
	fmt.Fprintln(out)
	r.latency()
	fmt.Fprintln(out)
	var names []string
	for _, p := range b.extra {
		names = append(names, p.name)
	}
	r.lesser(names)
	fmt.Fprintln(out)
}

// check proves that all do the same job, and that each serves each case.
func (b *run) check(cases []testCase) (context []string, err error) {
	if context, err = b.world.sameJob(b.proxies); err != nil {
		return nil, err
	}
	checked := 0
	for _, c := range cases {
		for _, p := range b.of(c) {
			if err := smoke(c, p); err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			checked++
		}
	}
	fmt.Fprintf(os.Stderr, "%d cases served, each by %d proxies at least (%d times in all)\n", len(cases), len(b.proxies), checked)
	return context, nil
}

// of returns the proxies that a case measures.
func (b *run) of(c testCase) []*proxy {
	if c.extra {
		return append(append([]*proxy{}, b.proxies...), b.extra...)
	}
	return b.proxies
}

// measure warms the proxies up and measures them in rounds.
func (b *run) measure(c testCase) (result, error) {
	r := result{testCase: c, samples: make(map[string][]sample)}
	fmt.Fprintf(os.Stderr, "%s\n", c.name)
	if !c.cold {
		for _, p := range b.of(c) {
			if err := b.warm(c, p.of(c)); err != nil {
				return r, err
			}
		}
	}
	before, err := b.world.introspections()
	if err != nil {
		return r, err
	}
	for n := range b.options.rounds {
		if err := b.load.round(c, b.of(c), n, r.samples); err != nil {
			return r, err
		}
	}
	after, err := b.world.introspections()
	if err == nil && after != before && !c.cold && c.status == 0 {
		err = fmt.Errorf("%s: %d introspections while every verdict was cached", c.name, after-before)
	}
	return r, err
}

// warm has a proxy know every token of a case, and whatever else it does only once. One
// that has been warmed for the like is left alone.
func (b *run) warm(c testCase, t target) error {
	like := fmt.Sprintf("%s %d %d %t", t.host, c.token, c.status, c.streams > 0)
	if b.warmed[like] {
		return nil
	}
	b.warmed[like] = true
	if c.status == 0 {
		if err := fill(t, c.token, b.options.tokens); err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, t.url(), err)
		}
	}
	_, err := b.load.measure(c, t, 1)
	return err
}

// footer says how it was measured, and what the FHIR server saw.
func (b *run) footer(out *bytes.Buffer, context []string, loadBefore string) {
	fmt.Fprintf(out, "Medians of %d rounds of %d s, in which the proxies take turns; %d tokens; 32 connections where the case says nothing else.\n\n",
		b.options.rounds, b.options.seconds, b.options.tokens)
	fmt.Fprintf(out, "Context as the FHIR server sees it, from all:\n\n```text\n%s\n```\n\n", strings.Join(context, "\n"))
	for _, p := range b.proxies {
		if p.binary != "" {
			fmt.Fprintf(out, "- %s: %s\n", p.name, said(p.binary, "version"))
		}
	}
	modules := "dpkg-query -W -f '${Package} ${Version}, ' libnginx-mod-http-js libnginx-mod-http-lua lua-resty-lrucache"
	fmt.Fprintf(out, "- %s; %s\n", said("nginx", "-v"), strings.TrimSuffix(said("sh", "-c", modules), ","))
	fmt.Fprintf(out, "- %s; %s; %s\n", first(said("haproxy", "-v")), first(said("sh", "-c", "wrk -v || true")), said("h2load", "--version"))
	fmt.Fprintf(out, "- bench built with %s; %s; %s; load of the machine before and after: %s, %s\n", runtime.Version(), said("uname", "-sr"),
		said("sh", "-c", "sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1"), loadBefore, loadAverage())
}

// loadAverage is of the last minute. Before the bench it should be next to nothing.
func loadAverage() string { return said("cut", "-d", " ", "-f", "1", "/proc/loadavg") }

// said returns what a command prints, or why it didn't.
func said(command string, args ...string) string {
	out, err := exec.Command(command, args...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

func first(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
