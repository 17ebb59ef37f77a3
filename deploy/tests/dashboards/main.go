// Command dashboards writes deploy/grafana/dashboard.json from panels.go:
//
//	go run . >../../grafana/dashboard.json
//
// Its tests hold the dashboard and the alerts against the real binary.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// selector restricts every expression to what the variables choose.
const selector = `namespace=~"$namespace",job=~"$job",pod=~"$pod"`

// expression is what Grafana gets of a query.
func expression(q query) string {
	return strings.NewReplacer("{S", "{"+selector).Replace(q.expr)
}

type object = map[string]any

// dashboard makes Grafana's model of the rows.
func dashboard() object {
	var panels []any
	id, y := 0, 0
	for _, r := range rows {
		id++
		panels = append(panels, object{"id": id, "type": "row", "title": r.title, "collapsed": false, "panels": []any{}, "gridPos": grid(0, y, 24, 1)})
		y++
		columns := r.columns()
		for i, p := range r.panels {
			id++
			panels = append(panels, p.model(id, grid(i%columns*24/columns, y+i/columns*8, 24/columns, 8)))
		}
		y += (len(r.panels) + columns - 1) / columns * 8
	}
	return object{
		"uid": "fhir-introspection-sidecar", "title": "FHIR introspection sidecar",
		"description": "Token introspection in front of FHIR servers: cache, authorization server, decisions.",
		"tags":        []string{"fhir", "oauth2"}, "schemaVersion": 41, "version": 1, "editable": true, "graphTooltip": 1,
		"time": object{"from": "now-3h", "to": "now"}, "refresh": "30s", "timezone": "browser",
		"annotations": object{"list": []any{}}, "panels": panels,
		"links": []any{link("Runbooks", runbookPages+"README.md"), link("What the panels show", docs+"dashboards.md")},
		"templating": object{"list": []any{
			object{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
			variable("namespace", "Namespace", m+"build_info"),
			variable("job", "Job", m+`build_info{namespace=~"$namespace"}`),
			variable("pod", "Pod", m+`build_info{namespace=~"$namespace",job=~"$job"}`),
		}},
	}
}

// Where the pages are that the panels lead to.
const (
	docs         = "https://github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/blob/main/docs/"
	runbookPages = docs + "runbooks/"
)

// link is one at the head of the dashboard or of a panel.
func link(title, address string) object {
	return object{"title": title, "type": "link", "url": address, "targetBlank": true}
}

// columns is how many panels stand side by side.
func (r row) columns() int {
	if len(r.panels)%4 == 0 {
		return 4
	}
	return 3
}

func grid(x, y, w, h int) object { return object{"x": x, "y": y, "w": w, "h": h} }

var source = object{"type": "prometheus", "uid": "$datasource"}

func variable(name, label, series string) object {
	query := fmt.Sprintf("label_values(%s, %s)", series, name)
	return object{
		"name": name, "label": label, "type": "query", "datasource": source, "refresh": 2, "sort": 1,
		"query": object{"query": query, "refId": name}, "definition": query,
		"multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"},
	}
}

func (p panel) model(id int, place object) object {
	var targets []any
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source, "expr": expression(q), "legendFormat": q.legend, "range": !p.stat, "instant": p.stat,
		})
	}
	custom := object{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "stacking": object{"mode": "none"}}
	if p.stacked {
		custom["stacking"], custom["fillOpacity"] = object{"mode": "normal"}, 40
	}
	defaults := object{"unit": p.unit, "min": 0, "custom": custom, "thresholds": p.thresholds()}
	kind, options := "timeseries", object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	if p.stat {
		kind, options = "stat", object{"colorMode": "value", "graphMode": "area", "reduceOptions": object{"calcs": []string{"lastNotNull"}}}
		delete(defaults, "custom")
	} else if p.warn != 0 {
		custom["thresholdsStyle"] = object{"mode": "dashed"}
	}
	links := []any{}
	if p.runbook != "" {
		links = append(links, link("Runbook: "+p.runbook, runbookPages+"IntrospectionSidecar"+p.runbook+".md"))
	}
	return object{
		"links": links, "id": id, "type": kind, "title": p.title, "description": p.description, "datasource": source,
		"gridPos": place, "targets": targets, "options": options,
		"fieldConfig": object{"defaults": defaults, "overrides": p.overrides()},
	}
}

// overrides give every word of a legend its colour.
func (p panel) overrides() []any {
	all := []any{}
	for _, q := range p.queries {
		for _, name := range slices.Sorted(maps.Keys(colours[q.legend])) {
			all = append(all, object{
				"matcher":    object{"id": "byName", "options": name},
				"properties": []any{object{"id": "color", "value": object{"mode": "fixed", "fixedColor": colours[q.legend][name]}}},
			})
		}
	}
	return all
}

func (p panel) thresholds() object {
	steps := []any{object{"color": "green", "value": nil}}
	switch {
	case p.warn == 0:
	case p.alarm < p.warn: // the less the worse
		steps = []any{object{"color": "red", "value": nil}, object{"color": "orange", "value": p.alarm}, object{"color": "green", "value": p.warn}}
	default:
		steps = append(steps, object{"color": "orange", "value": p.warn}, object{"color": "red", "value": p.alarm})
	}
	return object{"mode": "absolute", "steps": steps}
}

// render returns the file's content.
func render() []byte {
	content, err := json.MarshalIndent(dashboard(), "", "  ")
	if err != nil {
		panic(err) // it is made of maps, strings and numbers
	}
	return append(content, '\n')
}

func main() { _, _ = os.Stdout.Write(render()) }
