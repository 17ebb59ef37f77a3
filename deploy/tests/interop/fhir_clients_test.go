package interop

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestFHIRClients has each FHIR client do what it can, to HAPI's server and to the same
// server through the sidecar: it must see the same.
func TestFHIRClients(t *testing.T) {
	h := startHAPI(t, "jetty")
	s := inFront(t, h.base, nil)
	through := "http://" + s.data + "/fhir"
	node := nodeFolder(t)
	byNode := func(name string) func(string) *exec.Cmd {
		return func(base string) *exec.Cmd {
			cmd := exec.Command("node", "fhir-clients.mjs", name, base, "everything")
			cmd.Dir = node
			return cmd
		}
	}
	for name, client := range map[string]struct {
		run   func(base string) *exec.Cmd
		steps int
	}{
		"HAPI":            {func(base string) *exec.Cmd { return java(t, nil, "HapiClient", base, "everything") }, 36},
		"fhir-kit-client": {byNode("fhir-kit-client"), 16},
		"fhirclient":      {byNode("fhirclient"), 12},
		"MedplumClient":   {byNode("MedplumClient"), 13},
	} {
		t.Run(name, func(t *testing.T) {
			h.reset(t)
			direct := steps(t, client.run(h.base), h.base)
			h.reset(t)
			proxied := steps(t, client.run(through), through)
			failed := 0
			for step, want := range direct {
				if got := proxied[step]; got != want {
					t.Errorf("%s:\n through: %.600s\n direct:  %.600s", step, got, want)
				}
				if strings.Contains(want, `"error"`) {
					failed++
					t.Logf("%s: %.200s", step, want)
				}
			}
			if len(direct) != client.steps || len(proxied) != client.steps || failed > client.steps/3 {
				t.Errorf("steps: got %d direct (%d fail) and %d through the sidecar, want %d", len(direct), failed, len(proxied), client.steps)
			}
		})
	}
}

// steps runs a client and returns what each step came to, comparably.
func steps(t *testing.T, cmd *exec.Cmd, base string) map[string]string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	all := map[string]string{}
	for line := range strings.Lines(string(output)) {
		var step struct{ Step string }
		if json.Unmarshal([]byte(line), &step) != nil || step.Step == "" {
			continue // a client's own chatter
		}
		text := strings.ReplaceAll(strings.ReplaceAll(line, base, "BASE"), strings.ReplaceAll(base, "/", `\/`), "BASE")
		for _, c := range changing {
			text = c.pattern.ReplaceAllString(text, c.word)
		}
		all[step.Step] = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "HOST")
	}
	return all
}
