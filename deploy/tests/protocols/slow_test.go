package protocols

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

var colours = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

// TestSlowClients lets slowhttptest hold two hundred connections in each of its
// ways, while an ordinary client must not notice.
func TestSlowClients(t *testing.T) {
	s := start(t, false)
	for _, c := range []struct {
		name, mode string
		cutOff     bool // the sidecar closes all of them
		args       []string
	}{
		// net/http gives up on a header after ten seconds.
		{"slow headers", "-H", true, []string{"-t", "GET", "-u", "http://" + s.data + "/fhir/Patient/1"}},
		// Refused without a token, then two seconds to stop sending.
		{"slow body", "-B", true, []string{"-t", "POST", "-s", "8192", "-u", "http://" + s.data + "/fhir/Patient"}},
		// These answers fit into the socket: what is slow costs the kernel a buffer.
		{"slow read", "-X", false, []string{"-k", "3", "-w", "1", "-y", "8", "-z", "1", "-n", "3", "-u", "http://" + s.data + "/fhir/metadata"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			attack := make(chan string, 1)
			go func() {
				attack <- tool(t, time.Minute, "slowhttptest",
					append([]string{c.mode, "-c", "200", "-r", "100", "-i", "2", "-l", "20", "-p", "3"}, c.args...)...)
			}()
			output := colours.ReplaceAllString(attended(t, s, attack), "")
			if strings.Contains(output, "service available:   NO") {
				t.Errorf("its own probe found no service\n%s", output)
			}
			if c.cutOff && !strings.Contains(output, "No open connections left") {
				t.Errorf("slow connections were still open after 20 s\n%s", output)
			}
		})
	}
}

// attended is an ordinary client until the attack is over.
func attended(t *testing.T, s *sidecar, attack <-chan string) string {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	next := time.NewTicker(50 * time.Millisecond)
	defer next.Stop()
	slowest := time.Duration(0)
	for n := 0; ; n++ {
		select {
		case output := <-attack:
			t.Logf("%d ordinary requests, the slowest took %v", n, slowest)
			return output
		case <-next.C:
		}
		began := time.Now()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.data+"/fhir/Patient/1", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(r)
		if err != nil {
			t.Errorf("request %d: %v", n, err)
			continue
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("request %d: status %d", n, answer.StatusCode)
		}
		slowest = max(slowest, time.Since(began))
	}
}
