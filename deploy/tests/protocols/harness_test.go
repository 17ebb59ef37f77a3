// Package protocols turns other people's tools on the sidecar: h2spec on its
// HTTP/2, testssl.sh on its TLS, slowhttptest on its patience. The binary is the
// real one; everything stays on loopback.
package protocols

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const token = "good"

// sidecar is a running process and its addresses, host:port.
type sidecar struct {
	data, admin string
}

// start runs the binary in SIDECAR_BINARY, over TLS if so asked, before a FHIR
// server that answers everything with a small Patient.
func start(t *testing.T, overTLS bool) *sidecar {
	t.Helper()
	binary := os.Getenv("SIDECAR_BINARY")
	if binary == "" {
		t.Fatal("SIDECAR_BINARY must name the binary to test; run.sh sets it")
	}
	authority := introspectiontest.NewServer(t)
	authority.AddToken(token, authority.Claims())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		_, _ = fmt.Fprint(w, `{"resourceType":"Patient","id":"1"}`)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	bearer := filepath.Join(dir, "bearer")
	write(t, bearer, []byte(introspectiontest.DefaultBearer))

	cmd := exec.Command(binary)
	cmd.Env = []string{
		"SIDECAR_UPSTREAM_URL=" + server.URL + "/fhir", "SIDECAR_INTROSPECTION_ENDPOINT=" + authority.Endpoint(),
		"SIDECAR_BEARER_TOKEN_FILE=" + bearer, "SIDECAR_SHUTDOWN_TIMEOUT=10s",
		"SIDECAR_LISTEN_ADDRESS=127.0.0.1:0", "SIDECAR_ADMIN_ADDRESS=127.0.0.1:0",
	}
	if overTLS {
		certificate, key := selfSigned(t)
		write(t, filepath.Join(dir, "tls.crt"), certificate)
		write(t, filepath.Join(dir, "tls.key"), key)
		cmd.Env = append(cmd.Env, "SIDECAR_TLS_CERT_FILE="+filepath.Join(dir, "tls.crt"), "SIDECAR_TLS_KEY_FILE="+filepath.Join(dir, "tls.key"))
	}
	return await(t, cmd)
}

// await starts the command and reads its log until it serves.
func await(t *testing.T, cmd *exec.Cmd) *sidecar {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan sidecar, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var line struct {
				Msg    string `json:"msg"`
				Data   string `json:"listen_address"`
				Admin  string `json:"admin_address"`
				Status int    `json:"status"`
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				serving <- sidecar{line.Data, line.Admin}
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the sidecar did not end well: %v\n%s", err, stderr.String())
		}
	})
	select {
	case s := <-serving:
		return &s
	case <-read:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
	}
	t.Fatalf("the sidecar doesn't serve\n%s", stderr.String())
	return nil
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// selfSigned makes a certificate for localhost, both as PEM.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// tool runs a command for at most limit and returns what it printed. Its exit
// code is not looked at: these tools end with 1 for a finding.
func tool(t *testing.T, limit time.Duration, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s took longer than %v\n%s", name, limit, output)
	}
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%s: %v", name, err)
	}
	return string(output)
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
