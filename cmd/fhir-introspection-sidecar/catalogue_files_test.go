package main

import (
	"encoding/json"
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
	lines    []string
	vary     []variable
}

type variable struct {
	name   string
	values []string
}

func caseFiles(t *testing.T) (files []*caseFile) {
	t.Helper()
	names, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no cases", err)
	}
	seen := map[string]bool{}
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f := &caseFile{name: name, settings: env{}, tokens: map[string]map[string]any{}}
		for _, section := range archive.Files {
			if seen[section.Name] {
				t.Fatalf("%s: two cases are called %q", name, section.Name)
			}
			f.add(t, section.Name, string(section.Data))
			seen[section.Name] = section.Name != "settings" && section.Name != "tokens"
		}
		files = append(files, f)
	}
	return files
}

func (f *caseFile) add(t *testing.T, name, text string) {
	t.Helper()
	c := &hostileCase{name: name}
	c.id, _, _ = strings.Cut(name, " ")
	for line := range strings.Lines(text) {
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
				t.Fatalf("%s: token %s: %v", f.name, word, err)
			}
			f.tokens[word] = claims
		case word == "vary":
			word, rest, _ = strings.Cut(rest, " ")
			c.vary = append(c.vary, variable{word, strings.Split(rest, " | ")})
		default:
			c.lines = append(c.lines, line)
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
		one := &hostileCase{id: c.id, name: c.name + " " + value, vary: c.vary[1:]}
		for _, line := range c.lines {
			one.lines = append(one.lines, strings.ReplaceAll(line, "${"+v.name+"}", value))
		}
		all = append(all, one.variants()...)
	}
	return all
}

var repetition = regexp.MustCompile(`\$\{(.+?)\*([0-9]+)\}`)

// unescape expands ${text*count} and the escapes of Go strings.
func unescape(t *testing.T, text string) string {
	t.Helper()
	text = strings.NewReplacer("${host}", host, "${good}", good, "${smuggled}", strings.Trim(strconv.Quote(smuggled), `"`),
		"${smuggled-length}", strconv.Itoa(len(smuggled)), "${smuggled-hex}", strconv.FormatInt(int64(len(smuggled)), 16)).Replace(text)
	if strings.Contains(text, `\`) {
		plain, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		text = plain
	}
	return repetition.ReplaceAllStringFunc(text, func(s string) string {
		match := repetition.FindStringSubmatch(s)
		n, _ := strconv.Atoi(match[2])
		return strings.Repeat(match[1], n)
	})
}
