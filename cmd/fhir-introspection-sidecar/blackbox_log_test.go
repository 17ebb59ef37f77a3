package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// stalled starts a sidecar whose stdout is read up to the line "serving" only. The
// test may read on, or close it.
func stalled(t *testing.T, e env) (*child, *bufio.Reader, io.Closer) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatalf("os.Pipe: got error %v, want none", err)
	}
	t.Cleanup(func() { _ = out.Close() })
	c := spawnPrepared(t, e, nil, func(cmd *exec.Cmd) { cmd.Stdout = in })
	_ = in.Close()
	_ = out.SetReadDeadline(time.Now().Add(4 * patience))
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	var serving struct {
		Data  string `json:"listen_address"`
		Admin string `json:"admin_address"`
	}
	if json.Unmarshal([]byte(line), &serving); err != nil || serving.Data == "" {
		t.Fatalf("got %q (%v), want the line that says what is served", line, err)
	}
	c.data, c.admin = serving.Data, serving.Admin
	return c, r, out
}

// J13: nobody reads stdout. Every request gets its response all the same, the lines
// that were lost are counted when somebody reads again, and the program ends.
func TestBlackboxLogStalled(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a pipe")
	}
	t.Parallel()
	e := leastEnv(t)
	e["AUDIT_LOG"], e["LOG_LEVEL"] = "stdout", "debug"
	c, out, _ := stalled(t, e)
	refuse := func(n int) {
		client := dial(t, c.data)
		for range n {
			if a, err := client.do(request("GET /fhir/Patient")); err != nil || a.status != 401 {
				t.Fatalf("got %v (%v), want 401", a, err)
			}
		}
	}
	const n = 4096 + 2000 // more than queue and pipe hold
	refuse(n)
	if a := c.get(t, "/livez"); a.status != 200 {
		t.Errorf("got liveness %d, want 200", a.status)
	}
	seen, lost := 0, 0
	for seen+lost < n {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("got error %v after %d lines and %d lost ones, want more", err, seen, lost)
		}
		var m struct {
			Msg, Log string
			Lines    int
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("got %q (%v), want JSON", line, err)
		}
		switch {
		case m.Msg == "request":
			seen++
		case m.Msg == "log lines were lost":
			lost += m.Lines
		}
	}
	if lost == 0 {
		t.Error("got no lost lines, want some, or this proves nothing")
	}
	refuse(1000) // stalled again
	if code := c.terminate(t); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
}

// J13: what read stdout is gone. A program that writes to it dies of SIGPIPE, unless
// it sees to that; this one goes on, and ends as ever.
func TestBlackboxLogGone(t *testing.T) {
	t.Parallel()
	e := leastEnv(t)
	e["AUDIT_LOG"], e["LOG_LEVEL"] = "stdout", "debug"
	c, _, out := stalled(t, e)
	if err := out.Close(); err != nil {
		t.Fatalf("out.Close: got error %v, want none", err)
	}
	// Lines are written in the background, so that death may come a little later.
	for range 100 {
		if a := exchange(t, c.data, request("GET /fhir/Patient", "Connection: close")); a.status != 401 {
			t.Fatalf("got %v, want 401", a)
		}
	}
	if code := c.terminate(t); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
}

// Section 9: what the lines hold, and at which level.
func TestBlackboxLogs(t *testing.T) {
	t.Parallel()
	w := start(t, env{"LOG_LEVEL": "debug"})
	w.as.SetAnswerFor("down", introspectiontest.Respond(500, nil, ""))
	w.as.SetAnswerFor("rejected", introspectiontest.Respond(401, nil, ""))
	w.ask(t, "GET /fhir/Patient/1?name=secret", good, "X-Request-Id: r1", "X-Correlation-Id: c1", "X-Trace-Id: t1").is(t, 200)
	w.ask(t, "GET /fhir/Patient", good)
	w.ask(t, "GET /fhir/Patient")
	w.ask(t, "GET /fhir/Patient", bearer("unknown"))
	w.ask(t, "GET /fhir/Patient", bearer("down"))
	w.ask(t, "GET /fhir/Patient", bearer("rejected"))
	w.ask(t, "GET /fhir/metadata")
	want := []string{"DEBUG allowed", "DEBUG allowed", "INFO no_token", "INFO invalid_token", "WARN introspection_unavailable", "ERROR credential_rejected", "DEBUG public"}
	var got []string
	eventually(t, "seven lines", func() bool { return len(w.logs("request")) >= len(want) })
	lines := w.logs("request")
	for _, line := range lines {
		got = append(got, fmt.Sprint(line["level"], " ", line["decision"]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	first := lines[0]
	for key, value := range map[string]any{"method": "GET", "interaction": "read", "status": 200.0, "request_id": "r1", "correlation_id": "c1", "trace_id": "t1", "cache": "miss"} {
		if first[key] != value {
			t.Errorf("%s: %v, want %v", key, first[key], value)
		}
	}
	ref, _ := first["token_ref"].(string)
	if len(ref) != 8 || strings.Trim(ref, "0123456789abcdef") != "" || lines[1]["token_ref"] != ref || lines[1]["cache"] != "hit" || lines[3]["token_ref"] == ref {
		t.Errorf("got token_ref %q %q %q, want eight hex digits, the same for a hit, others for another token", ref, lines[1]["token_ref"], lines[3]["token_ref"])
	}
	for _, key := range []string{"time", "level", "duration_ms"} {
		if first[key] == nil {
			t.Errorf("got a line without %s, want one", key)
		}
	}
	// L02: another process makes another one of the same token.
	other := start(t, env{"LOG_LEVEL": "debug", "INTROSPECTION_ENDPOINT": w.as.Endpoint()})
	other.ask(t, "GET /fhir/Patient", good)
	eventually(t, "a line", func() bool { return len(other.logs("request")) > 0 })
	if other.logs("request")[0]["token_ref"] == ref {
		t.Error("got the token_ref of another process, want one of its own")
	}
}

// Section 9: at each level, the lines of that level and above, and on each the same
// members. Only what is nobody's refusal says why.
func TestBlackboxLogFields(t *testing.T) {
	t.Parallel()
	want := strings.Fields("decision duration_ms interaction level method msg peer request_id status time")
	for level, decisions := range map[string][]string{
		"debug": {"allowed", "public", "no_token", "introspection_unavailable", "credential_rejected"},
		"info":  {"no_token", "introspection_unavailable", "credential_rejected"},
		"warn":  {"introspection_unavailable", "credential_rejected"},
		"error": {"credential_rejected"},
	} {
		w := start(t, nil) // tells its addresses; the sidecar that is tried may not say any
		other := leastEnv(t)
		for _, variable := range w.cmd.Env {
			if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "SIDECAR_") {
				other[strings.TrimPrefix(name, "SIDECAR_")] = value
			}
		}
		// The same ports at an address that no other test uses: they stay free.
		data, admin := strings.Replace(w.data, "127.0.0.1", "127.77.0.1", 1), strings.Replace(w.admin, "127.0.0.1", "127.77.0.1", 1)
		other["LOG_LEVEL"], other["LISTEN_ADDRESS"], other["ADMIN_ADDRESS"] = level, data, admin
		c := spawn(t, other, nil)
		c.data, c.admin = data, admin
		eventually(t, "it serves", func() bool {
			a, err := exchangePlain(c.admin, request("GET /readyz", "Connection: close"))
			return err == nil && a.status == 200
		})
		w.as.SetAnswerFor("down", introspectiontest.Respond(500, nil, ""))
		w.as.SetAnswerFor("rejected", introspectiontest.Respond(401, nil, ""))
		for _, header := range []string{good, "X-None: 1", bearer("down"), bearer("rejected")} {
			c.ask(t, "GET /fhir/Patient/1", header)
		}
		c.ask(t, "GET /fhir/metadata")
		if code := c.terminate(t); code != 0 {
			t.Errorf("got exit code %d, want 0", code)
		}
		var got []string
		for _, line := range c.logs("request") {
			got = append(got, fmt.Sprint(line["decision"]))
			unavailable := line["level"] == "WARN" || line["level"] == "ERROR"
			if _, told := line["error"]; told != unavailable {
				t.Errorf("got %v, want an error in it: %t", line, unavailable)
			}
			delete(line, "error")
			// A field without a value is left out.
			withToken := line["decision"] != "public" && line["decision"] != "no_token"
			for key, want := range map[string]bool{"cache": withToken, "token_ref": withToken, "reason": line["decision"] == "no_token"} {
				if _, ok := line[key]; ok != want {
					t.Errorf("%s: field %s: got %t, want %t", line["decision"], key, ok, want)
				}
				delete(line, key)
			}
			if keys := slices.Sorted(maps.Keys(line)); !slices.Equal(keys, want) {
				t.Errorf("members %q, want %q", keys, want)
			}
		}
		slices.Sort(got)
		slices.Sort(decisions)
		if !slices.Equal(got, decisions) {
			t.Errorf("%s: lines for %q, want %q", level, got, decisions)
		}
	}
}
