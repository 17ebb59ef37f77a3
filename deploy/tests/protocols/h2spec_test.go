package protocols

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tolerated are the tests that net/http's own server fails too: a connection or
// stream error is wanted, and it answers with another one, or with 400. None lets
// a request through.
var tolerated = map[string]bool{
	"http2/4.2 Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                          true,
	"http2/6.5.3 Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                            true,
	"http2/8.1.2.2 Sends a HEADERS frame that contains the connection-specific header field":                       true,
	"http2/8.1.2.2 Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": true,
}

// result is one test of h2spec.
type result struct {
	Package string    `xml:"package,attr"`
	Name    string    `xml:"classname,attr"`
	Failure *struct{} `xml:"failure"`
	Error   *struct{} `xml:"error"`
}

func (r result) failed() bool { return r.Failure != nil || r.Error != nil }

// h2spec runs the given sections, or all of them.
func h2spec(t *testing.T, address string, sections ...string) (results []result) {
	t.Helper()
	binary := os.Getenv("H2SPEC")
	if binary == "" {
		t.Fatal("H2SPEC must name the tool; run.sh sets it")
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	output := tool(t, 3*time.Minute, binary, append([]string{
		"-h", "127.0.0.1", "-p", port(address), "-t", "-k", "-P", "/fhir/metadata", "-j", report,
	}, sections...)...)
	content, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	var suites struct {
		Suites []struct {
			Cases []result `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(content, &suites); err != nil {
		t.Fatal(err)
	}
	for _, suite := range suites.Suites {
		results = append(results, suite.Cases...)
	}
	return results
}

// TestH2spec runs the whole of h2spec over TLS. A test of it that sends a body with
// a false length races with the response, which doesn't wait for the body of a request
// that is refused anyway; a section that fails gets two more chances.
func TestH2spec(t *testing.T) {
	s := start(t, true)
	results := h2spec(t, s.data)
	passed := 0
	for _, r := range results {
		name := r.Package + " " + r.Name
		if r.failed() && !tolerated[name] {
			t.Log("again: ", name)
			r.Failure, r.Error = nil, nil
			if !passes(h2spec(t, s.data, r.Package), r.Name) && !passes(h2spec(t, s.data, r.Package), r.Name) {
				t.Errorf("failed: %s", name)
				continue
			}
		}
		if r.failed() {
			t.Logf("tolerated: %s", name)
			continue
		}
		passed++
	}
	t.Logf("h2spec: %d tests, %d passed", len(results), passed)
	if len(results) < 145 || passed < 140 {
		t.Errorf("%d of %d passed, want at least 140 of 145", passed, len(results))
	}
}

func passes(results []result, name string) bool {
	for _, r := range results {
		if r.Name == name {
			return !r.failed()
		}
	}
	return false
}
