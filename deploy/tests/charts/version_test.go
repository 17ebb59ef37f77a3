package charts

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ofRelease are the ways in which a file names a release of this project.
var ofRelease = []*regexp.Regexp{
	regexp.MustCompile(`fhir-introspection-sidecar[:_-](\d+\.\d+\.\d+)`),                  // images, packages
	regexp.MustCompile(`fhir-introspection-sidecar/[^\s?"']*\?ref=v(\d+\.\d+\.\d+)`),      // kustomize
	regexp.MustCompile(`release\.yml@refs/tags/v(\d+\.\d+\.\d+)`),                         // signatures
	regexp.MustCompile(`name: fhir-introspection-sidecar\n\s*version: "?(\d+\.\d+\.\d+)`), // dependencies, the plugin
	regexp.MustCompile(`"?(?:app\.kubernetes\.io/version)"?: "(\d+\.\d+\.\d+)"`),          // manifests
}

// TestVersion: what names a release names the one that the changelog has on top.
func TestVersion(t *testing.T) {
	changelog, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, newest, _ := strings.Cut(string(changelog), "\n## ")
	want, _, _ := strings.Cut(newest, " ")
	found := 0
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || name == "node_modules" || name == ".git" || name == ".tools" || name == "bin" || name == "dist"):
			return fs.SkipDir
		case d.IsDir() || path == "CHANGELOG.md" || strings.HasSuffix(path, "_test.yaml") || !strings.HasSuffix(path, ".md") && !strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, ".yml"):
			return nil
		}
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		for _, pattern := range ofRelease {
			for _, m := range pattern.FindAllSubmatch(content, -1) {
				found++
				if got := string(m[1]); got != want {
					t.Errorf("%s names release %s (%s), want %s", path, got, m[0], want)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 15 {
		t.Errorf("got %d places that name a release, want 15 and more", found)
	}
}
