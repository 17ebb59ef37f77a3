// Command guides finds the commands and manifests in the documentation's pages, holds
// them against blocks.txt, which says how each one is tested, and takes out those that
// are tested in one way:
//
//	guides check ROOT                  fails when a block isn't listed, or a listed one is gone
//	guides extract ROOT HOW FOLDER     writes each such block to a file, and prints its name
//	guides untested ROOT               prints which ones nothing runs, and why
package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed blocks.txt
var list string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guides:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: guides check|extract|untested ROOT [HOW FOLDER]")
	}
	entries, err := parseList(list)
	if err != nil {
		return err
	}
	blocks, err := readPages(args[1])
	if err != nil {
		return err
	}
	ways, err := listed(blocks, entries)
	if err != nil {
		return err
	}
	switch {
	case args[0] == "check" && len(args) == 2:
		fmt.Printf("ok: %d blocks, each of them listed\n", len(blocks))
	case args[0] == "untested" && len(args) == 2:
		for _, e := range entries {
			if e.how == "not" {
				fmt.Printf("%s %d: %s\n", e.page, e.number, e.why)
			}
		}
	case args[0] == "extract" && len(args) == 4:
		return extract(blocks, ways, args[2], args[3])
	default:
		return fmt.Errorf("unknown command %q", args)
	}
	return nil
}

// extract writes the blocks that are tested so, and prints page, number and file.
func extract(blocks []block, ways []entry, how, folder string) error {
	for i, b := range blocks {
		if ways[i].how != how {
			continue
		}
		name := strings.NewReplacer("/", "-", ".md", "").Replace(b.page)
		file := filepath.Join(folder, fmt.Sprintf("%s-%d.%s", name, b.number, b.language))
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			return err
		}
		fmt.Println(b.page, b.number, file)
	}
	return nil
}
