package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
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

// pod is one running binary.
type pod struct{ name, data, admin string }

// world is two sidecars before a FHIR server, and an authorization server.
type world struct {
	pods      []pod
	authority *introspectiontest.Server
	store     *os.Process // of the shared cache
}

const adminToken = "dashboards-admin"

// newWorld starts everything. The pods differ: one has a bearer from a file, the
// other one from the client credentials grant.
func newWorld(t *testing.T) *world {
	t.Helper()
	binary := os.Getenv("SIDECAR_BINARY")
	if binary == "" {
		t.Fatal("SIDECAR_BINARY must name the binary to test; run.sh sets it")
	}
	w := &world{authority: introspectiontest.NewServerWith(t, introspectiontest.Config{Lifetime: 30 * time.Second})}
	fhir := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/broken") {
			panic(http.ErrAbortHandler)
		}
		rw.Header().Set("Content-Type", "application/fhir+json")
		_, _ = io.WriteString(rw, `{"resourceType":"Patient","id":"1"}`)
	}))
	t.Cleanup(fhir.Close)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"bearer": introspectiontest.DefaultBearer, "secret": introspectiontest.DefaultClientSecret, "admin": adminToken,
		"key": strings.Repeat("5a", 32),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The authorization server speaks no TLS; a root of somebody's has an end all the same.
	somebody := httptest.NewTLSServer(nil)
	defer somebody.Close()
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: somebody.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	common := []string{
		"SIDECAR_UPSTREAM_URL=" + fhir.URL + "/fhir", "SIDECAR_CACHE_MAX_ENTRIES=60", "SIDECAR_CACHE_MAX_AGE=20s", "SIDECAR_SHUTDOWN_TIMEOUT=2s",
		"SIDECAR_ISSUER_URL=" + w.authority.URL, "SIDECAR_INTROSPECTION_TIMEOUT=500ms",
		"SIDECAR_ADMIN_TOKEN_FILE=" + filepath.Join(dir, "admin"), "SIDECAR_AUDIT_LOG=" + filepath.Join(dir, "audit"), "SIDECAR_LOG_LEVEL=error",
		"SIDECAR_SHARED_CACHE_ADDRESSES=" + w.runStore(t), "SIDECAR_SHARED_CACHE_TLS=false", "SIDECAR_SHARED_CACHE_KEY_FILE=" + filepath.Join(dir, "key"),
		"SIDECAR_CA_FILE=" + roots, "SIDECAR_SCOPE_ENFORCEMENT=report", "SIDECAR_PATIENT_GUARD=report",
	}
	w.run(t, binary, "fhir-0", append(common, "SIDECAR_BEARER_TOKEN_FILE="+filepath.Join(dir, "bearer"), "SIDECAR_CLIENT_ID="+introspectiontest.DefaultClientID))
	w.run(t, binary, "fhir-1", append(common, "SIDECAR_CLIENT_ID="+introspectiontest.DefaultClientID,
		"SIDECAR_CLIENT_SECRET_FILE="+filepath.Join(dir, "secret")))
	return w
}

// runStore starts a store for the shared cache.
func (w *world) runStore(t *testing.T) (address string) {
	t.Helper()
	address = freeAddress(t)
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", address[strings.LastIndexByte(address, ':')+1:], "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	w.store = cmd.Process
	return address
}

// run starts a sidecar on two free ports and waits until it is ready.
func (w *world) run(t *testing.T, binary, name string, environ []string) {
	t.Helper()
	p := pod{name: name, data: freeAddress(t), admin: freeAddress(t)}
	cmd := exec.Command(binary)
	cmd.Env = append(environ, "SIDECAR_LISTEN_ADDRESS="+p.data, "SIDECAR_ADMIN_ADDRESS="+p.admin)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(output.String())
		}
	})
	eventually(t, 20*time.Second, name+" is ready", func() bool {
		res, err := http.Get("http://" + p.admin + "/readyz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})
	w.pods = append(w.pods, p)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	defer s.Close()
	return s.Listener.Addr().String()
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// load sends requests of every kind until ctx ends, so that no series stays at
// nothing. Both pods get every kind.
func (w *world) load(ctx context.Context) {
	client := &http.Client{Timeout: 3 * time.Second}
	for n := 0; ctx.Err() == nil; n++ {
		p := w.pods[(n+n/40)%2]
		token := fmt.Sprintf("good-%d", n%50)
		path, change := "/fhir/Patient/123", func(*http.Request) {}
		switch n % 40 {
		case 3:
			token = fmt.Sprintf("junk-%d", n)
		case 5:
			token = "junk"
		case 7:
			path = "/fhir/broken"
		case 9:
			change = func(r *http.Request) { r.Header["X_Launch_Patient"] = []string{"forged"} }
		case 11:
			path = "/fhir/metadata"
		case 13:
			token = "many-scopes"
		case 15:
			path = "/elsewhere"
		case 17:
			change = func(r *http.Request) { r.Header.Del("Authorization") }
		case 19:
			w.misbehave(n)
			token = fmt.Sprintf("bad-%d", n)
		case 21:
			path = "/fhir/../x"
		case 25, 35:
			path = "/fhir/Patient/1"
		case 27:
			path = "/fhir/Task/5"
		case 31:
			path = "/fhir/Practitioner/5"
		case 29:
			p.malformed()
		case 23, 33: // more of them than there is room for
			token = fmt.Sprintf("good-%d", n/10%tokens)
		}
		w.send(ctx, client, p, path, token, change)
		if n%400 == 399 {
			r, _ := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+p.admin+"/cache?sub=nobody", nil)
			r.Header.Set("Authorization", "Bearer "+adminToken)
			if res, err := client.Do(r); err == nil {
				_ = res.Body.Close()
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// malformed sends what is no request.
func (p pod) malformed() {
	conn, err := net.Dial("tcp", p.data)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /fhir/metadata HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, conn)
}

func (w *world) send(ctx context.Context, client *http.Client, p pod, path, token string, change func(*http.Request)) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.data+path, nil)
	if err != nil {
		return
	}
	r.Header.Set("Authorization", "Bearer "+token)
	change(r)
	if res, err := client.Do(r); err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// misbehave makes the authorization server answer one token badly.
func (w *world) misbehave(n int) {
	answers := []introspectiontest.Answer{
		introspectiontest.Respond(http.StatusInternalServerError, nil, ""),
		introspectiontest.Respond(http.StatusTooManyRequests, nil, ""),
		introspectiontest.Respond(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, `{"active":"yes"}`),
		introspectiontest.Delay(200*time.Millisecond, introspectiontest.Respond(http.StatusBadGateway, nil, "")),
	}
	w.authority.SetAnswerFor(fmt.Sprintf("bad-%d", n), answers[n/40%len(answers)])
}

// tokens are known to the authorization server: good-0 and so on.
const tokens = 400

func (w *world) addTokens() {
	for n := range tokens {
		w.authority.AddToken(fmt.Sprintf("good-%d", n), w.authority.Claims())
	}
	claims := w.authority.Claims()
	claims["scope"] = strings.Repeat("patient/Patient.rs ", 300)
	w.authority.AddToken("many-scopes", claims)
}
