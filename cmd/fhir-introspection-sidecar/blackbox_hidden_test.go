//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user without privileges.
const nobody = 65534

// TestBlackboxHidden: what stands in the memory of the process is for its own user
// neither to read nor to have dumped; the drain command finds it all the same.
func TestBlackboxHidden(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("os.Executable: got error %v, want none", err)
	}
	folder, err := os.MkdirTemp("", program) // the test's own isn't for everybody
	if err != nil {
		t.Fatalf("os.MkdirTemp: got error %v, want none", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	binary := filepath.Join(folder, program)
	if output, err := exec.Command("sh", "-c", `cp "$0" "$1" && chmod 755 "$1" "$2"`, self, binary, folder).CombinedOutput(); err != nil {
		t.Fatalf("cp: got %v and %s, want a copy", err, output)
	}
	as := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true}}
	}
	w := startPrepared(t, env{"BEARER_TOKEN_FILE": "", "INTROSPECTION_AUTH": "none"}, func(cmd *exec.Cmd) {
		as(cmd)
		cmd.Path = binary
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, dialFile+"=") })
	})
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", w.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	for line := range strings.Lines(string(limits)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (fields[4] != "0" || fields[5] != "0") {
			t.Errorf("got %q, want 0", line)
		}
	}
	look := exec.Command("/bin/sh", "-c", fmt.Sprintf("ls /proc/%d/fd && head -c 1 /proc/%d/maps", w.cmd.Process.Pid, w.cmd.Process.Pid))
	as(look)
	if output, err := look.CombinedOutput(); err == nil {
		t.Errorf("got %q, want nothing to be read by its own user", output)
	}
	drain := exec.Command(binary, "drain")
	drain.Env = w.cmd.Env
	as(drain)
	if output, err := drain.CombinedOutput(); err != nil {
		t.Fatalf("drain: got error %v and %s, want none", err, output)
	}
	eventually(t, "readiness turns red", func() bool { return w.get(t, "/readyz").status == 503 })
}
