package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A tree holds what a run needs to know of a checkout.
type tree struct {
	root    string
	sources map[string]source   // the module's non-test Go files, by path below root
	tests   map[string][]string // the packages that have a test function, by its name
}

// A source is a Go file: its bytes, and its lines that aren't blank.
type source struct {
	content []byte
	lines   []line
}

// A line is what stands between two line ends, without the space around it.
type line struct {
	text       string
	begin, end int // offsets of text in the file
}

// listed returns the files that git would commit, tests of a change included, relative
// to root.
func listed(root string) ([]string, error) {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	out, err := git.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the files of %s: %w", root, err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	return slices.DeleteFunc(files, func(file string) bool {
		_, err := os.Lstat(filepath.Join(root, file))
		return err != nil // deleted, and not yet committed
	}), nil
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)

// readTree reads the Go files of root's module. Those below deploy are other modules.
func readTree(root string, files []string) (tree, error) {
	t := tree{root: root, sources: map[string]source{}, tests: map[string][]string{}}
	for _, file := range files {
		if !strings.HasSuffix(file, ".go") || strings.HasPrefix(file, "deploy/") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return tree{}, err
		}
		if !strings.HasSuffix(file, "_test.go") {
			t.sources[file] = source{content, linesOf(content)}
			continue
		}
		for _, match := range testFunction.FindAllSubmatch(content, -1) {
			name := string(match[1])
			t.tests[name] = append(t.tests[name], "./"+filepath.Dir(file))
		}
	}
	return t, nil
}

func linesOf(content []byte) []line {
	var lines []line
	offset := 0
	for whole := range bytes.Lines(content) {
		if text := bytes.TrimSpace(whole); len(text) > 0 {
			begin := offset + bytes.Index(whole, text)
			lines = append(lines, line{string(text), begin, begin + len(text)})
		}
		offset += len(whole)
	}
	return lines
}

// find returns the only place of before, as a path and two offsets.
func (t tree) find(before []string) (path string, begin, end int, err error) {
	var places []string
	for file, source := range t.sources {
		lines := source.lines
		for i := 0; i+len(before) <= len(lines); i++ {
			if !slices.EqualFunc(before, lines[i:i+len(before)], func(want string, got line) bool { return want == got.text }) {
				continue
			}
			path, begin, end = file, lines[i].begin, lines[i+len(before)-1].end
			places = append(places, fmt.Sprintf("%s:%d", file, 1+bytes.Count(source.content[:begin], []byte("\n"))))
		}
	}
	if len(places) == 0 {
		return "", 0, 0, fmt.Errorf("no place reads\n\t%s", strings.Join(before, "\n\t"))
	}
	if len(places) > 1 {
		slices.Sort(places)
		return "", 0, 0, fmt.Errorf("needs a line before or after it, to tell %s apart", strings.Join(places, ", "))
	}
	return path, begin, end, nil
}

// without returns the files that taking out g changes, with their new content.
func (t tree) without(g guard) (map[string][]byte, error) {
	changed := map[string][]byte{}
	for _, e := range g.edits {
		path, begin, end, err := t.find(e.before)
		if err != nil {
			return nil, err
		}
		content := slices.Concat(t.sources[path].content[:begin], []byte(strings.Join(e.after, "\n")), t.sources[path].content[end:])
		changed[path] = content
		// The next edit of the same guard may be in the same file.
		others := t.sources
		t.sources = map[string]source{path: {content, linesOf(content)}}
		for file, source := range others {
			if file != path {
				t.sources[file] = source
			}
		}
	}
	return changed, nil
}

// packages returns the packages of g's tests, and a pattern for go test's -run.
func (t tree) packages(g guard) (packages []string, pattern string, err error) {
	var names []string
	for _, test := range g.tests {
		name := test[strings.LastIndexByte(test, '.')+1:]
		var places []string
		for _, place := range t.tests[name] {
			if test == name || filepath.Base(place)+"."+name == test {
				places = append(places, place)
			}
		}
		switch len(places) {
		case 0:
			return nil, "", fmt.Errorf("no test %s", test)
		case 1:
		default:
			return nil, "", fmt.Errorf("%s is in %s: say package.%s", test, strings.Join(places, " and "), name)
		}
		names = append(names, name)
		packages = append(packages, places[0])
	}
	slices.Sort(packages)
	return slices.Compact(packages), "^(" + strings.Join(names, "|") + ")$", nil
}

// stale returns what keeps g from being taken out, or its tests from running.
func (t tree) stale(g guard) error {
	_, editErr := t.without(g)
	_, _, testErr := t.packages(g)
	return errors.Join(editErr, testErr)
}
