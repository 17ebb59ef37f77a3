package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// TestEveryPanelHasData runs a real Prometheus on the real binary under load, and
// then everything that the dashboard and the recording rules ask.
func TestEveryPanelHasData(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	w := newWorld(t)
	w.addTokens()
	prometheus := startPrometheus(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() { w.load(ctx) })
	}
	t.Cleanup(load.Wait)
	t.Cleanup(cancel)
	folder := os.Getenv("SCREENSHOTS")
	if folder != "" {
		w.incident(t)
	}
	for _, r := range rows {
		for _, p := range r.panels {
			for _, q := range p.queries {
				eventually(t, 3*time.Minute, "data for "+p.title+": "+variables.Replace(expression(q)), func() bool {
					// A line at zero shows that the series is there, not that it means anything.
					return has(prometheus.query(t, expression(q)), func(v float64) bool { return v > 0 || p.rare && v == 0 })
				})
			}
		}
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			eventually(t, time.Minute, "a value of "+r.Record, func() bool {
				return has(prometheus.query(t, r.Record), func(v float64) bool { return v > 0 })
			})
		}
	}
	if folder != "" {
		prometheus.draw(t, folder)
	}
}

func has(found []series, ok func(float64) bool) bool {
	return slices.ContainsFunc(found, func(s series) bool { return slices.ContainsFunc(s.values, ok) })
}

// incident is what the pictures tell of: after a while of calm the authorization
// server refuses the sidecars' credential, then it fails altogether, then it is the store
// of the shared cache that hangs, and then all is well.
func (w *world) incident(t *testing.T) {
	t.Helper()
	for _, step := range []struct {
		answer introspectiontest.Answer
		store  syscall.Signal
		lasts  time.Duration
	}{
		{nil, syscall.SIGCONT, pictured/2 + 15*time.Second},
		{introspectiontest.Respond(http.StatusUnauthorized, nil, ""), syscall.SIGCONT, pictured / 8},
		{introspectiontest.Respond(http.StatusServiceUnavailable, nil, ""), syscall.SIGCONT, pictured / 8},
		{nil, syscall.SIGSTOP, pictured / 8},
		{nil, syscall.SIGCONT, pictured / 8},
	} {
		w.authority.SetAnswer(step.answer)
		if err := w.store.Signal(step.store); err != nil {
			t.Fatal(err)
		}
		time.Sleep(step.lasts)
	}
}

// prometheus is a running server.
type prometheus struct{ address string }

// startPrometheus scrapes the pods every second, under the labels that Kubernetes
// would give them.
func startPrometheus(t *testing.T, w *world) *prometheus {
	t.Helper()
	binary := os.Getenv("PROMETHEUS")
	if binary == "" {
		t.Fatal("PROMETHEUS must name the binary; run.sh sets it")
	}
	rulesPath, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n- job_name: fhir\n  static_configs:\n", rulesPath)
	for _, p := range w.pods {
		config += fmt.Sprintf("  - {targets: ['%s'], labels: {namespace: care, pod: %s}}\n", p.admin, p.name)
	}
	path := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{freeAddress(t)}
	cmd := exec.Command(binary, "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.address)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		_ = log.Close()
	})
	eventually(t, 30*time.Second, "Prometheus is ready", func() bool {
		res, err := http.Get("http://" + p.address + "/-/ready")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})
	return p
}

// series is one line of a response.
type series struct {
	labels map[string]string
	times  []float64
	values []float64
}

func (p *prometheus) query(t *testing.T, expr string) []series {
	t.Helper()
	return p.ask(t, "/api/v1/query", url.Values{"query": {variables.Replace(expr)}})
}

func (p *prometheus) queryRange(t *testing.T, expr string, from, to time.Time) []series {
	t.Helper()
	return p.ask(t, "/api/v1/query_range", url.Values{
		"query": {variables.Replace(expr)}, "start": {strconv.FormatInt(from.Unix(), 10)}, "end": {strconv.FormatInt(to.Unix(), 10)}, "step": {"1"},
	})
}

func (p *prometheus) ask(t *testing.T, path string, form url.Values) (found []series) {
	t.Helper()
	res, err := http.PostForm("http://"+p.address+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Error != "" {
		t.Fatalf("%s: %v %s", form.Get("query"), err, answer.Error)
	}
	for _, result := range answer.Data.Result {
		s := series{labels: result.Metric}
		points := result.Values
		if result.Value != nil {
			points = [][]any{result.Value}
		}
		for _, point := range points {
			at, _ := point[0].(float64)
			text, _ := point[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			s.times, s.values = append(s.times, at), append(s.values, value)
		}
		found = append(found, s)
	}
	return found
}
