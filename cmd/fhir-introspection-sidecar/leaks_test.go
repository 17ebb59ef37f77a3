package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Every sidecar that a test starts is watched: no token, credential, query or claim
// that the harness knows of may come out of it where it doesn't belong, in whatever
// coding (L01). What it writes, what the admin listener says, what it refuses and
// the spans it exports are searched when it ends.

// leakWatch is what is known of a sidecar's secrets, and what came out of it.
type leakWatch struct {
	mu      sync.Mutex
	secrets map[string]bool
	sources []func() []string          // of further secrets, asked at the end
	sinks   map[string]map[string]bool // what came out where
	traces  func() string
}

// watched has the listener at each address. It is nobody's, or one of a sidecar.
var watched sync.Map

type listener struct {
	*leakWatch
	sink string // where its responses are kept
}

// listens makes what is sent to and answered at an address known.
func (w *leakWatch) listens(address, sink string) {
	watched.Store(address, listener{w, sink})
}

// end gives the addresses back.
func (w *leakWatch) end() {
	watched.Range(func(address, l any) bool {
		if found, _ := l.(listener); found.leakWatch == w {
			watched.Delete(address)
		}
		return true
	})
}

func listenerAt(address net.Addr) listener {
	found, _ := watched.Load(address.String())
	l, _ := found.(listener)
	return l
}

// keep adds secrets.
func (w *leakWatch) keep(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range secrets {
		w.secrets[secret] = true
	}
}

// sent notes what a request holds that must stay inside.
func (l listener) sent(raw string) {
	w := l.leakWatch
	if w == nil {
		return
	}
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	line, _, _ := strings.Cut(head, "\r\n")
	_, target, _ := strings.Cut(line, " ")
	if _, query, ok := strings.Cut(strings.TrimSuffix(target, " HTTP/1.1"), "?"); ok {
		w.keep(query)
		for pair := range strings.SplitSeq(query, "&") {
			_, value, _ := strings.Cut(pair, "=")
			w.keep(value)
		}
	}
	for field := range strings.SplitSeq(head, "\r\n") {
		name, value, _ := strings.Cut(field, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "authorization", "proxy-authorization":
			w.keep(strings.Fields(value)...)
		case "cookie":
			w.keep(strings.TrimSpace(value))
		}
	}
}

// answered notes a response: all of the admin listener's, and refusals, which can be
// told from what the FHIR server answers.
func (l listener) answered(a *answer) {
	refusal := a.header.Get("X-Content-Type-Options") == "nosniff" && a.header.Get("Cache-Control") == "no-store"
	if l.leakWatch == nil || l.sink == "refusals" && !refusal {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sinks[l.sink] == nil {
		l.sinks[l.sink] = map[string]bool{}
	}
	l.sinks[l.sink][fmt.Sprint(a.header["Www-Authenticate"], a.body)] = true
}

// newLeakWatch knows the files that the environment names: credentials, as they are now
// and at the end.
func newLeakWatch(environ []string) *leakWatch {
	w := &leakWatch{secrets: map[string]bool{}, sinks: map[string]map[string]bool{}, traces: func() string { return "" }}
	files := func() (secrets []string) {
		for _, variable := range environ {
			name, path, _ := strings.Cut(variable, "=")
			if strings.HasSuffix(name, "_TOKEN_FILE") || strings.HasSuffix(name, "_SECRET_FILE") || strings.HasSuffix(name, "_KEY_FILE") {
				text, _ := os.ReadFile(path)
				secrets = append(secrets, secretsIn(text)...)
			}
		}
		return secrets
	}
	w.keep(files()...)
	w.sources = append(w.sources, files)
	for _, variable := range environ {
		if c := collectorIn(variable); strings.HasPrefix(variable, "OTEL_") && c != nil {
			w.traces = c.text
		}
	}
	return w
}

// secretsIn takes a file apart: a JWK has public members, and PEM has lines.
func secretsIn(text []byte) []string {
	var jwk map[string]any
	if json.Unmarshal(text, &jwk) == nil {
		d, _ := jwk["d"].(string)
		return []string{d}
	}
	lines := strings.Split(string(text), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "-----") })
}

// leaks searches everything that came out for everything that is secret. environ is
// no secret: it has the settings, which may be told.
func (c *child) leaks() (found []string) {
	w := c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, source := range w.sources {
		for _, secret := range source() {
			w.secrets[secret] = true
		}
	}
	known := strings.ToLower(strings.Join(slices.DeleteFunc(slices.Clone(c.cmd.Env), func(s string) bool { return strings.Contains(s, "=/") }), "\n"))
	f := newFinder()
	for secret := range w.secrets {
		if isCanary(secret, known) {
			f.look(secret)
		}
	}
	sinks := map[string]string{"stdout": withoutPersons(c.stdout.String()), "stderr": c.stderr.String(), "traces": w.traces()}
	for sink, texts := range w.sinks {
		sinks[sink] = strings.Join(slices.Sorted(maps.Keys(texts)), "\n")
	}
	for sink, text := range sinks {
		for _, leak := range f.find(text) {
			found = append(found, fmt.Sprintf("%s has %s", sink, leak))
		}
	}
	return found
}

// withoutPersons takes out of audit records what stands there on purpose: who asked,
// and for whom. Their issuer is no person.
func withoutPersons(stdout string) string {
	var b strings.Builder
	for line := range strings.Lines(stdout) {
		var record map[string]any
		if json.Unmarshal([]byte(line), &record) == nil && record["log"] == "audit" {
			for _, member := range []string{"client_id", "sub", "user", "patient"} {
				delete(record, member)
			}
			rest, _ := json.Marshal(record)
			line = string(rest) + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// isCanary leaves out what can't be told from the program's own words: ordinary
// short words, what could be a number, a time or an id, and the settings.
func isCanary(secret, known string) bool {
	lower := strings.ToLower(secret)
	distinct := len(lower) >= 4 && strings.Trim(lower, "0123456789abcdef-") != "" || len(lower) >= 12
	return distinct && !strings.Contains(known, lower) && !strings.Contains(vocabulary(), lower)
}

// vocabulary is what the program may say by itself: the text of its source, and of
// the metrics of the Go runtime.
var vocabulary = sync.OnceValue(func() string {
	var b bytes.Buffer
	_ = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			text, _ := os.ReadFile(name)
			b.Write(text)
		}
		return nil
	})
	runtime := prometheus.NewRegistry()
	runtime.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, _ := runtime.Gather()
	fmt.Fprint(&b, families)
	return strings.ToLower(b.String())
})

// TestLeakAudit (L01): an audit record may name persons in four members, and nothing else.
func TestLeakAudit(t *testing.T) {
	f := newFinder()
	f.look("Practitioner/secret")
	for line, want := range map[string]int{
		`{"log":"audit","user":"Practitioner/secret","sub":"Practitioner/secret","client_id":"Practitioner/secret","patient":"Practitioner/secret"}`: 0,
		`{"log":"audit","user":"Practitioner/secret","type":"Practitioner/secret"}`:                                                                  1,
		`{"msg":"request","user":"Practitioner/secret"}`:                                                                                             1,
	} {
		if found := f.find(withoutPersons(line + "\n")); len(found) != want {
			t.Errorf("%s: found %q, want %d leaks", line, found, want)
		}
	}
}

// TestBlackboxLeakIsFound (L01) plants one: the request id is logged, so a token that is
// sent as one comes out, as it is and coded.
func TestBlackboxLeakIsFound(t *testing.T) {
	t.Parallel()
	const token = "planted-token-7"
	for coding, id := range map[string]string{
		"plain": token, "hex": hex.EncodeToString([]byte(token)), "base64 2": base64.RawURLEncoding.EncodeToString([]byte("xx" + token)),
	} {
		w := start(t, nil)
		w.leaky = true
		w.as.AddToken(token, map[string]any{"sub": "planted-person"})
		w.ask(t, "GET /fhir/Patient", bearer(token)).is(t, 200)
		if found := w.leaks(); found != nil {
			t.Errorf("found %q before anything was planted, want nothing", found)
		}
		w.ask(t, "GET /fhir/Patient", bearer(token), "X-Request-Id: "+id).is(t, 200)
		w.terminate(t)
		if found := w.leaks(); len(found) != 1 || !strings.Contains(found[0], "stdout has \""+token+"\" ("+coding+")") {
			t.Errorf("%s: found %q, want what was planted, on stdout", coding, found)
		}
	}
	// What was sent alone, without being known to the authorization server.
	w := start(t, nil)
	w.leaky = true
	w.ask(t, "GET /fhir/Patient?name=planted-name", bearer("planted.nobody"), "X-Request-Id: planted-name", "X-Trace-Id: planted.nobody").is(t, 401)
	w.terminate(t)
	if found := strings.Join(w.leaks(), "\n"); !strings.Contains(found, "planted-name") || !strings.Contains(found, "planted.nobody") {
		t.Errorf("found %s, want the name and the token that were planted", found)
	}
}
