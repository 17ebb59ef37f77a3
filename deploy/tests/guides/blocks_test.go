package main

import (
	"strings"
	"testing"
)

const page = "Do this:\n\n```sh\nmake\nmake test\n```\n\n```\na picture\n```\n\n```text\nan answer\n```\n\n```yaml\na: b\n```\n"

func TestParsePage(t *testing.T) {
	got, err := parsePage("p.md", page)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != (block{"p.md", 1, "sh", "make\nmake test\n"}) || got[1] != (block{"p.md", 4, "yaml", "a: b\n"}) {
		t.Errorf("got %v, want codes 1 and 4", got)
	}
	if _, err := parsePage("p.md", "```sh\nmake\n"); err == nil {
		t.Error("got no error for code without an end, want one")
	}
}

func TestParseList(t *testing.T) {
	for _, bad := range []string{
		"p.md 1 here", "p.md 1 somehow | make", "p.md 1 not | make", "p.md 1 here (because) | make", "1 here | make",
	} {
		if got, err := parseList(bad); err == nil {
			t.Errorf("%s: got %v, want an error", bad, got)
		}
	}
	got, err := parseList("# a comment\n\np.md 4 not (it has no end) | a: b\n")
	if want := (entry{"p.md", 4, "not", "it has no end", "a: b"}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// TestListed: what isn't listed, or isn't there any more, is told.
func TestListed(t *testing.T) {
	blocks, err := parsePage("p.md", page)
	if err != nil {
		t.Fatal(err)
	}
	const first, second = "p.md 1 here | make\n", "p.md 4 values | a: b\n"
	for list, want := range map[string]string{
		first + second:                          "",
		"p.md * here\n":                         "",
		"p.md * here | make\n":                  "can't read",
		first:                                   "not in blocks.txt: p.md 4 | a: b",
		second:                                  "not in blocks.txt: p.md 1 | make",
		first + second + "q.md 1 here | make\n": "gone from its page: q.md 1",
		"p.md 1 here | make all\n" + second:     "want, by blocks.txt, | make all",
	} {
		entries, err := parseList(list)
		if err == nil {
			_, err = listed(blocks, entries)
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", list, err, want)
		}
	}
}
