package app

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// update makes the tests write what they otherwise compare: golden files and
// the generated parts of the documentation.
var update = flag.Bool("update", false, "rewrite golden files and generated documentation")

var discard = slog.New(slog.DiscardHandler)

// golden compares with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatalf("os.MkdirAll: got error %v, want none", err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	if got != string(want) {
		t.Errorf("%s is stale; with -update the test rewrites it\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
