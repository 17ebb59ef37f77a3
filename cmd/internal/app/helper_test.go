package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// patience is how long anything may take before a test gives up on it.
const patience = 15 * time.Second

// settled is how long ago a file was changed that is read again at once.
const settled = 2 * time.Second

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain, want: %s", patience, what)
		}
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	return path
}

func rsaKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("rsa.GenerateKey: got error %v, want none", err)
	}
	return toPEM(t, key)
}

func ecKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatalf("ecdsa.GenerateKey: got error %v, want none", err)
	}
	return toPEM(t, key)
}

func toPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("x509.MarshalPKCS8PrivateKey: got error %v, want none", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// setenv makes the settings the only ones of this process.
func setenv(t *testing.T, settings map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, config.Prefix+"_") {
			t.Setenv(name, "") // puts the old value back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatalf("os.Unsetenv: got error %v, want none", err)
			}
		}
	}
	for name, value := range settings {
		t.Setenv(name, value)
	}
}

// configure reads and checks the environment as serve does, files aside.
func configure(t *testing.T, environ map[string]string) *config.Config {
	t.Helper()
	setenv(t, environ)
	return loadSettings()
}

// leastSettings is the least that serves. Each test changes it.
func leastSettings() map[string]string {
	return map[string]string{
		"SIDECAR_UPSTREAM_URL":           "http://127.0.0.1:8080/fhir",
		"SIDECAR_INTROSPECTION_ENDPOINT": "https://as.example/introspect",
		"SIDECAR_BEARER_TOKEN_FILE":      "/run/secrets/token",
	}
}

func with(base map[string]string, pairs ...string) map[string]string {
	for i := 0; i < len(pairs); i += 2 {
		base[pairs[i]] = pairs[i+1]
	}
	return base
}

// grantWith is the client credentials grant in place of a token file.
func grantWith(pairs ...string) []string {
	return append([]string{
		"SIDECAR_BEARER_TOKEN_FILE", "", "SIDECAR_TOKEN_ENDPOINT", "https://as.example/token", "SIDECAR_CLIENT_ID", "fhir-server",
	}, pairs...)
}

func texts(faults []config.Fault) (lines []string) {
	for _, f := range faults {
		lines = append(lines, f.String())
	}
	return lines
}

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

// newPair returns a certificate for the name and its key, in PEM.
func newPair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("ecdsa.GenerateKey: got error %v, want none", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatalf("x509.CreateCertificate: got error %v, want none", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatalf("x509.MarshalPKCS8PrivateKey: got error %v, want none", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}
