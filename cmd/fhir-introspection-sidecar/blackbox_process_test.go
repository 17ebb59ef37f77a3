package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// J08: with one processor everything works, only slower: nothing spins, and nothing
// waits for what can't run meanwhile.
func TestBlackboxOneProcessor(t *testing.T) {
	t.Parallel()
	w := startPrepared(t, nil, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOMAXPROCS=1") })
	wait := w.crowd(t, 16, func(i int, c *conn) {
		for n := range 20 {
			token := fmt.Sprintf("one-processor-%d", n%5)
			if n%5 < 4 {
				w.as.AddToken(token, nil)
			}
			want := 200
			if n%5 == 4 {
				want = 401
			}
			line := fmt.Sprintf("GET /fhir/Patient/%d-%d", i, n)
			a, err := c.do(request(line, bearer(token)))
			if err != nil || a.status != want || want == 200 && a.body != `{"line":"`+line+`"}` {
				t.Errorf("got %v (%v), want %d and the response to its own request", a, err, want)
				return
			}
		}
	})
	wait()
	w.bystander(t, "J08")
}

// J10: a flood of handshakes, finished, begun and broken ones, costs no memory that
// isn't given back and keeps nobody else out.
func TestBlackboxHandshakes(t *testing.T) {
	t.Parallel()
	ca := introspectiontest.NewAuthority(t, "test authority")
	certificate, key := ca.Issue("fhir.test", nil)
	w := start(t, env{"TLS_CERT_FILE": writeFile(t, "cert", certificate), "TLS_KEY_FILE": writeFile(t, "key", key)})
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "fhir.test", MinVersion: tls.VersionTLS12}
	whole := func(config *tls.Config) {
		c, err := tls.Dial("tcp", w.data, config)
		if err != nil {
			t.Errorf("tls.Dial: got error %v, want none", err)
			return
		}
		_ = c.Close()
	}
	whole(config)
	before := w.residentKiB(t, "VmRSS")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 50 {
				c, err := net.Dial("tcp", w.data)
				if err != nil {
					t.Errorf("net.Dial: got error %v, want none", err)
					return
				}
				switch n % 3 {
				case 0: // no hello
				case 1: // half of one
					_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252})
				case 2: // none at all
					_, _ = io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\n", 100))
				}
				defer c.Close()
				old := config.Clone()
				old.MaxVersion = uint16(tls.VersionTLS12 + n%2)
				whole(old)
			}
		})
	}
	wg.Wait()
	if grown := w.residentKiB(t, "VmRSS") - before; grown > 64<<10*raceFactor {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 64<<10*raceFactor)
	}
	c, err := tls.Dial("tcp", w.data, config)
	if err != nil {
		t.Fatalf("tls.Dial: got error %v, want none", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, request("GET /fhir/Patient", good, "Connection: close"))
	if text, _ := io.ReadAll(c); !bytes.HasPrefix(text, []byte("HTTP/1.1 200")) {
		t.Errorf("afterwards: got %.100q, want 200", text)
	}
}

// J12: it runs as nobody in particular, without privileges, on a root that is
// read-only and has neither /tmp nor /etc, and writes nothing.
func TestBlackboxBareRoot(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("making such a root needs root")
	}
	root := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(root, program), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: got %v: %s, want a binary", err, out)
	}
	if err := os.WriteFile(filepath.Join(root, "bearer"), []byte("resource-server-token\n"), 0o644); err != nil {
		t.Fatalf("os.WriteFile: got error %v, want none", err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatalf("os.Chmod: got error %v, want none", err)
	}
	const script = `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec setpriv --no-new-privs chroot --userspec=65532:65532 "$1" /` + program
	if out, err := exec.Command("unshare", "-m", "sh", "-c", strings.Replace(script, "exec ", "exec echo ", 1), "sh", root).CombinedOutput(); err != nil {
		t.Skipf("a mount namespace can't be made here: %v %s", err, out)
	}
	w := startPrepared(t, env{"BEARER_TOKEN_FILE": "/bearer"}, func(cmd *exec.Cmd) {
		cmd.Path, _ = exec.LookPath("unshare")
		cmd.Args = []string{"unshare", "-m", "sh", "-c", script, "sh", root}
	})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.ask(t, "GET /fhir/Patient").is(t, 401)
	if a := w.get(t, "/readyz"); a.status != 200 {
		t.Errorf("got readiness %d %s, want 200", a.status, a.body)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	for _, want := range []string{"Uid:\t65532\t65532", "Gid:\t65532\t65532", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !bytes.Contains(status, []byte(want)) {
			t.Errorf("status lacks %q:\n%s", want, status)
		}
	}
	if code := w.terminate(t); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	files, err := os.ReadDir(root)
	if err != nil || len(files) != 2 {
		t.Errorf("got files %v (%v), want the two that were there", files, err)
	}
}

// J16: after requests that end in every way, goroutines and descriptors are as many
// as before. The race detector watches all of this package's tests.
func TestBlackboxNothingLeft(t *testing.T) {
	t.Parallel()
	w := start(t, env{"UPSTREAM_HEADER_TIMEOUT": "200ms", "INTROSPECTION_TIMEOUT": "200ms"})
	w.up.on("/fhir/slow", func(c *upstreamConn, r *arrival) bool { c.readBody(r); _, _ = c.ReadByte(); return false })
	w.up.on("/fhir/gone", func(*upstreamConn, *arrival) bool { return false })
	w.up.bytesOn("/fhir/part", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", false)
	round := func() {
		for i, raw := range []string{
			request("GET /fhir/Patient", good), request("GET /fhir/Patient"), request("GET /fhir/slow", good), request("GET /fhir/gone", good),
			request("GET /fhir/Patient", bearer("nobody-knows")), request("CONNECT x", good), request("GET /fhir/../x", good),
			request("POST /fhir/Patient", good, "Content-Length: 3") + "abc", request("POST /fhir/gone", good, "Content-Length: 100000") + "abc",
		} {
			if i == 8 {
				c, err := dialPlain(w.data)
				if err != nil {
					t.Fatalf("dialPlain: got error %v, want none", err)
				}
				_, _ = io.WriteString(c, raw) // and leaves
				_ = c.Close()
				continue
			}
			if _, err := exchangePlain(w.data, raw); err != nil {
				t.Fatalf("%.40q: got error %v, want a response", raw, err)
			}
		}
		_, _ = exchangePlain(w.data, request("GET /fhir/part", good)) // breaks off
	}
	round()
	w.up.close() // so that no idle connection blurs the count
	settled := func() (goroutines, descriptors float64) {
		eventually(t, "no request under way", func() bool {
			before, open := goroutines, descriptors
			goroutines, descriptors = w.metric(t, "go_goroutines"), w.metric(t, "process_open_fds")
			return before == goroutines && open == descriptors
		})
		return goroutines, descriptors
	}
	goroutines, descriptors := settled()
	for range 20 {
		for _, raw := range []string{request("GET /fhir/Patient", good), request("GET /fhir/Patient"), request("GET /fhir/Patient", bearer("nobody-knows"))} {
			if _, err := exchangePlain(w.data, raw); err != nil {
				t.Fatalf("exchangePlain: got error %v, want none", err)
			}
		}
		c, err := dialPlain(w.data)
		if err != nil {
			t.Fatalf("dialPlain: got error %v, want none", err)
		}
		_, _ = io.WriteString(c, request("POST /fhir/Patient", good, "Content-Length: 100000")+"abc")
		_ = c.Close()
	}
	eventually(t, "goroutines and descriptors as before", func() bool {
		return w.metric(t, "go_goroutines") <= goroutines+2 && w.metric(t, "process_open_fds") <= descriptors+2
	})
}

// J17: each family of addresses, and both at once. What isn't an address of TCP, a
// Unix socket for one, is told at start.
func TestBlackboxAddresses(t *testing.T) {
	t.Parallel()
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	_ = six.Close()
	for listen, hosts := range map[string][]string{"127.0.0.1:0": {"127.0.0.1"}, "[::1]:0": {"::1"}, ":0": {"127.0.0.1", "::1"}} {
		w := start(t, env{"LISTEN_ADDRESS": listen, "ADMIN_ADDRESS": listen})
		_, data, _ := net.SplitHostPort(w.data)
		_, admin, _ := net.SplitHostPort(w.admin)
		for _, host := range hosts {
			if a := exchange(t, net.JoinHostPort(host, data), request("GET /fhir/Patient", good)); a.status != 200 {
				t.Errorf("%s at %s: got %d, want 200", listen, host, a.status)
			}
			if a := exchange(t, net.JoinHostPort(host, admin), request("GET /livez")); a.status != 200 {
				t.Errorf("%s at %s: got liveness %d, want 200", listen, host, a.status)
			}
		}
	}
	for _, address := range []string{"unix:/run/sidecar.sock", "/run/sidecar.sock", "127.0.0.1", "[::1", "::1:8000:x"} {
		e := leastEnv(t)
		e["LISTEN_ADDRESS"] = address
		if code, _, stderr := runToEnd(t, e, nil); code != exitConfig || !strings.HasPrefix(stderr, "SIDECAR_LISTEN_ADDRESS: must be host:port") {
			t.Errorf("%s: got exit code %d and %s, want %d and the setting", address, code, stderr, exitConfig)
		}
	}
}

// L11: a hundred thousand methods have one label, and one word in the log.
func TestBlackboxMethodLabels(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "METHOD-X /fhir/Patient", good).refused(t, 405, "not-supported", "")
	series := strings.Count(w.get(t, "/metrics").body, "\n")
	const n = 2000 // each one ends its connection
	for i := range n {
		a := w.ask(t, fmt.Sprintf("METHOD-%d /fhir/Patient", i), good)
		if a.status != 405 {
			t.Fatalf("got %v, want 405", a)
		}
	}
	text := w.get(t, "/metrics").body
	if got := strings.Count(text, "\n"); got != series || strings.Contains(text, "METHOD-") {
		t.Errorf("got %d lines of metrics, want %d", got, series)
	}
	eventually(t, "a line for each", func() bool { return len(w.logs("request")) == n+1 })
	for _, line := range w.logs("request") {
		if line["method"] != "other" {
			t.Fatalf("got method %v, want other", line["method"])
		}
	}
}

// L15: a flood of scrapes, of which many never read their response, leaves the data
// listener and the probes alone, and its cost is bounded.
func TestBlackboxScrapes(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.get(t, "/metrics")
	before := w.residentKiB(t, "VmRSS")
	var conns []*conn
	for range 1000 {
		c := dial(t, w.admin)
		_, _ = io.WriteString(c, request("GET /metrics"))
		conns = append(conns, c)
	}
	for range 50 {
		w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	}
	if a := w.get(t, "/livez"); a.status != 200 {
		t.Errorf("got liveness %d, want 200", a.status)
	}
	var scraped, turnedAway atomic.Int64
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			switch a, err := c.answer("GET"); {
			case err != nil:
				t.Errorf("c.answer: got error %v, want none", err)
			case a.status == 200:
				scraped.Add(1)
			case a.status == 503:
				turnedAway.Add(1)
			default:
				t.Errorf("got status %d, want 200 or 503", a.status)
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	if grown := w.residentKiB(t, "VmHWM") - before; grown > 96<<10*raceFactor {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 96<<10*raceFactor)
	}
	if scraped.Load() == 0 {
		t.Error("got no scrape, want some")
	}
	t.Logf("%d scraped, %d turned away", scraped.Load(), turnedAway.Load())
	if a := w.get(t, "/metrics"); a.status != 200 {
		t.Errorf("afterwards: got %d, want 200", a.status)
	}
}

// K13: two sidecars at one authorization server share nothing: what the one may take
// the other refuses, each has asked for itself, and what the one forgets the other
// knows.
func TestBlackboxTwoSidecars(t *testing.T) {
	t.Parallel()
	as := introspectiontest.NewServer(t)
	sidecar := func(audience string) *world {
		return startWith(t, as, env{"REQUIRED_AUDIENCES": audience, "INTROSPECTION_ENDPOINT": as.Endpoint()})
	}
	one, two := sidecar("https://one.example"), sidecar("https://two.example")
	claims := as.Claims()
	claims["aud"] = "https://one.example"
	as.AddToken("for-one", claims)
	for range 2 {
		one.ask(t, "GET /fhir/Patient", bearer("for-one")).is(t, 200)
		two.ask(t, "GET /fhir/Patient", bearer("for-one")).refused(t, 401, "login", "invalid_token")
	}
	if n := as.IntrospectionsOf("for-one"); n != 2 {
		t.Errorf("%d introspections, want one by each", n)
	}
	if one.up.count() != 2 || two.up.count() != 0 {
		t.Errorf("FHIR servers got %d and %d requests, want 2 and 0", one.up.count(), two.up.count())
	}
	one.terminate(t)
	two.ask(t, "GET /fhir/Patient", bearer("for-one")).refused(t, 401, "login", "invalid_token")
	if n := as.IntrospectionsOf("for-one"); n != 2 {
		t.Errorf("got %d introspections after the other's end, want 2", n)
	}
}
