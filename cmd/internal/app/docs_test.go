package app

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// root is the repository's, seen from this package.
var root = filepath.Join("..", "..", "..")

// splice puts text between the markers of a page, or with -update off reports
// that it isn't there.
func splice(t *testing.T, page, marker, text string) {
	t.Helper()
	spliceBetween(t, page, "<!-- "+marker+":begin -->\n", "<!-- "+marker+":end -->", "\n"+text+"\n")
}

func spliceBetween(t *testing.T, page, begin, end, text string) {
	t.Helper()
	path := filepath.Join(root, page)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed || strings.Contains(after, begin) {
		t.Fatalf("%s: want %s…%s once", page, begin, end)
	}
	want := before + begin + text + end + after
	switch {
	case want == string(content):
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
	default:
		t.Errorf("%s is stale after %q, want what make docs writes", page, begin)
	}
}

// TestDocs: the tables of settings are what the struct gives.
func TestDocs(t *testing.T) {
	var table bytes.Buffer
	if err := config.WriteTable(&table); err != nil {
		t.Fatalf("config.WriteTable: got error %v, want none", err)
	}
	splice(t, "docs/configuration.md", "config", table.String())
	if strings.Contains(pages(t)["README.md"], "<!-- config:begin -->") {
		splice(t, "README.md", "config", table.String())
	}
}

// TestDocsMetrics: the table of metrics is what /metrics gives.
func TestDocsMetrics(t *testing.T) {
	_, metrics := exercise(t)
	var table strings.Builder
	table.WriteString("| name | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		m := metrics[name]
		var labels []string
		for _, label := range slices.Sorted(maps.Keys(m.labels)) {
			cell := "`" + label + "`"
			if values := m.values(label); values != "*" {
				cell += ": `" + strings.ReplaceAll(values, ",", "`, `") + "`"
			}
			labels = append(labels, cell)
		}
		if labels == nil {
			labels = []string{"–"}
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, m.kind, strings.Join(labels, "; "), m.help)
	}
	splice(t, "docs/metrics.md", "metrics", table.String())
}

// pages are the repository's Markdown files by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (d.Name()[0] == '.' && d.Name() != ".github" || d.Name() == "testdata" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		content, err := os.ReadFile(filepath.Join(root, path))
		found[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	return found
}

// eachLine calls check with every line of every page and the place it stands at.
func eachLine(t *testing.T, check func(place, line string)) {
	t.Helper()
	for path, content := range pages(t) {
		n := 0
		for line := range strings.Lines(content) {
			n++
			check(fmt.Sprintf("%s:%d", path, n), strings.TrimSuffix(line, "\n"))
		}
	}
}

// TestDocsVariables: every setting that a page names exists. One that ends in an
// underscore stands for those that begin so.
func TestDocsVariables(t *testing.T) {
	known := config.Variables()
	pattern := regexp.MustCompile(`SIDECAR_[A-Z0-9_]*`)
	eachLine(t, func(place, line string) {
		for _, name := range pattern.FindAllString(line, -1) {
			exists := slices.Contains(known, name) || config.IsServiceLink(name+"=") || slices.ContainsFunc(known, func(k string) bool {
				return strings.HasSuffix(name, "_") && strings.HasPrefix(k, name)
			})
			if !exists {
				t.Errorf("%s: got %s, want a setting that there is", place, name)
			}
		}
	})
}

// TestDocsMetricNames: every metric that a page names exists, and so do the
// labels and values that an expression selects by.
func TestDocsMetricNames(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "metrics.golden"))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	values := map[string]string{} // of each metric's labels
	for line := range strings.Lines(string(golden)) {
		fields := strings.Fields(line)
		for _, field := range fields[2:] {
			label, list, _ := strings.Cut(field, "=")
			values[fields[0]+" "+label] = list
		}
	}
	name := regexp.MustCompile(`introspection_sidecar_[a-z_]*(?:\{[^}]*\})?`)
	matcher := regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	eachLine(t, func(place, line string) {
		for _, text := range name.FindAllString(line, -1) {
			series, selector, _ := strings.Cut(text, "{")
			metric := series
			if metricLabels[metric] == nil {
				metric = suffix.ReplaceAllString(series, "")
			}
			if metricLabels[metric] == nil && !strings.HasSuffix(series, "_") {
				t.Errorf("%s: got %s, want a metric that there is", place, series)
				continue
			}
			for _, m := range matcher.FindAllStringSubmatch(selector, -1) {
				list, exists := values[metric+" "+m[1]]
				if m[1] != "le" && !exists {
					t.Errorf("%s: got label %s of %s, want one that it has", place, m[1], metric)
				}
				for value := range strings.SplitSeq(m[2], "|") {
					if exists && list != "*" && !slices.Contains(strings.Split(list, ","), value) {
						t.Errorf("%s: got %s %q of %s, want a value that it takes", place, m[1], value, metric)
					}
				}
			}
		}
	})
}

// TestDocsExamples: every example set of settings is one that the program takes,
// files aside.
func TestDocsExamples(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	setting := regexp.MustCompile(`(?m)^(?:export )?(SIDECAR_\w+)=(\S*)$`)
	examples := 0
	for path, content := range pages(t) {
		for _, b := range block.FindAllStringSubmatch(content, -1) {
			environ := map[string]string{}
			for _, s := range setting.FindAllStringSubmatch(b[1], -1) {
				environ[s[1]] = s[2]
			}
			if _, whole := environ["SIDECAR_UPSTREAM_URL"]; !whole {
				continue // a fragment
			}
			examples++
			if faults := configure(t, environ).Faults; len(faults) > 0 {
				t.Errorf("%s: got %v, want no faults in\n%s", path, faults, b[1])
			}
		}
	}
	if examples < 5 {
		t.Errorf("got %d examples, want at least 5", examples)
	}
}

// TestDocsLinks: every relative link leads somewhere, to a heading if it says so.
func TestDocsLinks(t *testing.T) {
	fence := regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code := regexp.MustCompile("`[^`\n]*`")
	link := regexp.MustCompile(`\]\(([^)\s]+)[^)]*\)|(?m)^\[[^\]]+\]:\s+(\S+)`)
	scheme := regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	all := pages(t)
	for path, content := range all {
		content = code.ReplaceAllString(fence.ReplaceAllString(content, ""), "")
		for _, m := range link.FindAllStringSubmatch(content, -1) {
			target, anchor, anchored := strings.Cut(m[1]+m[2], "#")
			if scheme.MatchString(target) {
				continue
			}
			to := path
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(path), target))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: got a link to %s, want one that leads somewhere", path, target)
				continue
			}
			if page, ok := all[to]; anchored && ok && !slices.Contains(anchors(fence.ReplaceAllString(page, "")), anchor) {
				t.Errorf("%s: got a link to %s#%s, want a heading that is there", path, to, anchor)
			}
		}
	}
}

// anchors are the headings as GitHub links to them.
func anchors(page string) (found []string) {
	heading := regexp.MustCompile(`(?m)^#{1,6} +(.*?) *#*$`)
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		text := dropped.ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(text, " ", "-"))
	}
	return found
}
