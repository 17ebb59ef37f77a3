package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// takeOut takes out each guard, in a copy of the tree so that edits made meanwhile don't
// matter, and prints a line for each.
func takeOut(t tree, files []string, guards []guard, jobs int) error {
	work, err := os.MkdirTemp("", "guards-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := copyFiles(t.root, work, files); err != nil {
		return err
	}
	t.root = work
	if err := passing(t, guards); err != nil {
		return err
	}

	var (
		wait     sync.WaitGroup
		printing sync.Mutex
		failed   int
		turns    = make(chan struct{}, jobs)
	)
	for _, g := range guards {
		turns <- struct{}{}
		wait.Go(func() {
			by, err := noticed(t, g)
			printing.Lock()
			if err != nil {
				failed++
				fmt.Printf("FAILED: %s: %v\n", g.name, err)
			} else {
				fmt.Printf("ok: %s, noticed by %s\n", g.name, by)
			}
			printing.Unlock()
			<-turns
		})
	}
	wait.Wait()
	fmt.Printf("%d passed, %d failed\n", len(guards)-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d guards could be lost unnoticed", failed)
	}
	return nil
}

func copyFiles(from, to string, files []string) error {
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(from, file))
		if err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(from, file))
		if err != nil {
			return err
		}
		name := filepath.Join(to, file)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, content, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}

// passing returns an error unless all tests pass with all guards in, or their failures
// would prove nothing.
func passing(t tree, guards []guard) error {
	var packages, patterns []string
	for _, g := range guards {
		in, pattern, err := t.packages(g)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", g.at, g.name, err)
		}
		packages, patterns = append(packages, in...), append(patterns, pattern)
	}
	slices.Sort(packages)
	log, err := goTest(t.root, 10*time.Minute, strings.Join(patterns, "|"), slices.Compact(packages))
	if err != nil {
		return fmt.Errorf("tests fail with all guards in:\n%s", log)
	}
	return nil
}

var failure = regexp.MustCompile(`(?m)--- FAIL: (\S+)|^panic: `)

// noticed runs g's tests without it, and returns the test that failed last.
func noticed(t tree, g guard) (by string, err error) {
	changed, editErr := t.without(g)
	packages, pattern, testErr := t.packages(g)
	if err := errors.Join(editErr, testErr); err != nil {
		return "", err
	}
	overlay, err := os.MkdirTemp(t.root, ".overlay-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(overlay)
	replace := map[string]string{}
	for path, content := range changed {
		name := filepath.Join(overlay, fmt.Sprintf("%d.go", len(replace)))
		replace[filepath.Join(t.root, path)] = name
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return "", err
		}
	}
	index := filepath.Join(overlay, "overlay.json")
	content, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(index, content, 0o644); err != nil {
		return "", err
	}

	log, err := goTest(t.root, 2*time.Minute, pattern, packages, "-overlay", index)
	if err == nil {
		return "", errors.New("no test notices")
	}
	if bytes.Contains(log, []byte("[build failed]")) {
		return "", fmt.Errorf("doesn't compile without the guard:\n%s", log)
	}
	failures := failure.FindAllSubmatch(log, -1)
	if len(failures) == 0 {
		return "", fmt.Errorf("the tests ended otherwise:\n%s", log)
	}
	if by := string(failures[len(failures)-1][1]); by != "" {
		return by, nil
	}
	return "the process, which ended", nil
}

// goTest runs tests, and returns what they print. Without paths in what is compiled,
// copies of the tree share the build cache.
func goTest(root string, timeout time.Duration, pattern string, packages []string, flags ...string) ([]byte, error) {
	args := []string{"test", "-count=1", "-vet=off", "-trimpath", "-timeout", timeout.String(), "-run", pattern}
	test := exec.Command("go", slices.Concat(args, flags, packages)...)
	test.Dir = root
	return test.CombinedOutput()
}
