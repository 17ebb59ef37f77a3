package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// env are settings without their SIDECAR_ prefix. A value of "-" leaves one out.
type env map[string]string

func (e env) with(change env) env {
	all := maps.Clone(e)
	maps.Copy(all, change)
	return all
}

func (e env) list() (list []string) {
	for name, value := range e {
		if value != "-" {
			list = append(list, "SIDECAR_"+name+"="+value)
		}
	}
	return list
}

// sidecar is the program under test and its addresses, host:port.
type sidecar struct {
	*process
	t           *testing.T
	data, admin string
	settings    env
}

// startSidecar runs the binary with settings until the test ends.
func startSidecar(t *testing.T, settings env) *sidecar {
	t.Helper()
	s := &sidecar{t: t, data: settings["LISTEN_ADDRESS"], admin: settings["ADMIN_ADDRESS"]}
	for _, address := range []*string{&s.data, &s.admin} {
		if *address == "" {
			*address = "127.0.0.1:" + freePort(t)
		}
	}
	// A busy machine has JVMs answer slowly.
	s.settings = env{"BYPASS_GUARD": "off", "INTROSPECTION_TIMEOUT": "10s"}.with(settings).with(env{"LISTEN_ADDRESS": s.data, "ADMIN_ADDRESS": s.admin})
	cmd := exec.Command(tool(t, "SIDECAR_BINARY"))
	cmd.Env = s.settings.list()
	s.process = start(t, "sidecar", cmd)
	s.await(t, "http://"+s.admin+"/livez")
	return s
}

// check runs the check command with the settings, and returns what it prints and
// its exit code.
func check(t *testing.T, settings env, arguments ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(tool(t, "SIDECAR_BINARY"), append([]string{"check"}, arguments...)...)
	cmd.Env = env{"BYPASS_GUARD": "off", "INTROSPECTION_TIMEOUT": "10s"}.with(settings).list()
	combined, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(combined), cmd.ProcessState.ExitCode()
}

// ready tells whether /readyz is 200.
func (s *sidecar) ready() bool {
	res, err := client.Get("http://" + s.admin + "/readyz")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// metric returns the sum of the series of a name that have all the labels.
func (s *sidecar) metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	res := send(s.t, request(s.t, http.MethodGet, "http://"+s.admin+"/metrics", ""))
	for lines := bufio.NewScanner(strings.NewReader(res.body)); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		base, rest, _ := strings.Cut(series, "{")
		matches := base == "introspection_sidecar_"+name
		for _, label := range labels {
			matches = matches && strings.Contains(rest, label)
		}
		if matches {
			number, _ := strconv.ParseFloat(value, 64)
			sum += number
		}
	}
	return sum
}

// get asks for a patient with a token.
func (s *sidecar) get(token string) response {
	s.t.Helper()
	return send(s.t, request(s.t, http.MethodGet, "http://"+s.data+"/fhir/Patient/123", "", "Authorization", "Bearer "+token))
}

// wantStatus wants a status for a token, and returns the response.
func (s *sidecar) wantStatus(what, token string, want int) response {
	s.t.Helper()
	res := s.get(token)
	if res.status != want {
		s.t.Errorf("%s: got status %d, want %d\n%s\n%s", what, res.status, want, res.body, s.log.tail())
	}
	return res
}

// wantContext wants the FHIR server to see context headers for a token.
func (s *sidecar) wantContext(what, token string, want map[string]string) {
	s.t.Helper()
	res := s.wantStatus(what, token, http.StatusOK)
	var seen map[string]string
	if err := json.Unmarshal([]byte(res.body), &seen); err != nil {
		s.t.Errorf("%s: %v in %s", what, err, res.body)
	}
	for name, value := range want {
		if seen[name] != value {
			s.t.Errorf("%s: %s: got %q, want %q", what, name, seen[name], value)
		}
	}
}

// echo is a FHIR server that answers with the context headers it got.
func echo(t *testing.T) (base string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := map[string]string{"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Launch-") {
				seen[name] = strings.Join(values, " + ")
			}
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		_ = json.NewEncoder(w).Encode(seen)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/fhir"
}

// TestMain refuses to run without run.sh, which brings the neighbours.
func TestMain(m *testing.M) {
	if os.Getenv("SIDECAR_BINARY") == "" {
		_, _ = os.Stderr.WriteString("run me by run.sh\n")
		os.Exit(2)
	}
	os.Exit(m.Run())
}
