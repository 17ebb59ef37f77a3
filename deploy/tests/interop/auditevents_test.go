package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditEventsAreValid has HAPI FHIR's validator read one AuditEvent of each kind, as
// the encoder's own tests hold them fast, and one that is spoiled.
func TestAuditEventsAreValid(t *testing.T) {
	var files []string
	for _, pattern := range []string{"balp_*.golden", "kt2_*.golden"} {
		found, err := filepath.Glob(filepath.Join("../../../proxy/fhir/testdata", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: got %d files (%v), want some", pattern, len(found), err)
		}
		files = append(files, found...)
	}
	event, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	spoiled := filepath.Join(folder, "spoiled")
	if err := os.WriteFile(spoiled, []byte(strings.Replace(string(event), `"outcome": "`, `"outcome": "1`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	jars := tool(t, "VALIDATOR") + "/*"
	if output, err := exec.Command("javac", "-d", folder, "-cp", jars, "validator/Validate.java").CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, output)
	}
	output, err := exec.Command("java", append([]string{"-Xmx1g", "-XX:TieredStopAtLevel=1", "-cp", folder + ":" + jars, "Validate"}, append(files, spoiled)...)...).Output()
	if err != nil {
		t.Fatalf("validating: %v\n%s", err, output)
	}
	valid := 0
	for line := range strings.Lines(string(output)) {
		switch {
		case strings.HasPrefix(line, "valid "):
			valid++
		case strings.HasPrefix(line, "error ") && !strings.HasPrefix(line, "error "+spoiled):
			t.Errorf("got %s", line)
		}
	}
	if valid != len(files) || !strings.Contains(string(output), "error "+spoiled) {
		t.Errorf("got %d valid files, want the %d but the spoiled one:\n%s", valid, len(files), output)
	}
}
