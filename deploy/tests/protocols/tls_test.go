package protocols

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTLS lets testssl.sh look at protocols, ciphers, forward secrecy and the
// known vulnerabilities of the data listener. Its findings about the certificate
// don't count: this one is signed by itself.
func TestTLS(t *testing.T) {
	s := start(t, true)
	report := filepath.Join(t.TempDir(), "report.json")
	output := tool(t, 4*time.Minute, "testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1",
		"-p", "-s", "-f", "-U", "--jsonfile", report, "localhost:"+port(s.data))
	content, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(content, &findings); err != nil {
		t.Fatalf("%v\n%s", err, content)
	}
	found := map[string]string{}
	for _, f := range findings {
		found[f.ID] = f.Finding
		switch f.Severity {
		case "LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL":
			t.Errorf("%s: %s: %s", f.Severity, f.ID, f.Finding)
		case "WARN":
			t.Logf("%s: %s", f.ID, f.Finding)
		}
	}
	for id, want := range map[string]string{
		"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered",
		"TLS1_2": "offered", "TLS1_3": "offered with final",
	} {
		if found[id] != want {
			t.Errorf("%s is %q, want %q", id, found[id], want)
		}
	}
	t.Logf("testssl.sh: %d findings", len(findings))
}
