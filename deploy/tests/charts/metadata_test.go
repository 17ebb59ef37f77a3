package charts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestChartMetadata: what Artifact Hub shows of the chart is there, and what it leads to
// stands in this repository.
func TestChartMetadata(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Name, AppVersion, Icon, Home, Description string
		Sources, Keywords                         []string
		Maintainers                               []struct{ Name, URL string }
		Annotations                               map[string]string
	}
	if err := yaml.Unmarshal(content, &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Description == "" || len(meta.Keywords) == 0 || len(meta.Maintainers) == 0 || len(meta.Sources) == 0 {
		t.Errorf("got %+v, want a description, keywords, maintainers and sources", meta)
	}
	here := func(what, url string) {
		t.Helper()
		_, path, ok := strings.Cut(url, "/main/")
		if _, err := os.Stat(filepath.Join(root, path)); !ok || err != nil {
			t.Errorf("%s: got %s, %v, want a file of this repository", what, url, err)
		}
	}
	here("icon", meta.Icon)
	var links []struct{ Name, URL string }
	if err := yaml.UnmarshalStrict([]byte(meta.Annotations["artifacthub.io/links"]), &links); err != nil || len(links) == 0 {
		t.Errorf("artifacthub.io/links: got %v, %v, want some", links, err)
	}
	for _, link := range links {
		here(link.Name, link.URL)
	}
	var images []struct {
		Name, Image string
		Platforms   []string
	}
	if err := yaml.UnmarshalStrict([]byte(meta.Annotations["artifacthub.io/images"]), &images); err != nil || len(images) != 1 {
		t.Fatalf("artifacthub.io/images: got %v, %v, want the sidecar's", images, err)
	}
	var values struct {
		Image struct{ Registry, Repository string }
	}
	defaults, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(defaults, &values); err != nil {
		t.Fatal(err)
	}
	if got, want := images[0].Image, values.Image.Registry+"/"+values.Image.Repository+":"+meta.AppVersion; got != want {
		t.Errorf("artifacthub.io/images: got %s, want %s, which is installed", got, want)
	}
	for name, want := range map[string]string{"license": "Apache-2.0", "category": "security"} {
		if got := meta.Annotations["artifacthub.io/"+name]; got != want {
			t.Errorf("artifacthub.io/%s: got %q, want %q", name, got, want)
		}
	}
}
