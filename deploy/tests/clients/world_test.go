// Package clients has FHIR clients of others, and pages in a browser, ask through the
// sidecar. The binary is the real one; everything stays on loopback.
package clients

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// env holds settings without their prefix.
type env map[string]string

// world is a sidecar between what it needs.
type world struct {
	base      string // of the FHIR server as clients write it
	authority *authority
	fhir      *fhirServer
}

// start runs the binary in SIDECAR_BINARY. PUBLIC_URL is its own address.
func start(t *testing.T, settings env) *world {
	t.Helper()
	w := &world{authority: newAuthority(t), fhir: newFHIRServer(t)}
	address, admin := freeAddress(t), freeAddress(t)
	w.base = "http://" + address + "/fhir"
	bearer := filepath.Join(t.TempDir(), "bearer")
	write(t, bearer, introspectiontest.DefaultBearer)
	cmd := exec.Command(os.Getenv("SIDECAR_BINARY"))
	cmd.Env = []string{
		"SIDECAR_UPSTREAM_URL=" + w.fhir.URL + "/fhir", "SIDECAR_ISSUER_URL=" + w.authority.URL, "SIDECAR_PUBLIC_URL=" + w.base,
		"SIDECAR_BEARER_TOKEN_FILE=" + bearer, "SIDECAR_LISTEN_ADDRESS=" + address, "SIDECAR_ADMIN_ADDRESS=" + admin,
	}
	for name, value := range settings {
		cmd.Env = append(cmd.Env, "SIDECAR_"+name+"="+value)
	}
	run(t, cmd, "http://"+admin+"/readyz")
	return w
}

// run starts the sidecar, waits until it is ready, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd, readyz string) {
	t.Helper()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("SIDECAR_BINARY must name the binary to test, as run.sh does: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the sidecar did not end well: %v\n%s", err, output.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get(readyz)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the sidecar isn't ready: %v\n%s", err, output.String())
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// driver is the Node process that runs scripts.
type driver struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func newDriver(t *testing.T) *driver {
	t.Helper()
	cmd := exec.Command("node", "driver.mjs")
	cmd.Dir, cmd.Stderr = os.Getenv("CLIENTS"), os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if inErr != nil || outErr != nil {
		t.Fatal(inErr, outErr)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("CLIENTS must name the folder with the packages, as run.sh does: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the driver did not end well: %v", err)
		}
	})
	return &driver{in, bufio.NewReader(out)}
}

// run runs a script in a page, or in Node without one, and reads what it returns.
func (d *driver) run(t *testing.T, page, script string, argument, value any) error {
	t.Helper()
	line, err := json.Marshal(map[string]any{"page": page, "script": script, "argument": argument})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("the driver has gone: %v", err)
	}
	line, err = d.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("the driver has gone: %v", err)
	}
	var answer struct {
		Value json.RawMessage
		Error string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatalf("the driver says %s: %v", line, err)
	}
	if answer.Error != "" {
		return scriptError(answer.Error)
	}
	if err := json.Unmarshal(answer.Value, value); err != nil {
		t.Fatalf("the script returned %s: %v", answer.Value, err)
	}
	return nil
}

// scriptError is what a script threw.
type scriptError string

func (e scriptError) Error() string { return string(e) }
