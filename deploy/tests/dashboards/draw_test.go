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

// draw makes a picture of each row of the dashboard, of the last minute and a half.
// It is a preview in plain SVG, not Grafana.
func (p *prometheus) draw(t *testing.T, folder string) {
	t.Helper()
	to := time.Now()
	for _, r := range rows {
		var page strings.Builder
		page.WriteString(`<!doctype html><meta charset="utf-8"><style>body{margin:8px;background:#f4f5f5;font:12px "DejaVu Sans",sans-serif;color:#24292e;display:grid;grid-template-columns:repeat(3,1fr);gap:8px}` +
			`div{background:#fff;border:1px solid #e4e5e6;padding:8px;border-radius:2px}h2{font-size:13px;margin:0 0 4px}b{font-size:54px;font-weight:500}p{margin:2px 0 0;line-height:1.5}i{display:inline-block;width:12px;height:3px;margin:0 4px 3px 8px}</style>`)
		for _, panel := range r.panels {
			page.WriteString("<div><h2>" + html.EscapeString(panel.title) + "</h2>" + p.picture(t, panel, to) + "</div>")
		}
		source := filepath.Join(t.TempDir(), "page.html")
		if err := os.WriteFile(source, []byte(page.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		height := 16 + (len(r.panels)+2)/3*322
		target := filepath.Join(folder, strings.ReplaceAll(strings.ToLower(r.title), " ", "-")+".png")
		output, err := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
			fmt.Sprintf("--window-size=1260,%d", height), "--screenshot="+target, "file://"+source).CombinedOutput()
		if err != nil {
			t.Fatalf("chromium: %v\n%s", err, output)
		}
	}
}

var (
	colours      = []string{"#56a64b", "#3274d9", "#f2cc0c", "#e02f44", "#8f3bb8", "#ff780a", "#37872d", "#1f60c4", "#b877d9", "#ffb357", "#5a5a5a", "#1ab3a6"}
	legendOf     = regexp.MustCompile(`\{\{(\w+)\}\}`)
	width, floor = 384.0, 210.0
)

// picture draws one panel.
func (p *prometheus) picture(t *testing.T, panel panel, to time.Time) string {
	t.Helper()
	if panel.stat {
		found := p.query(t, expression(panel.queries[0]))
		return fmt.Sprintf(`<b style="color:%s">%s</b>`, panel.colour(found[0].values[0]), show(panel.unit, found[0].values[0]))
	}
	var lines []series
	var names []string
	for _, q := range panel.queries {
		for _, s := range p.queryRange(t, expression(q), to.Add(-80*time.Second), to) {
			if panel.stacked && slices.Max(s.values) == 0 {
				continue // what never happened would only fill the legend
			}
			lines = append(lines, s)
			names = append(names, legendOf.ReplaceAllStringFunc(q.legend, func(name string) string { return s.labels[strings.Trim(name, "{}")] }))
		}
	}
	if panel.stacked {
		stack(lines)
	}
	top := 0.0
	for _, s := range lines {
		for _, v := range s.values {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				top = max(top, v)
			}
		}
	}
	if top == 0 {
		top = 1
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg width="%v" height="%v" viewBox="0 0 %v %v">`, width, floor+12, width, floor+12)
	for i := range 4 {
		y := floor - float64(i)/3*(floor-14)
		fmt.Fprintf(&b, `<line x1="52" x2="%v" y1="%v" y2="%v" stroke="#e4e5e6"/><text x="48" y="%v" text-anchor="end" font-size="10" fill="#707070">%s</text>`,
			width, y, y, y+3, show(panel.unit, top*float64(i)/3))
	}
	for i := len(lines) - 1; i >= 0; i-- {
		drawLine(&b, lines[i], colours[i%len(colours)], top, float64(to.Unix()), panel.stacked)
	}
	b.WriteString("</svg><p>")
	for i, name := range names {
		fmt.Fprintf(&b, `<i style="background:%s"></i>%s`, colours[i%len(colours)], html.EscapeString(name))
	}
	return b.String() + "</p>"
}

// colour is that of the thresholds.
func (p panel) colour(v float64) string {
	green, orange, red := colours[0], colours[5], colours[3]
	less := p.alarm < p.warn // the less the worse
	switch {
	case p.warn == 0 || less && v >= p.warn || !less && v < p.warn:
		return green
	case less && v >= p.alarm || !less && v < p.alarm:
		return orange
	}
	return red
}

// stack adds to each line those before it.
func stack(lines []series) {
	sum := map[float64]float64{}
	for _, s := range lines {
		for i, at := range s.times {
			if !math.IsNaN(s.values[i]) {
				sum[at] += s.values[i]
			}
			s.values[i] = sum[at]
		}
	}
}

func drawLine(b *strings.Builder, s series, colour string, top, end float64, filled bool) {
	var points []string
	first, last := 0.0, 0.0
	for i, v := range s.values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		x := 52 + (s.times[i]-(end-80))/80*(width-52)
		if points == nil {
			first = x
		}
		last = x
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, floor-v/top*(floor-14)))
	}
	if points == nil {
		return
	}
	if filled {
		fmt.Fprintf(b, `<polygon points="%.1f,%v %s %.1f,%v" fill="%s" fill-opacity="1"/>`, first, floor, strings.Join(points, " "), last, floor, colour)
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.4"/>`, strings.Join(points, " "), colour)
}

// show writes a number in Grafana's units, as far as they are used.
func show(unit string, v float64) string {
	switch unit {
	case "percentunit":
		return fmt.Sprintf("%.3g%%", v*100)
	case "bytes":
		return fmt.Sprintf("%.3g MiB", v/(1<<20))
	case "s":
		if v < 1 && v > 0 {
			return fmt.Sprintf("%.3g ms", v*1000)
		}
		return fmt.Sprintf("%.3g s", v)
	case "reqps", "ops":
		return fmt.Sprintf("%.3g/s", v)
	}
	return fmt.Sprintf("%.3g", v)
}
