package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// result is what was measured of one case.
type result struct {
	testCase
	samples map[string][]sample // by proxy, in the order of the rounds
}

func cpuOf(s sample) float64 { return s.cpu }
func p50Of(s sample) float64 { return s.p50 }
func p99Of(s sample) float64 { return s.p99 }

func figure(name string) func(sample) float64 {
	return map[string]func(sample) float64{"cpu": cpuOf, "p50": p50Of, "p99": p99Of}[name]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

func (r result) median(proxy string, of func(sample) float64) float64 {
	var values []float64
	for _, s := range r.samples[proxy] {
		values = append(values, of(s))
	}
	return median(values)
}

// ratio returns the median, least and most of a figure of one proxy as a part of that of
// another, round by round: other work on the machine slows both alike.
func (r result) ratio(of, to string, figure func(sample) float64) (mid, low, high float64) {
	var values []float64
	for i := range min(len(r.samples[of]), len(r.samples[to])) {
		if base := figure(r.samples[to][i]); base > 0 {
			values = append(values, figure(r.samples[of][i])/base)
		}
	}
	if len(values) == 0 {
		return 0, 0, 0
	}
	return median(values), slices.Min(values), slices.Max(values)
}

// report writes what was measured as Markdown.
type report struct {
	w        io.Writer
	sidecars []string // names; the first is compared with the others
	others   []string
	results  []result
}

func (r report) row(cells ...string) { fmt.Fprintln(r.w, "| "+strings.Join(cells, " | ")+" |") }

func (r report) head(cells ...string) {
	r.row(cells...)
	dashes := make([]string, len(cells))
	for i := range dashes {
		dashes[i] = "---"
	}
	r.row(dashes...)
}

// cpu writes CPU time per request, and ours as a part of that of the others.
func (r report) cpu() {
	names := append(append([]string{}, r.sidecars...), r.others...)
	head := append([]string{"CPU µs per request"}, names...)
	compared := append(append([]string{}, r.sidecars[1:]...), nameNginx, nameLua)
	for _, name := range compared {
		head = append(head, "÷ "+name+" (spread)")
	}
	r.head(append(head, "goal")...)
	for _, result := range r.results {
		cells := []string{result.name}
		for _, name := range names {
			cells = append(cells, number1(result.median(name, cpuOf)))
		}
		for _, name := range compared {
			mid, low, high := result.ratio(r.sidecars[0], name, cpuOf)
			cells = append(cells, fmt.Sprintf("**%.2f** (%.2f–%.2f)", mid, low, high))
		}
		r.row(append(cells, r.goals(result))...)
	}
}

// summary names the cases in which we take less, and those in which we take more.
func (r report) summary() {
	for _, name := range []string{nameNginx, nameLua} {
		var less, more []string
		for _, result := range r.results {
			mid, _, _ := result.ratio(r.sidecars[0], name, cpuOf)
			text := fmt.Sprintf("%s (%.2f)", result.name, mid)
			if mid <= 1 {
				less = append(less, text)
			} else {
				more = append(more, text)
			}
		}
		for _, list := range []struct {
			word  string
			cases []string
		}{{"No more", less}, {"**More**", more}} {
			if list.cases != nil {
				fmt.Fprintf(r.w, "- %s CPU time than %s in %d of %d cases: %s.\n", list.word, name, len(list.cases), len(r.results), strings.Join(list.cases, "; "))
			}
		}
	}
}

// goals says for each goal whether it was reached.
func (r report) goals(result result) string {
	var said []string
	for _, g := range result.goals {
		mid, _, _ := result.ratio(r.sidecars[0], g.of, figure(g.figure))
		text := fmt.Sprintf("≤ %.2g × %s", g.most, g.of)
		if g.figure != "cpu" {
			text += "'s " + g.figure
		}
		if mid > g.most+0.005 {
			text += fmt.Sprintf(": **missed**, %.2f", mid)
		}
		said = append(said, text)
	}
	if said == nil {
		return "–"
	}
	return strings.Join(said, "; ")
}

// latency writes throughput and latency.
func (r report) latency() {
	names := append(append([]string{}, r.sidecars...), r.others...)
	r.head(append([]string{"requests/s; p50, p99 in µs"}, names...)...)
	for _, result := range r.results {
		cells := []string{result.name}
		for _, name := range names {
			cell := fmt.Sprintf("%.0f", result.median(name, func(s sample) float64 { return s.rate }))
			if p50 := result.median(name, p50Of); p50 > 0 {
				cell += fmt.Sprintf("; %.0f, %.0f", p50, result.median(name, p99Of))
			}
			cells = append(cells, cell)
		}
		r.row(cells...)
	}
}

// lesser writes the first case's figures of the proxies that do less.
func (r report) lesser(names []string) {
	for _, result := range r.results {
		if !result.extra {
			continue
		}
		r.head("proxy, "+result.name, "CPU µs per request", "of nginx", "requests/s", "p50 µs", "p99 µs")
		for _, name := range slices.Concat(r.sidecars, r.others, names) {
			mid, _, _ := result.ratio(name, nameNginx, cpuOf)
			r.row(name, number1(result.median(name, cpuOf)), fmt.Sprintf("%.2f", mid),
				fmt.Sprintf("%.0f", result.median(name, func(s sample) float64 { return s.rate })),
				fmt.Sprintf("%.0f", result.median(name, p50Of)), fmt.Sprintf("%.0f", result.median(name, p99Of)))
		}
	}
}

func number1(f float64) string {
	if f >= 1000 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

const (
	markBegin = "<!-- bench: begin -->"
	markEnd   = "<!-- bench: end -->"
)

// replaceMarked puts text between the marks of a file.
func replaceMarked(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), markBegin)
	_, after, ok2 := strings.Cut(rest, markEnd)
	if !ok || !ok2 {
		return errors.New(file + ": no " + markBegin + " … " + markEnd)
	}
	return os.WriteFile(file, []byte(before+markBegin+"\n\n"+strings.TrimSpace(text)+"\n\n"+markEnd+after), 0o644)
}
