package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// profiler is added to the sidecar for a profile.
const profiler = `package main

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// SIGUSR2 begins the profile, and again ends it. SIGUSR1 drains the sidecar.
func init() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	go func() {
		<-signals
		f, err := os.Create(os.Getenv("BENCH_PROFILE"))
		if err != nil || pprof.StartCPUProfile(f) != nil {
			os.Exit(1)
		}
		<-signals
		pprof.StopCPUProfile()
		_ = f.Close()
		_ = os.Rename(f.Name(), f.Name()+".done")
	}()
}
`

// buildProfiled builds the sidecar with a profiler.
func buildProfiled(dir string) (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	file, overlay, out := filepath.Join(dir, "profile.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "profiled")
	if err := os.WriteFile(file, []byte(profiler), 0o600); err != nil {
		return "", err
	}
	pkg := filepath.Join(root, "cmd", "fhir-introspection-sidecar")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(pkg, "profile.go"): file}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", out, pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "BENCH_PROFILE="+filepath.Join(dir, "profile"))
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	return out, os.Setenv("BENCH_PROFILE", filepath.Join(dir, "profile"))
}

// writeProfile loads the sidecar with the first of the cases while it profiles itself.
func (b *run) writeProfile(cases []testCase) error {
	if len(cases) == 0 {
		return fmt.Errorf("no case matches %q", b.options.run)
	}
	c, t := cases[0], b.proxies[0].of(cases[0])
	if _, err := b.load.measure(c, t, 1); err != nil {
		return err
	}
	if err := t.process.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	s, err := b.load.measure(c, t, b.options.seconds*b.options.rounds)
	if err != nil {
		return err
	}
	if err := t.process.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %.1f µs of CPU time per request\n", c.name, s.cpu)
	done := os.Getenv("BENCH_PROFILE") + ".done"
	for range 100 {
		if profile, err := os.ReadFile(done); err == nil {
			return os.WriteFile(b.options.profile, profile, 0o644)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("no profile was written")
}
