package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// F05, F13, F15: of all that limits how long a verdict is believed, the shortest
// counts; without exp there is always a limit. TestAge has all combinations.
func TestBlackboxExpiryShortestCounts(t *testing.T) {
	t.Parallel()
	const short = time.Second
	for _, c := range []struct {
		name string
		e    env
		exp  time.Duration // 0: none
	}{
		{"no exp", env{"CACHE_NO_EXP_AGE": "1s"}, 0},
		{"exp, longest age below", env{"CACHE_MAX_AGE": "1s"}, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.e["CACHE_INACTIVE_AGE"] = "0"
			w := start(t, c.e)
			claims := map[string]any{}
			if c.exp > 0 {
				claims["exp"] = time.Now().Add(c.exp).Unix()
			}
			w.as.AddToken("t", claims)
			began := time.Now()
			w.ask(t, "GET /fhir/Patient", bearer("t")).is(t, 200)
			w.as.Revoke("t")
			eventually(t, "the verdict is over", func() bool { return w.ask(t, "GET /fhir/Patient", bearer("t")).status == 401 })
			if d := time.Since(began); d < short {
				t.Errorf("believed for %v, want %v", d, short)
			}
			if n := w.as.IntrospectionsOf("t"); n != 2 {
				t.Errorf("got %d introspections, want 2", n)
			}
		})
	}
}

// F09: nbf and iat get the leeway, exp gets none, whoever's clock is off. TestPolicy
// has all combinations.
func TestBlackboxExpiryClocks(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	for _, c := range []struct {
		name          string
		skew          string
		authority     time.Duration // how far its clock is ahead of ours
		issued, until time.Duration // by its clock
		status        int
	}{
		{"ahead within the leeway", "", 2 * time.Second, 0, 5 * minute, 200},
		{"a minute ahead", "", minute, 0, 5 * minute, 401},
		{"a minute ahead, leeway for it", "90s", minute, 0, 5 * minute, 200},
		{"a minute behind, expired for us only, leeway", "5m", -minute, -5 * minute, minute / 2, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := func() time.Time { return time.Now().Add(c.authority) }
			w := startWith(t, introspectiontest.NewServerWith(t, introspectiontest.Config{Now: clock}), env{"CLOCK_SKEW": c.skew, "CACHE_INACTIVE_AGE": "1h"})
			for _, from := range []string{"iat", "nbf"} {
				w.as.AddToken(from, map[string]any{from: clock().Add(c.issued).Unix(), "exp": clock().Add(c.until).Unix()})
				for range 2 {
					if a := w.ask(t, "GET /fhir/Patient", bearer(from)); a.status != c.status {
						t.Errorf("%s: status %d, want %d", from, a.status, c.status)
					}
				}
				if n := w.as.IntrospectionsOf(from); n != 1 {
					t.Errorf("%s: got %d introspections, want 1", from, n)
				}
			}
		})
	}
}

// F09, F10: a token whose time is still to come is refused on hits too, until it
// has come.
func TestBlackboxExpiryNotYet(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a date")
	}
	t.Parallel()
	w := start(t, env{"CLOCK_SKEW": "5m", "CACHE_INACTIVE_AGE": "0"})
	from := time.Now().Add(5*time.Minute + 6*time.Second).Unix()
	w.as.AddToken("early", map[string]any{"nbf": from})
	w.ask(t, "GET /fhir/Patient", bearer("early")).refused(t, 401, "login", "invalid_token")
	eventually(t, "its time comes", func() bool { return w.ask(t, "GET /fhir/Patient", bearer("early")).status == 200 })
	if time.Now().Add(5*time.Minute).Unix() < from {
		t.Error("accepted before nbf and the leeway, want a refusal")
	}
	if n := w.as.IntrospectionsOf("early"); n != 1 {
		t.Errorf("got %d introspections, want 1", n)
	}
}

// F17: nothing of a verdict outlives the process, on disk or anywhere else.
func TestBlackboxExpiryRestart(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	as, up := introspectiontest.NewServer(t), newUpstream(t)
	as.AddToken("good", as.Claims())
	e := leastEnv(t)
	e["UPSTREAM_URL"], e["INTROSPECTION_ENDPOINT"] = "http://"+up.address+"/fhir", as.Endpoint()
	e["BEARER_TOKEN_FILE"] = writeFile(t, "b", introspectiontest.DefaultBearer)
	for run := 1; run <= 3; run++ {
		c := spawn(t, e, []string{"HOME=" + disk, "TMPDIR=" + disk, "XDG_CACHE_HOME=" + disk, "XDG_STATE_HOME=" + disk})
		c.awaitServing(t)
		for range 3 {
			c.ask(t, "GET /fhir/Patient", good).is(t, 200)
			c.ask(t, "GET /fhir/Patient", bearer("junk")).refused(t, 401, "login", "invalid_token")
		}
		if n, junk := as.IntrospectionsOf("good"), as.IntrospectionsOf("junk"); n != run || junk != run {
			t.Errorf("run %d: got %d introspections of a good token and %d of another, want %[1]d of each", run, n, junk)
		}
		for _, file := range c.filesWritten(t) {
			if file != c.dialed { // the test's own, see recordDials
				t.Errorf("run %d writes %s, want no files", run, file)
			}
		}
		if run == 2 {
			c.anyExit = true
			c.signal(syscall.SIGKILL)
			c.wait(t)
		} else {
			c.terminate(t)
		}
	}
	err := filepath.WalkDir(disk, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != disk {
			t.Errorf("got %s left behind, want nothing", path)
		}
		return err
	})
	if err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// filesWritten returns the regular files that the process has open for writing.
func (c *child) filesWritten(t *testing.T) (names []string) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	open, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	for _, fd := range open {
		name, err := os.Readlink(proc + "fd/" + fd.Name())
		info, _ := os.ReadFile(proc + "fdinfo/" + fd.Name())
		_, flags, _ := strings.Cut(string(info), "flags:")
		flags = strings.TrimSpace(flags)
		var mode uint
		if end := strings.IndexAny(flags, " \n\t"); end > 0 {
			_, _ = fmt.Sscanf(flags[:end], "%o", &mode)
		}
		if info, statErr := os.Stat(name); err == nil && statErr == nil && info.Mode().IsRegular() && mode&syscall.O_ACCMODE != syscall.O_RDONLY {
			names = append(names, name)
		}
	}
	return names
}
