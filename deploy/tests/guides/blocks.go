package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A block is fenced code of a page that somebody may paste.
type block struct {
	page     string // below the root
	number   int    // from 1, among all fenced code of the page
	language string
	text     string
}

func (b block) first() string {
	line, _, _ := strings.Cut(b.text, "\n")
	return line
}

// An entry says how a block is tested, and what it begins with.
type entry struct {
	page   string
	number int // or all
	how    string
	why    string // for what isn't tested
	first  string
}

// all stands for every block of a page: `*` in the list, without a beginning.
const all = 0

// hows are the ways, as blocks.txt explains them.
var hows = []string{"here", "settings", "machine", "cluster", "values", "manifest", "elsewhere", "not"}

var line = regexp.MustCompile(`^(\S+) (?:\* (\w+)|(\d+) (\w+))(?: \(([^)]*)\))?(?: \| (.+))?$`)

func parseList(text string) (entries []entry, err error) {
	for _, l := range strings.Split(text, "\n") {
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil || (m[3] == "") != (m[6] == "") {
			return nil, fmt.Errorf("blocks.txt: can't read %q", l)
		}
		e := entry{page: m[1], how: m[2] + m[4], why: m[5], first: m[6]}
		if !slices.Contains(hows, e.how) || (e.why != "") != (e.how == "not" || e.how == "elsewhere") {
			return nil, fmt.Errorf("blocks.txt: want one of %q, and a reason for the last two: %q", hows, l)
		}
		if m[3] != "" {
			e.number, _ = strconv.Atoi(m[3])
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// readPages finds all blocks, by page. Pages are those that tell how to install and to
// operate; code without a language, and text, is nothing to paste.
func readPages(root string) (blocks []block, err error) {
	pages := []string{"README.md", "charts/fhir-introspection-sidecar/README.md", "deploy/compose/README.md", "docs/install.md"}
	for _, folder := range []string{"docs/guides", "docs/operations"} {
		found, err := fs.Glob(os.DirFS(root), folder+"/*.md")
		if err != nil {
			return nil, err
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		content, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			return nil, err
		}
		found, err := parsePage(page, string(content))
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, found...)
	}
	return blocks, nil
}

func parsePage(page, content string) (blocks []block, err error) {
	number, inside := 0, false
	var b block
	scanner := bufio.NewScanner(strings.NewReader(content))
	for scanner.Scan() {
		text := scanner.Text()
		language, fence := strings.CutPrefix(text, "```")
		switch {
		case fence && !inside:
			number++
			b, inside = block{page: page, number: number, language: language}, true
		case fence:
			inside = false
			if b.language != "" && b.language != "text" {
				blocks = append(blocks, b)
			}
		case inside:
			b.text += text + "\n"
		}
	}
	if inside {
		return nil, fmt.Errorf("%s: code %d has no end", page, number)
	}
	return blocks, scanner.Err()
}

// listed returns the entry of each block. It fails on blocks without one, and on entries
// without a block.
func listed(blocks []block, entries []entry) ([]entry, error) {
	var faults []error
	used := map[int]bool{}
	found := make([]entry, len(blocks))
	for i, b := range blocks {
		at := slices.IndexFunc(entries, func(e entry) bool { return e.page == b.page && (e.number == b.number || e.number == all) })
		switch {
		case at < 0:
			faults = append(faults, fmt.Errorf("not in blocks.txt: %s %d | %s", b.page, b.number, b.first()))
			continue
		case entries[at].number != all && entries[at].first != b.first():
			faults = append(faults, fmt.Errorf("%s %d: got | %s\nwant, by blocks.txt, | %s", b.page, b.number, b.first(), entries[at].first))
		}
		used[at], found[i] = true, entries[at]
	}
	for at, e := range entries {
		if !used[at] {
			faults = append(faults, fmt.Errorf("gone from its page: %s %d | %s", e.page, e.number, e.first))
		}
	}
	return found, errors.Join(faults...)
}
