package main

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v2"
)

const (
	dashboardFile = "../../grafana/dashboard.json"
	rulesFile     = "../../prometheus/rules.yaml"
	ruleTestsFile = "../../prometheus/rules_test.yaml"
	runbooks      = "../../../docs/runbooks/"
)

func TestDashboardIsGenerated(t *testing.T) {
	content, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content, render()) {
		t.Errorf("%s is stale; go run . >%s rewrites it", dashboardFile, dashboardFile)
	}
	titles := map[string]bool{}
	for _, r := range rows {
		for _, p := range r.panels {
			if titles[p.title] || p.title == "" || p.description == "" || p.unit == "" || len(p.queries) == 0 {
				t.Errorf("panel %q: title twice, or no description, unit or query", p.title)
			}
			titles[p.title] = true
		}
	}
}

// rule is one rule of the rules file.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	content, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// variables stand for what a user may choose.
var variables = strings.NewReplacer("$namespace", "care", "$job", "fhir", "$pod", ".*", "$__rate_interval", "10s")

func expressions(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, r := range rows {
		for _, p := range r.panels {
			for _, q := range p.queries {
				found[p.title+"/"+q.legend] = variables.Replace(expression(q))
			}
		}
	}
	for _, r := range rules(t) {
		found[r.Record+r.Alert] = r.Expr
	}
	return found
}

// exported is what /metrics has: the labels of each series and their values.
type exported map[string]map[string][]string

var sample = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? `)

func (e exported) read(t *testing.T, address string) {
	t.Helper()
	res, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range sample.FindAllStringSubmatch(string(content), -1) {
		if e[match[1]] == nil {
			e[match[1]] = map[string][]string{}
		}
		for _, pair := range regexp.MustCompile(`([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(match[2], -1) {
			e[match[1]][pair[1]] = append(e[match[1]][pair[1]], pair[2])
		}
	}
}

// ofTarget are the labels that scraping adds.
var ofTarget = []string{"namespace", "job", "pod", "instance"}

// TestExpressionsNameRealSeries: no panel and no alert looks at something that the
// binary doesn't export, or at a label or value that it never has.
func TestExpressionsNameRealSeries(t *testing.T) {
	w := newWorld(t)
	// What Prometheus itself makes.
	series := exported{"up": {}, "ALERTS": {"alertstate": {"pending", "firing"}}}
	for _, p := range w.pods {
		series.read(t, p.admin)
	}
	recorded := map[string]bool{}
	for _, r := range rules(t) {
		recorded[r.Record] = r.Record != ""
		if r.Alert != "" {
			series["ALERTS"]["alertname"] = append(series["ALERTS"]["alertname"], r.Alert)
		}
	}
	for name, text := range expressions(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.VectorSelector:
				if !recorded[n.Name] {
					series.check(t, name, n)
				}
			case *parser.AggregateExpr:
				for _, label := range n.Grouping {
					if !series.anyHas(n.Expr, label) && !slices.Contains(ofTarget, label) {
						t.Errorf("%s groups by %s, which none of its series has", name, label)
					}
				}
			}
			return nil
		})
	}
}

func (e exported) check(t *testing.T, name string, n *parser.VectorSelector) {
	known, ok := e[n.Name]
	if !ok {
		t.Errorf("%s names %s, which is not exported", name, n.Name)
		return
	}
	for _, matcher := range n.LabelMatchers {
		if matcher.Name == labels.MetricName || slices.Contains(ofTarget, matcher.Name) {
			continue
		}
		values := known[matcher.Name]
		if len(values) == 0 {
			t.Errorf("%s: %s has no label %s", name, n.Name, matcher.Name)
			continue
		}
		for value := range strings.SplitSeq(matcher.Value, "|") {
			if matcher.Type == labels.MatchEqual || matcher.Type == labels.MatchNotEqual {
				value = regexp.QuoteMeta(value)
			}
			whole := regexp.MustCompile("^(?:" + value + ")$")
			if !slices.ContainsFunc(values, whole.MatchString) {
				t.Errorf("%s: %s never has %s=%q", name, n.Name, matcher.Name, value)
			}
		}
	}
}

// TestColours: every word that a legend can have is given a colour, and no other.
func TestColours(t *testing.T) {
	w := newWorld(t)
	series := exported{}
	for _, p := range w.pods {
		series.read(t, p.admin)
	}
	for _, label := range []string{"result", "decision", "code", "verdict", "reason"} {
		exports := map[string]bool{}
		for name, labels := range series {
			// The reasons for which a header is left out are in no colour.
			for _, value := range labels[label] {
				exports[value] = exports[value] || !strings.Contains(name, "omitted_headers")
			}
		}
		named := map[string]bool{}
		for legend, words := range colours {
			position := slices.Index(strings.Fields(legend), "{{"+label+"}}")
			for word := range words {
				if position >= 0 {
					named[strings.Fields(word)[position]] = true
				}
			}
		}
		maps.DeleteFunc(exports, func(_ string, shown bool) bool { return !shown })
		if !maps.Equal(named, exports) {
			t.Errorf("%s: colours for %v, exported %v", label, slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(exports)))
		}
	}
}

func (e exported) anyHas(expr parser.Expr, label string) (found bool) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if n, ok := node.(*parser.VectorSelector); ok {
			found = found || len(e[n.Name][label]) > 0
		}
		return nil
	})
	return found
}

// TestPanelsLeadToRunbooks: whoever sees a panel burn gets to the page of the alert
// that goes with it, and there is no alert that no panel belongs to.
func TestPanelsLeadToRunbooks(t *testing.T) {
	alerts := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert != "" {
			alerts[strings.TrimPrefix(r.Alert, "IntrospectionSidecar")] = true
		}
	}
	led := map[string]bool{}
	for _, r := range rows {
		for _, p := range r.panels {
			if p.runbook != "" && !alerts[p.runbook] {
				t.Errorf("panel %q leads to %s, which is no alert", p.title, p.runbook)
			}
			led[p.runbook] = true
		}
	}
	for alert := range alerts {
		if !led[alert] {
			t.Errorf("no panel leads to the runbook of %s", alert)
		}
	}
}

// TestRunbooks: each alert has a page, and each page an alert.
func TestRunbooks(t *testing.T) {
	pages := map[string]bool{}
	entries, err := os.ReadDir(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		pages[entry.Name()] = entry.Name() != "README.md"
	}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		page := r.Alert + ".md"
		if !pages[page] || !strings.HasSuffix(r.Annotations["runbook_url"], "/docs/runbooks/"+page) {
			t.Errorf("%s has no page, or another runbook_url: %s", r.Alert, r.Annotations["runbook_url"])
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks severity, summary or description", r.Alert)
		}
		delete(pages, page)
	}
	for page, isAlert := range pages {
		if isAlert {
			t.Errorf("%s is about no alert", page)
		}
	}
}

// TestAlertsAreTested: for each alert promtool sees it fire, and stay quiet.
func TestAlertsAreTested(t *testing.T) {
	content, err := os.ReadFile(ruleTestsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert  string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			fires[c.Alert] = fires[c.Alert] || len(c.Alerts) > 0
			quiet[c.Alert] = quiet[c.Alert] || len(c.Alerts) == 0
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" && !(fires[r.Alert] && quiet[r.Alert]) {
			t.Errorf("%s: fires in a test %t, stays quiet in one %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}
