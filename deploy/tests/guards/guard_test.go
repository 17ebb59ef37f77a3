package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseGuard(t *testing.T) {
	g, err := parseGuard("one: what it is\ntests: TestA cache.TestB\n before\n-\tguard\n+\tnone\n@@\n-second\n")
	if err != nil {
		t.Fatalf("parseGuard: got error %v, want none", err)
	}
	if g.name != "one" || g.text != "what it is" || !slices.Equal(g.tests, []string{"TestA", "cache.TestB"}) || len(g.edits) != 2 {
		t.Errorf("got %+v, want two tests and two edits", g)
	}
	if e := g.edits[0]; !slices.Equal(e.before, []string{"before", "guard"}) || !slices.Equal(e.after, []string{"before", "none"}) {
		t.Errorf("got %q, want before and guard, then before and none", e)
	}
	for _, entry := range []string{
		"", "one: x\ntests: TestA", "one: x\ntests: \n-a", "one\ntests: TestA\n-a", "one: x\nTestA\n-a",
		"one: x\ntests: TestA\n a", "one: x\ntests: TestA\n+a", "one: x\ntests: TestA\nunsigned",
	} {
		if _, err := parseGuard(entry); err == nil {
			t.Errorf("%q: got no error, want one", entry)
		}
	}
}

func TestTree(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{
		"a/a.go":        "package a\n\nfunc a() {\n\tif x {\n\n\t\treturn\n\t}\n\tonce()\n}\n",
		"b/b.go":        "package b\n\nfunc b() {\n\t\tif x {\n\t\t\treturn\n\t\t}\n\ttwice()\n\ttwice()\n}\n",
		"a/a_test.go":   "package a\n\nfunc TestA(t *testing.T) { once() }\n\nfunc TestBoth(t *testing.T) {}\n",
		"b/b_test.go":   "package b\n\nfunc TestBoth(t *testing.T) {}\n",
		"deploy/x/x.go": "package x\n\nfunc x() { once() }\n",
	}
	var names []string
	for name, content := range files {
		names = append(names, name)
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatalf("os.MkdirAll: got error %v, want none", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
	}
	tree, err := readTree(root, names)
	if err != nil {
		t.Fatalf("readTree: got error %v, want none", err)
	}
	for _, tt := range []struct{ edit, file, want, fault string }{
		{"-once()\n+never()", "a/a.go", "\tnever()\n}\n", ""},
		{" if x {\n-\treturn\n }\n once()", "a/a.go", "\tif x {\n}\nonce()\n}\n", ""},
		{"-never()", "", "", "no place reads"},
		{"-twice()", "", "", "tell b/b.go:7, b/b.go:8 apart"},
		{"-return", "", "", "tell a/a.go:6, b/b.go:5 apart"},
		{"-once()\n@@\n-twice()\n-twice()", "b/b.go", "\t\t}\n\t\n}\n", ""},
	} {
		g, err := parseGuard("g: x\ntests: TestA\n" + tt.edit)
		if err != nil {
			t.Fatalf("parseGuard(%q): got error %v, want none", tt.edit, err)
		}
		changed, err := tree.without(g)
		if err != nil && (tt.fault == "" || !strings.Contains(err.Error(), tt.fault)) || err == nil && tt.fault != "" {
			t.Errorf("%q: got error %v, want %q", tt.edit, err, tt.fault)
		}
		if got := string(changed[tt.file]); tt.fault == "" && !strings.HasSuffix(got, tt.want) {
			t.Errorf("%q: got %q, want it to end with %q", tt.edit, got, tt.want)
		}
	}
	for tests, want := range map[string]string{"TestA": "./a", "b.TestBoth": "./b", "TestA b.TestBoth": "./a ./b", "TestBoth": "", "TestC": ""} {
		packages, _, err := tree.packages(guard{tests: strings.Fields(tests)})
		if got := strings.Join(packages, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", tests, got, err, want)
		}
	}
}
