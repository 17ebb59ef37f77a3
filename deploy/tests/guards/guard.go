package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A guard is one entry of a .txt file of this folder. Entries are separated by a blank
// line:
//
//	NAME: what it is
//	tests: TestName cache.TestOther
//	 a line before it, if the others are not the only ones of their kind
//	-the guard
//	+what stands there without it
//	@@
//	-a second place
type guard struct {
	file  string // the .txt file, without its ending
	at    string // file:line of the entry
	name  string
	text  string
	tests []string // names of test functions; package.Name where packages share a name
	edits []edit
}

// An edit replaces the only place in the tree that reads like before. Indentation and
// blank lines don't count, so that neither a move nor gofmt makes it stale.
type edit struct {
	before, after []string
}

// readGuards reads all entries of the .txt files in folder, in order of file and line.
func readGuards(folder string) ([]guard, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		return nil, err
	}
	var guards []guard
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		line := 1
		for _, entry := range strings.SplitAfter(string(content), "\n\n") {
			at := fmt.Sprintf("%s:%d", filepath.Base(file), line)
			line += strings.Count(entry, "\n")
			g, err := parseGuard(entry)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			if slices.ContainsFunc(guards, func(other guard) bool { return other.name == g.name }) {
				return nil, fmt.Errorf("%s: a second guard %s", at, g.name)
			}
			g.at, g.file = at, strings.TrimSuffix(filepath.Base(file), ".txt")
			guards = append(guards, g)
		}
	}
	return guards, nil
}

// parseGuard reads one entry.
func parseGuard(entry string) (guard, error) {
	lines := strings.Split(strings.TrimRight(entry, "\n"), "\n")
	if len(lines) < 3 {
		return guard{}, fmt.Errorf("got %d lines, want a name, tests and an edit", len(lines))
	}
	name, text, named := strings.Cut(lines[0], ": ")
	tests, tested := strings.CutPrefix(lines[1], "tests: ")
	if !named || !tested {
		return guard{}, fmt.Errorf("got %q and %q, want `NAME: what it is` and `tests: TestName...`", lines[0], lines[1])
	}
	if tests == "" {
		return guard{}, fmt.Errorf("%s: got no tests, want at least one", name)
	}
	g := guard{name: name, text: text, tests: strings.Fields(tests), edits: make([]edit, 1)}
	for _, line := range lines[2:] {
		if line == "@@" {
			g.edits = append(g.edits, edit{})
			continue
		}
		e := &g.edits[len(g.edits)-1]
		content := strings.TrimSpace(line[min(1, len(line)):])
		switch {
		case strings.HasPrefix(line, "-"):
			e.before = append(e.before, content)
		case strings.HasPrefix(line, "+"):
			e.after = append(e.after, content)
		case strings.HasPrefix(line, " "):
			e.before = append(e.before, content)
			e.after = append(e.after, content)
		default:
			return guard{}, fmt.Errorf("%s: got %q, want a line that begins with a space, - or +", name, line)
		}
	}
	for _, e := range g.edits {
		if len(e.before) == 0 || slices.Equal(e.before, e.after) {
			return guard{}, fmt.Errorf("%s: an edit that finds or changes nothing", name)
		}
	}
	return g, nil
}
