package app

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certs, keys := map[string]string{}, map[string]string{}
	for _, name := range []string{"one.test", "two.test", "three.test"} {
		certs[name], keys[name] = newPair(t, name)
	}
	log := &bytes.Buffer{}
	pair := &certificate{certFile: config.Watch("SIDECAR_TLS_CERT_FILE", certFile), keyFile: config.Watch("SIDECAR_TLS_KEY_FILE", keyFile), logger: slog.New(slog.NewJSONHandler(log, nil))}
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
		t.Error("got a certificate out of nothing, want an error")
	}
	put(t, certFile, certs["one.test"], time.Hour)
	put(t, keyFile, keys["two.test"], time.Hour)
	if _, err := pair.get(nil); err == nil || err.Error() != "certificate and key can't be read, or don't belong together" {
		t.Errorf("of two pairs: got error %v, want one that says so", err)
	}
	put(t, keyFile, keys["one.test"], settled)
	serves("one.test")
	before, _ := pair.get(nil)
	if after, _ := pair.get(nil); after != before {
		t.Error("got another certificate although nothing changed, want the same")
	}
	if log.String() != "" {
		t.Errorf("logged %s, want nothing", log)
	}

	// Half a rotation serves the old pair, whichever half comes first.
	put(t, certFile, certs["two.test"], settled)
	serves("one.test")
	put(t, keyFile, keys["two.test"], settled)
	serves("two.test")
	swap(t, keyFile, keys["three.test"], settled)
	serves("two.test")
	swap(t, certFile, certs["three.test"], settled)
	serves("three.test")

	// So do a file that is gone and one that is no certificate.
	log.Reset()
	put(t, certFile, "", settled)
	serves("three.test")
	serves("three.test")
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "keeping the last good one") {
		t.Errorf("got %s, want one line about a file that is no certificate", got)
	}
	if err := errors.Join(os.Remove(certFile), os.Remove(keyFile)); err != nil {
		t.Fatalf("errors.Join: got error %v, want none", err)
	}
	serves("three.test")
	put(t, certFile, certs["one.test"], settled)
	put(t, keyFile, keys["one.test"], 3*settled/2)
	serves("one.test")
}

func commonName(t *testing.T, pair *tls.Certificate) string {
	t.Helper()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatalf("x509.ParseCertificate: got error %v, want none", err)
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
	pair := &certificate{certFile: config.Watch("SIDECAR_TLS_CERT_FILE", certFile), keyFile: config.Watch("SIDECAR_TLS_KEY_FILE", keyFile), logger: discard}
	if _, err := pair.get(nil); err != nil {
		t.Fatalf("pair.get: got error %v, want none", err)
	}
	var handshakes sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		handshakes.Go(func() {
			for {
				got, err := pair.get(nil)
				if err != nil || got.PrivateKey == nil {
					t.Errorf("get: got error %v, want a certificate with its key", err)
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
		t.Fatalf("pair.get: got error %v, want none", err)
	}
	block, _ := pem.Decode([]byte(cert))
	if !bytes.Equal(got.Certificate[0], block.Bytes) {
		t.Error("got another pair at the end, want the last one")
	}
}
