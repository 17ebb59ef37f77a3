package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
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
		t.Fatal(err)
	}
	when := time.Now().Add(-age)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

// swap puts a file in another's place, as editors and secret managers do.
func swap(t *testing.T, path, content string, age time.Duration) {
	t.Helper()
	put(t, path+".new", content, age)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
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
	if watch("") != nil {
		t.Error("no path gives a file")
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
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
		t.Fatal(err)
	}
	put(t, path+".new", "FOUR", 0)
	if err := errors.Join(os.Chtimes(path+".new", info.ModTime(), info.ModTime()), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
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
			t.Fatal(err)
		}
	}
	publish("one", time.Hour)
	symlink(t, filepath.Join("..data", "token"), filepath.Join(dir, "token"))
	f := &file{path: filepath.Join(dir, "token")}
	expectContent(t, f, false, "one")
	publish("two", 2*settleTime)
	expectContent(t, f, false, "two")
	if err := os.RemoveAll(filepath.Join(dir, "..one")); err != nil {
		t.Fatal(err)
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
				t.Fatal(err)
			}
			spoil(t, path)
			expectContent(t, f, false, "one")
			expectContent(t, f, true, "one")
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
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
	read := watch(path)
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
					t.Errorf("read: %d bytes, %v", len(content), err)
					return
				}
				n := int(content[0] - 'a')
				if n < last || string(content) != version(n) {
					t.Errorf("version %d after %d, %d bytes", n, last, len(content))
					return
				}
				last = n
			}
			if last != versions {
				t.Errorf("ended with version %d", last)
			}
		})
	}
	for n := 1; n <= versions; n++ {
		swap(t, path, version(n), time.Hour)
	}
	close(stop)
	readers.Wait()
}

// newPair returns a certificate for the name and its key, in PEM.
func newPair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certs, keys := map[string]string{}, map[string]string{}
	for _, name := range []string{"one.test", "two.test", "three.test"} {
		certs[name], keys[name] = newPair(t, name)
	}
	log := &bytes.Buffer{}
	pair := &certificate{certFile: watch(certFile), keyFile: watch(keyFile), logger: slog.New(slog.NewJSONHandler(log, nil))}
	serves := func(want string) {
		t.Helper()
		got, err := pair.get(nil)
		if err != nil {
			t.Fatalf("%v; want %s", err, want)
		}
		if name := commonName(t, got); name != want {
			t.Errorf("serves %s, want %s", name, want)
		}
	}

	if _, err := pair.get(nil); err == nil {
		t.Error("a certificate out of nothing")
	}
	put(t, certFile, certs["one.test"], time.Hour)
	put(t, keyFile, keys["two.test"], time.Hour)
	if _, err := pair.get(nil); err == nil || err.Error() != "certificate and key can't be read, or don't belong together" {
		t.Errorf("of two pairs: %v", err)
	}
	put(t, keyFile, keys["one.test"], 2*settleTime)
	serves("one.test")
	before, _ := pair.get(nil)
	if after, _ := pair.get(nil); after != before {
		t.Error("made anew although nothing changed")
	}
	if log.String() != "" {
		t.Errorf("logged %s", log)
	}

	// Half a rotation serves the old pair, whichever half comes first.
	put(t, certFile, certs["two.test"], 2*settleTime)
	serves("one.test")
	put(t, keyFile, keys["two.test"], 2*settleTime)
	serves("two.test")
	swap(t, keyFile, keys["three.test"], 2*settleTime)
	serves("two.test")
	swap(t, certFile, certs["three.test"], 2*settleTime)
	serves("three.test")

	// So do a file that is gone and one that is no certificate.
	log.Reset()
	put(t, certFile, "", 2*settleTime)
	serves("three.test")
	serves("three.test")
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "keeping the last good one") {
		t.Errorf("a file that is no certificate is not told once: %s", got)
	}
	if err := errors.Join(os.Remove(certFile), os.Remove(keyFile)); err != nil {
		t.Fatal(err)
	}
	serves("three.test")
	put(t, certFile, certs["one.test"], 2*settleTime)
	put(t, keyFile, keys["one.test"], 3*settleTime)
	serves("one.test")
}

func commonName(t *testing.T, pair *tls.Certificate) string {
	t.Helper()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

// TestCertificateConcurrently shakes hands while the pair is being replaced.
func TestCertificateConcurrently(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key := newPair(t, "one.test")
	put(t, certFile, cert, time.Hour)
	put(t, keyFile, key, time.Hour)
	pair := &certificate{certFile: watch(certFile), keyFile: watch(keyFile), logger: discard}
	if _, err := pair.get(nil); err != nil {
		t.Fatal(err)
	}
	var handshakes sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		handshakes.Go(func() {
			for {
				got, err := pair.get(nil)
				if err != nil || got.PrivateKey == nil {
					t.Errorf("get: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 10 {
		cert, key = newPair(t, "two.test")
		swap(t, certFile, cert, time.Hour)
		swap(t, keyFile, key, time.Hour)
	}
	close(stop)
	handshakes.Wait()
	got, err := pair.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(cert))
	if !bytes.Equal(got.Certificate[0], block.Bytes) {
		t.Error("doesn't end with the last pair")
	}
}
