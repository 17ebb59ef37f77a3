package sharedcache

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

var (
	rounds   = flag.Int("rounds", 3, "rounds of one call for all replicas")
	requests = flag.Int64("requests", 10_000, "requests during a rolling restart")
)

// env are settings without their SIDECAR_ prefix.
type env map[string]string

// world is what replicas live in: one authorization server, one FHIR server.
type world struct {
	as       *introspectiontest.Server
	fhir     *httptest.Server
	settings env
}

// newWorld starts both. once has the authorization server tell the truth once.
func newWorld(t *testing.T, once bool, settings env) *world {
	t.Helper()
	w := &world{as: introspectiontest.NewServerWith(t, introspectiontest.Config{OneShot: once})}
	w.fhir = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen := map[string]string{}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Launch-") {
				seen[name] = r.Header.Get(name)
			}
		}
		_ = json.NewEncoder(rw).Encode(seen)
	}))
	t.Cleanup(w.fhir.Close)
	w.settings = env{
		"UPSTREAM_URL": w.fhir.URL + "/fhir", "INTROSPECTION_ENDPOINT": w.as.Endpoint(),
		"BEARER_TOKEN_FILE": writeFile(t, "bearer", introspectiontest.DefaultBearer),
		"ADMIN_TOKEN_FILE":  writeFile(t, "admin", "an-admin-token-of-many-letters"),
		"LISTEN_ADDRESS":    "127.0.0.1:0", "ADMIN_ADDRESS": "127.0.0.1:0",
		"BYPASS_GUARD": "off",
	}
	maps.Copy(w.settings, settings)
	if once {
		w.settings["INTROSPECTION_ONCE"] = "true"
	}
	return w
}

// tokens makes so many known to the authorization server, and returns them.
func (w *world) tokens(prefix string, n int) (tokens []string) {
	for i := range n {
		token := fmt.Sprintf("%s-%d", prefix, i)
		claims := w.as.Claims()
		claims["sub"] = "sub-of-" + token
		w.as.AddToken(token, claims)
		tokens = append(tokens, token)
	}
	return tokens
}

// wantCalls wants each token to have been asked about so often.
func (w *world) wantCalls(t *testing.T, tokens []string, want int) {
	t.Helper()
	wrong := 0
	for _, token := range tokens {
		if got := w.as.IntrospectionsOf(token); got != want {
			if wrong++; wrong < 4 {
				t.Errorf("calls about %s: got %d, want %d", token, got, want)
			}
		}
	}
	if wrong > 3 {
		t.Errorf("and %d more", wrong-3)
	}
}

// sidecar is a running replica and its addresses, host:port.
type sidecar struct {
	t           *testing.T
	data, admin string
	cmd         *exec.Cmd
	read        chan struct{} // closed when its output has ended
	log         *lockedBuffer
	ended       bool
	inUse       sync.RWMutex // read by who sends it requests
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// client has connections enough for every request of a test.
var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 400}}

// replicas starts so many of the world, connected.
func (w *world) replicas(t *testing.T, n int) (all []*sidecar) {
	t.Helper()
	for range n {
		all = append(all, w.start(t, nil))
	}
	for _, s := range all {
		s.connected()
	}
	return all
}

// start runs a replica until the test ends; change are settings of its own.
func (w *world) start(t *testing.T, change env) *sidecar {
	t.Helper()
	s := &sidecar{t: t, cmd: exec.Command(os.Getenv("SIDECAR_BINARY")), read: make(chan struct{}), log: new(lockedBuffer)}
	settings := maps.Clone(w.settings)
	maps.Copy(settings, change)
	for name, value := range settings {
		s.cmd.Env = append(s.cmd.Env, "SIDECAR_"+name+"="+value)
	}
	s.cmd.Stderr = s.log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan [2]string, 1)
	go s.follow(stdout, serving)
	t.Cleanup(s.end)
	select {
	case addresses := <-serving:
		s.data, s.admin = addresses[0], addresses[1]
	case <-s.read:
		t.Fatalf("the sidecar doesn't serve\n%s", s.log.b.String())
	case <-time.After(patience):
		t.Fatal("the sidecar doesn't serve")
	}
	eventually(t, "readiness", s.ready)
	return s
}

func (s *sidecar) follow(stdout io.Reader, serving chan<- [2]string) {
	defer close(s.read)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var entry struct {
			Msg   string `json:"msg"`
			Data  string `json:"listen_address"`
			Admin string `json:"admin_address"`
		}
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
			serving <- [2]string{entry.Data, entry.Admin}
		}
		_, _ = s.log.Write(append(lines.Bytes(), '\n'))
	}
}

// end asks the process to end, which must succeed. Asked twice it does nothing.
func (s *sidecar) end() {
	if s.ended {
		return
	}
	s.ended = true
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.read:
	case <-time.After(2 * patience):
		_ = s.cmd.Process.Kill()
		<-s.read
		s.t.Error("the sidecar doesn't end")
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("ending: got %v, want no error\n%s", err, s.log.b.String())
	}
}

// kill ends it without a word.
func (s *sidecar) kill() {
	s.ended = true
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *sidecar) ready() bool {
	res, err := client.Get("http://" + s.admin + "/readyz")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// connected waits until it shares.
func (s *sidecar) connected() {
	s.t.Helper()
	eventually(s.t, "a connection to the store", func() bool { return s.metric("shared_cache_connected") == 1 })
}

// metric returns the sum of the series of a name that have all the labels.
func (s *sidecar) metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	res, err := client.Get("http://" + s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		base, rest, _ := strings.Cut(series, "{")
		matches := base == "introspection_sidecar_"+name || base == name
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

// get asks for a patient with a token, and returns the status and the context
// headers that the FHIR server saw.
func (s *sidecar) get(token string) (status int, seen map[string]string) {
	req, _ := http.NewRequest(http.MethodGet, "http://"+s.data+"/fhir/Patient", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		_ = json.NewDecoder(res.Body).Decode(&seen)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
		return -1, nil // no one knows when to come back
	}
	return res.StatusCode, seen
}

// wantStatus wants a response to a token.
func (s *sidecar) wantStatus(token string, want int) {
	s.t.Helper()
	if got, _ := s.get(token); got != want {
		s.t.Errorf("%s: got status %d, want %d", token, got, want)
	}
}

// purge asks an admin's purge, and returns status and body.
func (s *sidecar) purge(query string) (status int, body map[string]any) {
	s.t.Helper()
	req, _ := http.NewRequest(http.MethodDelete, "http://"+s.admin+"/cache"+query, nil)
	req.Header.Set("Authorization", "Bearer an-admin-token-of-many-letters")
	res, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, body
}

// everywhere asks every replica about every token at the same time, and returns how
// often each status came.
func everywhere(all []*sidecar, tokens []string) map[int]int {
	statuses := make(chan int, len(all)*len(tokens))
	var wg sync.WaitGroup
	for _, token := range tokens {
		for _, s := range all {
			wg.Go(func() {
				status, _ := s.get(token)
				statuses <- status
			})
		}
	}
	wg.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	return count
}

// explain logs what replicas counted.
func explain(t *testing.T, all []*sidecar) {
	t.Helper()
	for i, s := range all {
		var lines []string
		for _, result := range []string{"hit", "inactive", "acquired", "waited", "undecryptable", "stale", "error", "skipped"} {
			lines = append(lines, fmt.Sprint(result, " ", s.metric("shared_cache_lookups_total", `"`+result+`"`)))
		}
		for _, reason := range []string{"timeout", "connection", "auth", "readonly", "memory", "other"} {
			lines = append(lines, fmt.Sprint(reason, " ", s.metric("shared_cache_errors_total", `"`+reason+`"`)))
		}
		for _, result := range []string{"active", "inactive", "unavailable"} {
			lines = append(lines, fmt.Sprint("call ", result, " ", s.metric("introspections_total", `"`+result+`"`)))
		}
		t.Logf("replica %d: %s; lost %d times", i, strings.Join(lines, ", "), s.log.count("shared cache lost"))
	}
}

// run runs another command than serve to its end. A setting of "-" is left out.
func (w *world) run(change env, arguments ...string) (output string, err error) {
	cmd := exec.Command(os.Getenv("SIDECAR_BINARY"), arguments...)
	settings := maps.Clone(w.settings)
	maps.Copy(settings, change)
	for name, value := range settings {
		if value != "-" {
			cmd.Env = append(cmd.Env, "SIDECAR_"+name+"="+value)
		}
	}
	combined, err := cmd.CombinedOutput()
	return string(combined), err
}
