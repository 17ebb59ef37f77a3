package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// caseFile is a file of testdata/cases: one sidecar, and cases that run against
// it one after another. README.md there describes the format.
type caseFile struct {
	name     string
	settings env
	tokens   map[string]map[string]any
	cases    []*hostileCase
}

// hostileCase is a case as written, or one of its variants.
type hostileCase struct {
	id, name string
	file     string // without its folder
	line     int    // of its title
	lines    []caseLine
	vary     []variable
}

// caseLine is a line of a case, and where it stands in its file.
type caseLine struct {
	number int
	text   string
}

type variable struct {
	name   string
	values []string
}

func caseFiles(t *testing.T) (files []*caseFile) {
	t.Helper()
	names, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("testdata/cases: got %d files and error %v, want some", len(names), err)
	}
	seen := map[string]bool{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("got error %v, want the cases", err)
		}
		f := &caseFile{name: name, settings: env{}, tokens: map[string]map[string]any{}}
		archive := txtar.Parse(text)
		number := 1 + bytes.Count(archive.Comment, []byte("\n"))
		for _, section := range archive.Files {
			if seen[section.Name] {
				t.Fatalf("%s:%d: got a second case %q, want one of each name", name, number, section.Name)
			}
			f.add(t, section.Name, string(section.Data), number)
			number += 1 + bytes.Count(section.Data, []byte("\n"))
			seen[section.Name] = section.Name != "settings" && section.Name != "tokens"
		}
		files = append(files, f)
	}
	return files
}

// add takes the section whose title stands in the given line.
func (f *caseFile) add(t *testing.T, name, text string, number int) {
	t.Helper()
	c := &hostileCase{name: name, file: filepath.Base(f.name), line: number}
	c.id, _, _ = strings.Cut(name, " ")
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || word == "#":
		case name == "settings":
			word, rest, _ = strings.Cut(line, "=")
			f.settings[word] = rest
		case name == "tokens":
			var claims map[string]any
			if err := json.Unmarshal([]byte(rest), &claims); err != nil {
				t.Fatalf("%s:%d: token %s: got error %v, want claims in JSON", f.name, number, word, err)
			}
			f.tokens[word] = claims
		case word == "vary":
			word, rest, _ = strings.Cut(rest, " ")
			c.vary = append(c.vary, variable{word, strings.Split(rest, " | ")})
		default:
			c.lines = append(c.lines, caseLine{number, line})
		}
	}
	if c.lines != nil {
		f.cases = append(f.cases, c)
	}
}

// variants returns the case for every combination of what it varies.
func (c *hostileCase) variants() (all []*hostileCase) {
	if len(c.vary) == 0 {
		return []*hostileCase{c}
	}
	v := c.vary[0]
	for _, value := range v.values {
		one := &hostileCase{id: c.id, name: c.name + " " + value, file: c.file, line: c.line, vary: c.vary[1:]}
		for _, line := range c.lines {
			one.lines = append(one.lines, caseLine{line.number, strings.ReplaceAll(line.text, "${"+v.name+"}", value)})
		}
		all = append(all, one.variants()...)
	}
	return all
}

var repetition = regexp.MustCompile(`\$\{(.+?)\*([0-9]+)\}`)

// unescape expands ${text*count} and the escapes of Go strings.
func unescape(t testing.TB, text string) string {
	t.Helper()
	text = strings.NewReplacer("${host}", host, "${good}", good, "${smuggled}", strings.Trim(strconv.Quote(smuggled), `"`),
		"${smuggled-length}", strconv.Itoa(len(smuggled)), "${smuggled-hex}", strconv.FormatInt(int64(len(smuggled)), 16)).Replace(text)
	if strings.Contains(text, `\`) {
		plain, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%q: got error %v, want the escapes of a Go string", text, err)
		}
		text = plain
	}
	return repetition.ReplaceAllStringFunc(text, func(s string) string {
		match := repetition.FindStringSubmatch(s)
		n, _ := strconv.Atoi(match[2])
		return strings.Repeat(match[1], n)
	})
}
