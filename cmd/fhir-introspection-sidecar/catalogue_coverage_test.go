package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	catalogueFile = "testdata/cases/catalogue.txt"
	coveragePage  = "docs/security/coverage.md"
)

// catalogue returns the titles of the attack catalogue's rows by their id.
func catalogue(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(catalogueFile))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		id, title, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !regexp.MustCompile(`^[A-M][0-9]{2}$`).MatchString(id) || title == "" {
			t.Errorf("%s: got row %q, want an id and a title", catalogueFile, line)
		}
		if rows[id] != "" {
			t.Errorf("%s: got two rows %s, want one", catalogueFile, id)
		}
		rows[id] = title
	}
	return rows
}

// testSources returns the text of every test function in the tree, with its
// comment, by name. The doctor's tests have ids of their own.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	sources := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		base := filepath.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (base == "node_modules" || base == "testdata" || base[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(base, "_test.go") || base == "check_test.go":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !regexp.MustCompile(`^(Test|Fuzz)[A-Z]`).MatchString(f.Name.Name) {
				continue
			}
			from := f.Pos()
			if f.Doc != nil {
				from = f.Doc.Pos()
			}
			sources[f.Name.Name] += string(text[fset.Position(from).Offset:fset.Position(f.End()).Offset])
		}
		return nil
	})
	if err != nil {
		t.Fatalf("got error %v, want none", err)
	}
	return sources
}

// TestCatalogue: every row of the catalogue stands once in the page, under its
// title, with what proves it; and what is said to prove it is there and says so.
func TestCatalogue(t *testing.T) {
	rows, sources := catalogue(t), testSources(t)
	withCases := map[string]bool{}
	for _, file := range caseFiles(t) {
		for _, c := range file.cases {
			withCases[c.id] = true
			if rows[c.id] == "" {
				t.Errorf("%s: case %q: got an id of no row, want one of the catalogue", file.name, c.name)
			}
		}
	}
	page, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(coveragePage)))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	seen := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-M][0-9]{2}) \| (.*?) \| (.*?) \|$`).FindAllStringSubmatch(string(page), -1) {
		id, title, proofs := row[1], row[2], row[3]
		if seen[id] || rows[id] != title {
			t.Errorf("%s: got row %s %q, want it once, with the title %q", coveragePage, id, title, rows[id])
		}
		seen[id] = true
		if reason, ok := strings.CutPrefix(proofs, "not tested: "); ok {
			if len(reason) < 10 || withCases[id] {
				t.Errorf("%s: row %s: got %q and cases %t, want a reason, or cases", coveragePage, id, reason, withCases[id])
			}
			continue
		}
		proof := func(p string) bool { return proves(t, id, strings.Trim(p, "`"), withCases, sources) }
		if list := strings.Split(proofs, ", "); slices.ContainsFunc(list, func(p string) bool { return !proof(p) }) {
			t.Errorf("%s: row %s: got %s, want tests and files that are there and name %s", coveragePage, id, proofs, id)
		}
		if withCases[id] && !strings.Contains(proofs, "cases") {
			t.Errorf("%s: row %s: got %s, want cases among them", coveragePage, id, proofs)
		}
	}
	for id := range rows {
		if !seen[id] {
			t.Errorf("%s: got no row %s, want one", coveragePage, id)
		}
	}
}

// proves reports whether the cases or the test function name the row, or the file
// is there.
func proves(t *testing.T, id, proof string, withCases map[string]bool, sources map[string]string) bool {
	t.Helper()
	if proof == "cases" {
		return withCases[id]
	}
	if text, ok := sources[proof]; ok {
		return strings.Contains(text, id)
	}
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(proof)))
	return err == nil && strings.Contains(proof, "/")
}
