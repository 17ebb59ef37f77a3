package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// put writes a file in place, last changed so long ago.
func put(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	when := time.Now().Add(-age)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatalf("os.Chtimes: got error %v, want none", err)
	}
}

// swap puts a file in another's place, as editors and secret managers do.
func swap(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	put(t, path+".new", content, age)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatalf("os.Rename: got error %v, want none", err)
	}
}

func expectContent(t *testing.T, f *file, reread bool, want string) {
	t.Helper()
	got, err := f.read(reread)
	if err != nil || string(got) != want {
		t.Errorf("read(%v) = %.40q, %v; want %.40q", reread, got, err, want)
	}
}

func TestFileFirstRead(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "zx81canary")
	for _, tt := range []struct {
		name    string
		prepare func(path string)
		want    string
		err     string
	}{
		{"fresh", func(p string) { put(t, p, "a", 0) }, "a", ""},
		{"old", func(p string) { put(t, p, "a\n", time.Hour) }, "a\n", ""},
		{"from the future", func(p string) { put(t, p, "a", -time.Hour) }, "a", ""},
		{"empty", func(p string) { put(t, p, "", 0) }, "", ""},
		{"just fits", func(p string) { put(t, p, strings.Repeat("a", maxFile), 0) }, strings.Repeat("a", maxFile), ""},
		{"too large", func(p string) { put(t, p, strings.Repeat("a", maxFile+1), 0) }, "", "is larger than 1 MiB"},
		{"missing", func(string) {}, "", "file can't be read: no such file or directory"},
		{"dangling link", func(p string) { symlink(t, "nowhere", p) }, "", "file can't be read: no such file or directory"},
		{"directory", func(p string) { mkdir(t, p) }, "", "file can't be read: is a directory"},
	} {
		for _, reread := range []bool{false, true} {
			_ = os.RemoveAll(missing)
			tt.prepare(missing)
			got, err := (&file{path: missing}).read(reread)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if string(got) != tt.want || text != tt.err {
				t.Errorf("%s: read(%v) = %.40q, %q; want %.40q, %q", tt.name, reread, got, text, tt.want, tt.err)
			}
		}
	}
	if Watch("SIDECAR_CA_FILE", "") != nil {
		t.Error("got a file without a path, want none")
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatalf("os.Symlink: got error %v, want none", err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatalf("os.Mkdir: got error %v, want none", err)
	}
}

// TestFileSettles: what may still be being written is left alone, unless the
// reader must know.
func TestFileSettles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	put(t, path, "one", time.Hour)
	f := &file{path: path}
	expectContent(t, f, false, "one")

	put(t, path, "tw", 0)
	expectContent(t, f, false, "one")
	put(t, path, "two", 2*settleTime)
	expectContent(t, f, false, "two")

	put(t, path, "thr", 0)
	expectContent(t, f, true, "thr")
	// Once seen, the new content stays, even while it settles.
	expectContent(t, f, false, "thr")
	put(t, path, "three", 2*settleTime)
	expectContent(t, f, false, "three")

	// A clock that was wrong doesn't keep the file from being read.
	put(t, path, "four", -time.Hour)
	expectContent(t, f, false, "four")

	// Size and time alone may stay the same when a file is replaced.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatalf("os.Stat: got error %v, want none", err)
	}
	put(t, path+".new", "FOUR", 0)
	if err := errors.Join(os.Chtimes(path+".new", info.ModTime(), info.ModTime()), os.Rename(path+".new", path)); err != nil {
		t.Fatalf("errors.Join: got error %v, want none", err)
	}
	expectContent(t, f, false, "FOUR")
}

func TestFileRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	put(t, path, "one", time.Hour)
	f := &file{path: path}
	expectContent(t, f, false, "one")
	swap(t, path, "two", 2*settleTime)
	expectContent(t, f, false, "two")
	// A file from a backup is older than the one it replaces.
	swap(t, path, "three", 48*time.Hour)
	expectContent(t, f, false, "three")
	swap(t, path, "four", 0)
	expectContent(t, f, false, "three")
	expectContent(t, f, true, "four")
}

// TestFileProjected swaps a directory's link as the kubelet does with secrets.
func TestFileProjected(t *testing.T) {
	dir := t.TempDir()
	publish := func(version string, age time.Duration) {
		mkdir(t, filepath.Join(dir, ".."+version))
		put(t, filepath.Join(dir, ".."+version, "token"), version, age)
		symlink(t, ".."+version, filepath.Join(dir, "..data_tmp"))
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatalf("os.Rename: got error %v, want none", err)
		}
	}
	publish("one", time.Hour)
	symlink(t, filepath.Join("..data", "token"), filepath.Join(dir, "token"))
	f := &file{path: filepath.Join(dir, "token")}
	expectContent(t, f, false, "one")
	publish("two", 2*settleTime)
	expectContent(t, f, false, "two")
	if err := os.RemoveAll(filepath.Join(dir, "..one")); err != nil {
		t.Fatalf("os.RemoveAll: got error %v, want none", err)
	}
	publish("three", 0)
	expectContent(t, f, false, "two")
	expectContent(t, f, true, "three")
}

// TestFileKept: a file that was good and isn't any more keeps its content.
func TestFileKept(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"vanished":  func(*testing.T, string) {},
		"directory": func(t *testing.T, p string) { mkdir(t, p) },
		"loop":      func(t *testing.T, p string) { symlink(t, p, p) },
		"too large": func(t *testing.T, p string) { put(t, p, strings.Repeat("a", maxFile+1), time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			put(t, path, "one", time.Hour)
			f := &file{path: path}
			expectContent(t, f, false, "one")
			if err := os.Remove(path); err != nil {
				t.Fatalf("os.Remove: got error %v, want none", err)
			}
			spoil(t, path)
			expectContent(t, f, false, "one")
			expectContent(t, f, true, "one")
			if err := os.RemoveAll(path); err != nil {
				t.Fatalf("os.RemoveAll: got error %v, want none", err)
			}
			put(t, path, "two", 2*settleTime)
			expectContent(t, f, false, "two")
		})
	}
}

// TestFileConcurrently: readers get whole versions only, and never an older one
// after a newer.
func TestFileConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	version := func(n int) string { return strings.Repeat(string(rune('a'+n)), 10_000+n) }
	const versions = 20
	put(t, path, version(0), time.Hour)
	read := Watch("SIDECAR_CA_FILE", path).Read
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		readers.Go(func() {
			last := 0
			for done := false; !done; {
				select {
				case <-stop:
					done = true
				default:
				}
				content, err := read(i%2 == 0)
				if err != nil || len(content) == 0 {
					t.Errorf("got %d bytes (%v), want some", len(content), err)
					return
				}
				n := int(content[0] - 'a')
				if n < last || string(content) != version(n) {
					t.Errorf("got version %d after %d, %d bytes, want a later one, whole", n, last, len(content))
					return
				}
				last = n
			}
			if last != versions {
				t.Errorf("ended with version %d, want %d", last, versions)
			}
		})
	}
	for n := 1; n <= versions; n++ {
		swap(t, path, version(n), time.Hour)
	}
	close(stop)
	readers.Wait()
}
