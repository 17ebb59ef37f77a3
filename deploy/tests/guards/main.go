// Takes each guard out of a copy of the tree, one at a time, and shows that a test
// notices. The guards are in the .txt files beside this one.
//
//	run.sh                      all guards
//	GUARDS_SHARE=1/3 run.sh     every third of them, from the second on (CI takes
//	                            turns with 0/3, 1/3 and 2/3)
//	run.sh NAME...              only these
//	run.sh -stale               only look whether each place and each test is there
//	run.sh -list                print the tables of docs/security/guards.md
//	run.sh -update              write them into it
//
// A guard whose place or test isn't found, or is found twice, is a failure, and so is
// one without which the tree doesn't compile.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	list := flag.Bool("list", false, "print the tables of docs/security/guards.md")
	update := flag.Bool("update", false, "write the tables into docs/security/guards.md")
	stale := flag.Bool("stale", false, "only look whether each place and each test is there")
	jobs := flag.Int("jobs", 2, "guards to take out at the same time")
	flag.Parse()
	if err := run(*list, *update, *stale, *jobs, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "guards:", err)
		os.Exit(1)
	}
}

func run(list, update, stale bool, jobs int, names []string) error {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return err
	}
	guards, err := readGuards(".")
	if err != nil {
		return err
	}
	if list {
		fmt.Print(tables(guards))
		return nil
	}
	page := filepath.Join(root, "docs/security/guards.md")
	if update {
		return writePage(page, guards)
	}
	files, err := listed(root)
	if err != nil {
		return err
	}
	t, err := readTree(root, files)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if err := current(t, page, guards); err != nil || stale {
			return err
		}
	}
	chosen, err := choose(guards, names, os.Getenv("GUARDS_SHARE"))
	if err != nil {
		return err
	}
	return takeOut(t, files, chosen, jobs)
}

// choose returns the guards of that name or, without names, those of the share.
func choose(guards []guard, names []string, share string) ([]guard, error) {
	if len(names) == 0 {
		nth, of := 0, 1
		if share != "" {
			if _, err := fmt.Sscanf(share, "%d/%d", &nth, &of); err != nil || of < 1 || nth < 0 {
				return nil, errors.New("GUARDS_SHARE must be like 1/3")
			}
		}
		var chosen []guard
		for i := range guards {
			if i%of == nth {
				chosen = append(chosen, guards[i])
			}
		}
		return chosen, nil
	}
	var chosen []guard
	for _, name := range names {
		i := slices.IndexFunc(guards, func(g guard) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no guard %s", name)
		}
		chosen = append(chosen, guards[i])
	}
	return chosen, nil
}

// current returns what has gone stale: places, tests, the page.
func current(t tree, page string, guards []guard) error {
	var faults []error
	for _, g := range guards {
		if err := t.stale(g); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", g.at, g.name, err))
		}
	}
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	if written, err := rewritten(string(content), guards); err != nil {
		return err
	} else if written != string(content) {
		faults = append(faults, errors.New("docs/security/guards.md is stale: run.sh -update, or make docs, writes it"))
	}
	if len(faults) == 0 {
		fmt.Printf("%d guards are where they should be\n", len(guards))
	}
	return errors.Join(faults...)
}

func writePage(page string, guards []guard) error {
	content, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	written, err := rewritten(string(content), guards)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(written), 0o644)
}

// rewritten returns the page with today's tables between its markers.
func rewritten(page string, guards []guard) (string, error) {
	const begin, end = "<!-- guards:begin -->\n", "<!-- guards:end -->"
	before, rest, begun := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return "", fmt.Errorf("the page lacks the markers %q and %q", begin, end)
	}
	return before + begin + "\n" + tables(guards) + "\n" + end + after, nil
}

// tables returns a table in Markdown for each file of guards.
func tables(guards []guard) string {
	var b strings.Builder
	for i, g := range guards {
		if i == 0 || g.file != guards[i-1].file {
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "## %s\n\n| guard | tests of which one fails without it |\n| --- | --- |\n", g.file)
		}
		fmt.Fprintf(&b, "| %s | `%s` |\n", g.text, strings.Join(g.tests, "` `"))
	}
	return b.String()
}
