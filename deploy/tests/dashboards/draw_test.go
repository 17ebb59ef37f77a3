package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	pictured = 2 * time.Minute // what the pictures show
	picture  = 1260            // their width, in pixels
	gap      = 8               // around panels
	padding  = 10              // in a panel
	graph    = 170             // height of a graph, without its axis
	legend   = 56              // and of what stands below
	margin   = 52              // left of a graph, for the axis
)

const style = `body{margin:8px;background:#f4f5f5;font:11px "DejaVu Sans",sans-serif;color:#24292e;display:grid;gap:8px}
div{background:#fff;border:1px solid #e4e5e6;padding:10px;border-radius:2px;box-sizing:border-box;overflow:hidden}
h2{font-size:13px;margin:0 0 6px}b{display:block;font-size:52px;line-height:72px;text-align:center;font-weight:500}
p{margin:4px 0 0;line-height:1.5}i{display:inline-block;width:12px;height:3px;margin:0 4px 3px 0}span{margin-right:10px;white-space:nowrap}
svg{display:block}text{font-size:10px;fill:#707070}.grid{stroke:#e4e5e6}`

// draw makes a picture of each row of the dashboard. It is a preview in plain SVG,
// not Grafana, though the colours are the same.
func (p *prometheus) draw(t *testing.T, folder string) {
	t.Helper()
	to := time.Now()
	for _, r := range rows {
		columns := r.columns()
		lines := (len(r.panels) + columns - 1) / columns
		height := 2*padding + 22 + graph + 20 + legend
		var page strings.Builder
		fmt.Fprintf(&page, `<!doctype html><meta charset="utf-8"><style>%s body{grid-template-columns:repeat(%d,1fr);grid-auto-rows:%dpx}</style>`, style, columns, height)
		width := (picture-gap*(columns+1))/columns - 2*padding - 2
		for _, panel := range r.panels {
			fmt.Fprintf(&page, "<div><h2>%s</h2>%s</div>", html.EscapeString(panel.title), p.panel(t, panel, float64(width), to))
		}
		source := filepath.Join(t.TempDir(), "page.html")
		if err := os.WriteFile(source, []byte(page.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(folder, strings.ReplaceAll(strings.ToLower(r.title), " ", "-")+".png")
		output, err := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
			fmt.Sprintf("--window-size=%d,%d", picture, lines*(height+gap)+gap), "--screenshot="+target, "file://"+source).CombinedOutput()
		if err != nil {
			t.Fatalf("chromium: %v\n%s", err, output)
		}
	}
}

// palette are Grafana's colours by name.
var palette = map[string]string{
	"green": "#73bf69", "dark-green": "#37872d", "light-green": "#96d98d", "yellow": "#fade2a", "dark-yellow": "#e0b400", "light-yellow": "#fff899",
	"red": "#f2495c", "dark-red": "#c4162a", "blue": "#5794f2", "light-blue": "#c0d8ff", "orange": "#ff9830", "dark-orange": "#fa6400",
	"dark-blue": "#1f60c4", "light-orange": "#ffb357", "light-red": "#ff7383", "super-light-purple": "#eadbff", "purple": "#b877d9", "dark-purple": "#8f3bb8", "light-purple": "#deb6f2",
}

// unnamed are for words without a colour, such as pods.
var unnamed = []string{"green", "blue", "orange", "purple", "yellow", "red"}

var legendOf = regexp.MustCompile(`\{\{(\w+)\}\}`)

// line is a series with what the legend says of it.
type line struct {
	series
	name, colour string
}

// panel draws one panel.
func (p *prometheus) panel(t *testing.T, panel panel, width float64, to time.Time) string {
	t.Helper()
	var lines []line
	for _, q := range panel.queries {
		for _, s := range p.queryRange(t, expression(q), to.Add(-pictured), to) {
			if panel.stacked && slices.Max(s.values) == 0 {
				continue // what never happened would only fill the legend
			}
			name := legendOf.ReplaceAllStringFunc(q.legend, func(name string) string { return s.labels[strings.Trim(name, "{}")] })
			colour := colours[q.legend][name]
			if colour == "" {
				colour = unnamed[len(lines)%len(unnamed)]
			}
			lines = append(lines, line{s, name, palette[colour]})
		}
	}
	if panel.stat {
		last := lines[0].values[len(lines[0].values)-1]
		lines[0].colour = palette[panel.colour(last)]
		scale, suffix := units(panel.unit, last)
		return fmt.Sprintf(`<b style="color:%s">%.3g%s</b>`, lines[0].colour, last*scale, suffix) +
			panel.graph(lines, width, graph-52, to)
	}
	if panel.stacked {
		stack(lines)
	}
	var b strings.Builder
	b.WriteString(panel.graph(lines, width, graph, to) + "<p>")
	for _, l := range lines {
		fmt.Fprintf(&b, `<span><i style="background:%s"></i>%s</span> `, l.colour, html.EscapeString(l.name))
	}
	return b.String() + "</p>"
}

// colour is that of the thresholds.
func (p panel) colour(v float64) string {
	less := p.alarm < p.warn // the less the worse
	switch {
	case p.warn == 0 || less && v >= p.warn || !less && v < p.warn:
		return "green"
	case less && v >= p.alarm || !less && v < p.alarm:
		return "orange"
	}
	return "red"
}

// stack adds to each line those before it.
func stack(lines []line) {
	sum := map[float64]float64{}
	for _, l := range lines {
		for i, at := range l.times {
			if finite(l.values[i]) {
				sum[at] += l.values[i]
			}
			l.values[i] = sum[at]
		}
	}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// graph draws axes, thresholds and lines, the last ones first, so that of a stack
// all are seen.
func (p panel) graph(lines []line, width, height float64, to time.Time) string {
	top := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if finite(v) {
				top = max(top, v)
			}
		}
	}
	scale, suffix := units(p.unit, top)
	step, top := ticks(top * scale)
	step, top = step/scale, top/scale // round in what the axis is labelled with
	floor := height + 8
	y := func(v float64) float64 { return floor - v/top*height }
	x := func(at float64) float64 {
		return margin + (at-float64(to.Unix())+pictured.Seconds())/pictured.Seconds()*(width-margin)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg width="%v" height="%v">`, width, floor+18)
	for v := 0.0; v < top+step/2; v += step {
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%v" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%.4g%s</text>`,
			margin, width, y(v), y(v), margin-5, y(v)+3, v*scale, suffix)
	}
	for i := range 4 {
		at := to.Add(-pictured + time.Duration(i)*pictured/4)
		fmt.Fprintf(&b, `<text x="%.1f" y="%v">%s</text>`, x(float64(at.Unix())), floor+14, at.Format("15:04:05"))
	}
	for _, l := range slices.Backward(lines) {
		l.draw(&b, x, y, p.stacked)
	}
	if !p.stat && p.warn != 0 {
		for limit, colour := range map[float64]string{p.warn: "orange", p.alarm: "red"} {
			if limit <= top {
				fmt.Fprintf(&b, `<line x1="%d" x2="%v" y1="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="6 4"/>`, margin, width, y(limit), y(limit), palette[colour])
			}
		}
	}
	return b.String() + "</svg>"
}

// draw leaves a gap where there was nothing.
func (l line) draw(b *strings.Builder, x, y func(float64) float64, filled bool) {
	var points []string
	var from, to float64 // of the points, in seconds
	flush := func() {
		if filled && points != nil {
			fmt.Fprintf(b, `<polygon points="%.1f,%.1f %s %.1f,%.1f" fill="%s"/>`, x(from), y(0), strings.Join(points, " "), x(to), y(0), l.colour)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, strings.Join(points, " "), l.colour)
		points = nil
	}
	for i, v := range l.values {
		if !finite(v) {
			continue
		}
		at := l.times[i]
		if points != nil && at-to > 3 {
			flush()
		}
		if points == nil {
			from = at
		}
		to = at
		points = append(points, fmt.Sprintf("%.1f,%.1f", x(at), y(v)))
	}
	flush()
}

// ticks are a round step of an axis and a multiple of it that is not below top.
func ticks(top float64) (step, end float64) {
	if top == 0 {
		return 1, 1
	}
	magnitude := math.Pow(10, math.Floor(math.Log10(top)))
	for _, part := range []float64{0.25, 0.5, 1, 2.5} {
		if step = part * magnitude; top <= 4*step {
			break
		}
	}
	return step, math.Ceil(top/step-1e-9) * step
}

// units are the factor and the sign of Grafana's units, as far as they are used,
// for an axis that ends at top.
func units(unit string, top float64) (factor float64, suffix string) {
	switch unit {
	case "percentunit":
		return 100, "%"
	case "bytes":
		return 1.0 / (1 << 20), " MiB"
	case "s":
		if top < 1 {
			return 1000, " ms"
		}
		return 1, " s"
	case "reqps", "ops":
		return 1, "/s"
	}
	return 1, ""
}
