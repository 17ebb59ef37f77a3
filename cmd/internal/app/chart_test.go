package app

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

const chart = "charts/fhir-introspection-sidecar/"

// value is one setting as the chart has it.
type value struct {
	config.Setting
	name string
	file bool // named below files, without its last word
}

// chartValues are all settings but the two addresses, which the chart makes from
// its ports. SIDECAR_CLIENT_KEY_ID is clientKeyId.
func chartValues(t *testing.T) (values []value) {
	t.Helper()
	for _, s := range config.Manual() {
		name, file := strings.CutSuffix(strings.TrimPrefix(s.Variable, config.Prefix+"_"), "_FILE")
		words := strings.Split(strings.ToLower(name), "_")
		for j, word := range words[1:] {
			words[j+1] = strings.ToUpper(word[:1]) + word[1:]
		}
		v := value{Setting: s, name: strings.Join(words, ""), file: file}
		if v.name != "listenAddress" && v.name != "adminAddress" {
			values = append(values, v)
		}
	}
	if len(values) != len(config.Variables())-2 {
		t.Fatalf("got %d values, want %d", len(values), len(config.Variables())-2)
	}
	return values
}

// TestDocsChartValues: values.yaml names every setting, in the order of config.
func TestDocsChartValues(t *testing.T) {
	var settings, files strings.Builder
	for _, v := range chartValues(t) {
		b, example := &settings, v.Default
		if example == "off" { // which YAML takes for false
			example = `"off"`
		}
		if v.file {
			b, example = &files, "{secret: NAME, key: KEY}"
		}
		for _, line := range wrap(v.Variable+": "+v.Meaning, 76) {
			fmt.Fprintf(b, "  # %s\n", line)
		}
		if v.name != "upstreamUrl" { // which has a value, above the block
			fmt.Fprintf(b, "  # %s\n", strings.TrimSpace(v.name+": "+example))
		}
	}
	spliceBetween(t, chart+"values.yaml", "  # BEGIN generated settings\n", "  # END generated settings\n", settings.String())
	spliceBetween(t, chart+"values.yaml", "  # BEGIN generated files\n", "  # END generated files\n", files.String())
}

// TestDocsChartReadme: so does its table.
func TestDocsChartReadme(t *testing.T) {
	var table strings.Builder
	table.WriteString("| value | variable | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, v := range chartValues(t) {
		name, standard := "settings."+v.name, "–"
		if v.file {
			name = "files." + v.name
		}
		if v.Default != "" {
			standard = "`" + v.Default + "`"
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s | %s |\n", name, v.Variable, standard, v.Meaning)
	}
	splice(t, chart+"README.md", "values", table.String())
}

// TestDocsChartSchema: values.schema.json takes every setting in its own type,
// and no other.
func TestDocsChartSchema(t *testing.T) {
	path := filepath.Join(root, chart, "values.schema.json")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	var schema map[string]any
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatalf("json.Unmarshal: got error %v, want none", err)
	}
	settings, files := map[string]any{}, map[string]any{}
	for _, v := range chartValues(t) {
		if v.file {
			files[v.name] = map[string]any{
				"type": []string{"object", "null"}, "additionalProperties": false, "description": v.Meaning,
				"properties": map[string]any{
					"secret": map[string]any{"type": "string"}, "configMap": map[string]any{"type": "string"}, "key": map[string]any{"type": "string"},
					"path": map[string]any{"type": "string", "pattern": "^/"},
				},
			}
			continue
		}
		types := map[string]any{"type": schemaTypes(v.Type), "description": v.Meaning}
		if v.Type == reflect.TypeFor[time.Duration]() {
			// Zero is the only number without a unit. Another one is told by its type: "got
			// number, want null or string".
			delete(types, "type")
			types["if"] = map[string]any{"const": 0}
			types["else"] = map[string]any{"type": []string{"string", "null"}, "pattern": `^([0-9.]+(h|m|s|ms|us|ns))+$|^0$`}
		}
		if v.Choices != nil {
			known := []any{}
			for _, choice := range v.Choices {
				known = append(known, choice)
			}
			types["enum"] = append(known, nil) // null leaves the setting out
		}
		settings[v.name] = types
	}
	schema["$defs"] = map[string]any{
		"settings": map[string]any{"type": "object", "additionalProperties": false, "properties": settings},
		"files":    map[string]any{"type": []string{"object", "null"}, "additionalProperties": false, "properties": files},
	}
	var want strings.Builder
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatalf("encoder.Encode: got error %v, want none", err)
	}
	golden(t, path, want.String())
}

func schemaTypes(kind reflect.Type) []string {
	switch {
	case kind.Kind() == reflect.Int:
		return []string{"integer", "null"}
	case kind.Kind() == reflect.Bool:
		return []string{"boolean", "null"}
	case kind.Kind() == reflect.Slice:
		return []string{"array", "string", "null"}
	default:
		return []string{"string", "null"}
	}
}

// wrap breaks text into lines of at most width characters.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// TestDocsChartFiles: what Kubernetes and Grafana get from the chart is what lies
// in deploy.
func TestDocsChartFiles(t *testing.T) {
	for file, source := range map[string]string{
		"files/rules.yaml": "deploy/prometheus/rules.yaml", "files/dashboard.json": "deploy/grafana/dashboard.json",
	} {
		content, err := os.ReadFile(filepath.Join(root, source))
		if err != nil {
			t.Fatalf("os.ReadFile: got error %v, want none", err)
		}
		golden(t, filepath.Join(root, chart, file), string(content))
	}
}

// TestChartVersion: the chart installs the release that it comes with.
func TestChartVersion(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, chart, "Chart.yaml"))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	lines := strings.Split(string(content), "\n")
	changelog := pages(t)["CHANGELOG.md"]
	_, changelog, _ = strings.Cut(changelog, "\n## ")
	version, _, _ := strings.Cut(changelog, " ")
	for _, want := range []string{"version: " + version, "appVersion: " + version} {
		if !slices.Contains(lines, want) {
			t.Errorf("Chart.yaml has no %q; the changelog's newest release is %s", want, version)
		}
	}
}
