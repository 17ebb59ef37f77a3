package charts

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// update rewrites what is generated instead of comparing it: `make manifests`.
var update = flag.Bool("update", false, "rewrite the generated files")

// TestDocsValues: the chart's README has every value, with its default and what
// values.yaml says about it. Settings and files have a table of their own, which
// the binary's settings are the source of.
func TestDocsValues(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	rows.WriteString("| value | default | meaning |\n| --- | --- | --- |\n")
	count := 0
	values(document.Content[0], "", func(name, standard, meaning string) {
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", name, standard, meaning)
		count++
	})
	if count < 80 {
		t.Fatalf("got %d values, want 80 and more", count)
	}
	readme := filepath.Join(chart, "README.md")
	page, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), "<!-- other-values:begin -->\n")
	_, after, ended := strings.Cut(rest, "<!-- other-values:end -->")
	if !found || !ended {
		t.Fatal("README.md has no place for the values")
	}
	want := before + "<!-- other-values:begin -->\n\n" + rows.String() + "\n<!-- other-values:end -->" + after
	generated(t, readme, string(page), want)
}

// generated compares what a file holds with what it should, or writes that.
func generated(t *testing.T, path, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	if !*update {
		t.Errorf("%s is stale; make manifests rewrites it", path)
		return
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// values calls each with every value that is no map, or a map that is empty or
// given as a whole.
func values(node *yaml.Node, prefix string, each func(name, standard, meaning string)) {
	group := "" // what is said above a key and holds for those below it
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		if name == "settings" || name == "files" {
			continue
		}
		meaning := said(key.HeadComment)
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && !whole.MatchString(name) {
			group = meaning
			if group != "" {
				each(name, "", group)
			}
			values(value, name+".", each)
			continue
		}
		each(name, standard(value), meaning)
	}
}

// whole are maps that are Kubernetes' own and replaced as such.
var whole = regexp.MustCompile(`(?i)(^|\.)(resources|securityContext|podSecurityContext|strategy|behavior|dnsConfig|labels)$`)

// said is what follows "# --" in the comment above a key.
func said(comment string) string {
	_, text, found := strings.Cut(comment, "# -- ")
	if !found {
		return ""
	}
	text = strings.ReplaceAll(text, "\n# ", " ")
	return strings.ReplaceAll(text, "|", "\\|")
}

func standard(value *yaml.Node) string {
	plain := *value
	oneLine(&plain)
	content, err := yaml.Marshal(&plain)
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(content))
	if text == `""` {
		return "–"
	}
	return "`" + text + "`"
}

// oneLine takes comments away and puts everything on one line.
func oneLine(node *yaml.Node) {
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	if node.Kind != yaml.ScalarNode {
		node.Style = yaml.FlowStyle
	}
	for i, child := range node.Content {
		copied := *child
		oneLine(&copied)
		node.Content[i] = &copied
	}
}

// TestDocsServerImage: the FHIR server's image stands in the chart's values; what
// else names it has the same.
func TestDocsServerImage(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Server struct {
			Image struct{ Repository, Tag string }
		}
	}
	if err := yaml.Unmarshal(content, &values); err != nil {
		t.Fatal(err)
	}
	image := values.Server.Image.Repository + ":" + values.Server.Image.Tag
	if !regexp.MustCompile(`:v[0-9.]+(-[0-9]+)?@sha256:[0-9a-f]{64}$`).MatchString(image) {
		t.Errorf("got %s, want a tag and a digest", image)
	}
	named := regexp.MustCompile(regexp.QuoteMeta(values.Server.Image.Repository) + `:[A-Za-z0-9._-]+(@sha256:[0-9a-f]{64})?`)
	for _, file := range []string{
		"charts/fhir-introspection-sidecar/ci/example-fhir-server/values.yaml", "deploy/compose/compose.yaml",
		"deploy/kustomize/example/fhir-server.yaml", "deploy/tests/charts/testdata/stranger/values.yaml",
	} {
		path := filepath.Join(root, file)
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !named.Match(page) {
			t.Errorf("%s doesn't name %s", file, values.Server.Image.Repository)
		}
		generated(t, path, string(page), named.ReplaceAllLiteralString(string(page), image))
	}
}
