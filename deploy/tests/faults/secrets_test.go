package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// secrets are files that get replaced, by a rename each or, as Kubernetes does with
// a volume, all at once by a symbolic link that is swapped.
type secrets struct {
	dir  string
	swap bool
	puts int
}

func (s *secrets) path(name string) string { return filepath.Join(s.dir, name) }

func (s *secrets) put(t *testing.T, files map[string][]byte) {
	t.Helper()
	if !s.swap {
		for name, content := range files {
			write(t, s.path(name), content)
		}
		return
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	old, _ := os.Readlink(s.path("..data"))
	s.puts++
	version := "..version_" + strconv.Itoa(s.puts)
	must(os.Mkdir(s.path(version), 0o700))
	for name, content := range files {
		must(os.WriteFile(s.path(filepath.Join(version, name)), content, 0o600))
	}
	must(os.Symlink(version, s.path("..data_tmp")))
	must(os.Rename(s.path("..data_tmp"), s.path("..data")))
	if old != "" {
		must(os.RemoveAll(s.path(old)))
		return
	}
	for name := range files {
		must(os.Symlink(filepath.Join("..data", name), s.path(name)))
	}
}

// newKey makes a private key, also as PEM.
func newKey(t *testing.T, curve elliptic.Curve) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// newCertificate makes a certificate for loopback, its PEM and its key's.
func newCertificate(t *testing.T) (cert *x509.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	key, keyPEM := newKey(t, elliptic.P256())
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sidecar " + serial.String()},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM
}

// registration is how an authorization server knows the sidecar: by the URL of its
// keys, which it reads again when it meets an unknown one.
type registration struct {
	mu   sync.Mutex
	keys map[string]*ecdsa.PublicKey // by kid
}

// accepts checks the signature of a client assertion, ES384 as a P-384 key gives.
func (r *registration) accepts(assertion, jwks string) bool {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return false
	}
	head, errHead := base64.RawURLEncoding.DecodeString(parts[0])
	raw, errRaw := base64.RawURLEncoding.DecodeString(parts[2])
	var header struct{ Alg, Kid string }
	if errors.Join(errHead, errRaw, json.Unmarshal(head, &header)) != nil || header.Alg != "ES384" || len(raw) != 96 {
		return false
	}
	key := r.key(header.Kid, jwks)
	if key == nil {
		return false
	}
	digest := sha512.Sum384([]byte(parts[0] + "." + parts[1]))
	return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(raw[:48]), new(big.Int).SetBytes(raw[48:]))
}

func (r *registration) key(kid, jwks string) *ecdsa.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := r.keys[kid]; key != nil {
		return key
	}
	res, err := admin.Get(jwks)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	var set struct{ Keys []struct{ Kid, X, Y string } }
	if json.NewDecoder(res.Body).Decode(&set) != nil {
		return nil
	}
	r.keys = map[string]*ecdsa.PublicKey{}
	for _, key := range set.Keys {
		x, errX := base64.RawURLEncoding.DecodeString(key.X)
		y, errY := base64.RawURLEncoding.DecodeString(key.Y)
		// Uncompressed, as SEC 1 §2.3.3 has it.
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x, y))
		if errors.Join(errX, errY, err) == nil {
			r.keys[key.Kid] = public
		}
	}
	return r.keys[kid]
}
