package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const adminToken = "a-token-of-an-admin"

// purging is a sidecar with an admin token and tokens to forget.
type purging struct {
	*sidecar
	as   *introspectiontest.Server
	file string
	log  *introspectiontest.Log
}

func newPurging(t *testing.T, pairs ...string) *purging {
	t.Helper()
	noLeaks(t)
	p := &purging{as: introspectiontest.NewServer(t), file: filepath.Join(t.TempDir(), "admin"), log: &introspectiontest.Log{}}
	put(t, p.file, adminToken+"\n", time.Hour)
	for name, patient := range map[string]string{"one": "1", "two": "2"} {
		claims := p.as.Claims()
		claims["sub"], claims["patient"] = name, patient
		p.as.AddToken(name, claims)
	}
	p.sidecar = assembleLogging(t, slog.New(slog.NewJSONHandler(p.log, nil)), p.as, answerOK,
		append([]string{"SIDECAR_ADMIN_TOKEN_FILE", p.file, "SIDECAR_HEADERS", "intent"}, pairs...)...)
	return p
}

// fill asks about all tokens, so that each has a verdict; dead has an inactive one.
func (p *purging) fill(t *testing.T) {
	t.Helper()
	for _, name := range []string{"one", "two", "dead"} {
		_, _ = p.cache.Introspect(t.Context(), introspection.Request{Token: name})
	}
}

// forgotten tells which of the verdicts are gone.
func (p *purging) forgotten(t *testing.T) (names []string) {
	t.Helper()
	for _, name := range []string{"one", "two", "dead"} {
		before := p.as.Introspections()
		_, _ = p.cache.Introspect(t.Context(), introspection.Request{Token: name})
		if p.as.Introspections() != before {
			names = append(names, name)
		}
	}
	return names
}

// call makes an admin call, with these Authorization headers.
func (p *purging) call(method, target, body string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	w := httptest.NewRecorder()
	p.adminServer().Handler.ServeHTTP(w, r)
	return w
}

func hexDigest(token string) string {
	digest := sha256.Sum256([]byte(token))
	return hex.EncodeToString(digest[:])
}

func TestPurgeFilters(t *testing.T) {
	p := newPurging(t)
	const all, query, zeros = "one two dead", "/cache?", "0000000000000000000000000000000000000000000000000000000000000000"
	for _, tt := range []struct {
		target, body string
		status       int
		gone         string
	}{
		{"/cache", "", 200, all},
		{query + "token_sha256=" + hexDigest("one"), "", 200, "one"},
		{query + "token_sha256=" + strings.ToUpper(hexDigest("dead")), "", 200, "dead"},
		{query + "token_sha256=" + hexDigest("other"), "", 200, ""},
		{query + "token_sha256=" + zeros, "", 200, ""},
		{query + "sub=two", "", 200, "two"},
		{query + "client_id=module-7", "", 200, "one two"},
		{query + "patient=1", "", 200, "one"},
		{query + "patient=Patient/2", "", 200, "two"},
		{query + "patient=Patient%2F2", "", 200, "two"},
		{query + "sub=one&patient=1", "", 200, "one"},
		{query + "sub=one&patient=2", "", 200, ""},
		{query + "sub=one&token_sha256=" + hexDigest("two"), "", 200, ""},

		// A filter that says nothing, or isn't understood, must not select everything.
		{"/cache?", "", 400, ""},
		{query + "&", "", 400, ""},
		{query + "&&", "", 400, ""},
		{query + "sub=", "", 400, ""},
		{query + "sub", "", 400, ""},
		{query + "patient=", "", 400, ""},
		{query + "patient=Patient/", "", 400, ""},
		{query + "token_sha256=", "", 400, ""},
		{query + "token_sha256=" + zeros[1:], "", 400, ""},
		{query + "token_sha256=" + zeros + "00", "", 400, ""},
		{query + "token_sha256=" + strings.Repeat("z", 64), "", 400, ""},
		{query + "token_sha256=one", "", 400, ""},
		{query + "subject=one", "", 400, ""},
		{query + "Sub=one", "", 400, ""},
		{query + "sub=one&user=x", "", 400, ""},
		{query + "sub=one&sub=two", "", 400, ""},
		{query + "sub=one;patient=1", "", 400, ""},
		{query + "sub=%zz", "", 400, ""},
		{query + "=", "", 400, ""},
		{"/cache", "sub=one", 400, ""},
		{query + "sub=one", "{}", 400, ""},
	} {
		p.fill(t)
		w := p.call(http.MethodDelete, tt.target, tt.body, "Bearer "+adminToken)
		if w.Code != tt.status || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %q: got %d %v, want %d and JSON", tt.target, tt.body, w.Code, w.Header(), tt.status)
		}
		if got := strings.Join(p.forgotten(t), " "); got != tt.gone {
			t.Errorf("%s %q: forgot %q, want %q", tt.target, tt.body, got, tt.gone)
		}
		var answer map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || len(answer) != 1 {
			t.Fatalf("%s: got %s (%v), want JSON with one member", tt.target, w.Body, err)
		}
		if purged := float64(len(strings.Fields(tt.gone))); tt.status == 200 && answer["purged"] != purged {
			t.Errorf("%s: answer %s, want %v", tt.target, w.Body, purged)
		} else if tt.status == 400 && answer["error"] == nil {
			t.Errorf("%s: got %s, want an error in it", tt.target, w.Body)
		}
	}
	if strings.Contains(p.log.String(), `"sub"`) || strings.Contains(p.log.String(), hexDigest("one")) {
		t.Errorf("got log %s, want nothing of the filters", p.log)
	}
}

func TestPurgeNeedsAdmin(t *testing.T) {
	p := newPurging(t)
	p.fill(t)
	refused := 0
	for _, headers := range [][]string{
		nil,
		{""},
		{"Bearer"},
		{"Bearer "},
		{"Bearer wrong"},
		{"Bearer " + adminToken + "x"},
		{"Bearer " + adminToken[1:]},
		{"Bearer " + strings.ToUpper(adminToken)},
		{"Bearer " + introspectiontest.DefaultBearer},
		{"Bearer " + adminToken + " " + adminToken},
		{"Basic " + adminToken},
		{"Bearer\t" + adminToken},
		{adminToken},
		{"Bearer " + adminToken, "Bearer " + adminToken},
		{"Bearer " + adminToken, "Bearer wrong"},
		{"Bearer wrong", "Bearer " + adminToken},
	} {
		w := p.call(http.MethodDelete, "/cache", "", headers...)
		if w.Code != http.StatusUnauthorized || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") || strings.Contains(w.Body.String(), adminToken) {
			t.Errorf("%q: got %d %v %s, want 401 and a challenge", headers, w.Code, w.Header(), w.Body)
		}
		refused++
	}
	if gone := p.forgotten(t); gone != nil {
		t.Errorf("strangers made it forget %q, want nothing", gone)
	}
	if n := strings.Count(p.log.String(), "cache purge refused"); n != refused || strings.Contains(p.log.String(), "token-of") {
		t.Errorf("got %d refusals logged, want %d and no token:\n%s", n, refused, p.log)
	}
	for _, header := range []string{"Bearer " + adminToken, "bearer " + adminToken, "BEARER  " + adminToken} {
		if w := p.call(http.MethodDelete, "/cache?sub=nobody", "", header); w.Code != http.StatusOK {
			t.Errorf("%q: got %d, want 200", header, w.Code)
		}
	}
}

func TestPurgeMethods(t *testing.T) {
	p := newPurging(t)
	p.fill(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "PURGE"} {
		w := p.call(method, "/cache", "", "Bearer "+adminToken)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "DELETE" {
			t.Errorf("%s: got %d, Allow %q, want 405 and DELETE", method, w.Code, w.Header().Get("Allow"))
		}
	}
	for _, target := range []string{"/cache/", "/Cache", "/cache/all", "/caches"} {
		if w := p.call(http.MethodDelete, target, "", "Bearer "+adminToken); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", target, w.Code)
		}
	}
	if gone := p.forgotten(t); gone != nil {
		t.Errorf("forgot %q, want nothing", gone)
	}
	off := assemble(t, introspectiontest.NewServer(t), answerOK)
	for _, method := range []string{"DELETE", "GET", "POST"} {
		if w := off.admin(method, "/cache"); w.Code != http.StatusNotFound {
			t.Errorf("%s without an admin token: got %d, want 404", method, w.Code)
		}
	}
	// What changes something is not on the data port.
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodDelete, "/cache", nil)
	r.Header.Set("Authorization", "Bearer "+adminToken)
	if p.dataServer(100).Handler.ServeHTTP(w, r); w.Code != http.StatusNotFound {
		t.Errorf("on the data port: got %d, want 404", w.Code)
	}
}

// TestPurgeTokenRotation: the file is read again when it changes, and one that
// became useless makes nobody an admin.
func TestPurgeTokenRotation(t *testing.T) {
	p := newPurging(t)
	const next = "the-token-after-it"
	admin := func(token string) bool {
		return p.call(http.MethodDelete, "/cache", "", "Bearer "+token).Code == http.StatusOK
	}
	if !admin(adminToken) || admin(next) {
		t.Error("before the rotation: got the new token or not the old one, want the old one only")
	}
	swap(t, p.file, next, time.Minute)
	if admin(adminToken) || !admin(next) {
		t.Error("after the rotation: got the old token or not the new one, want the new one only")
	}
	for _, useless := range []string{"", "\n", "two words of some length", "two\nlines-of-some-length", "\u00e9ccents-of-some-length"} {
		swap(t, p.file, useless, time.Minute)
		told := strings.Count(p.log.String(), "admin requests are rejected")
		if admin(next) || admin(useless) || admin("") {
			t.Errorf("got an admin with %q in the file, want none", useless)
		}
		if strings.Count(p.log.String(), "admin requests are rejected") == told {
			t.Errorf("the log doesn't say why nobody is an admin, want it to, with %q in the file", useless)
		}
	}
}

func TestPurgeTokenFaults(t *testing.T) {
	const wantToken = "must hold one token, of visible ASCII characters"
	for content, want := range map[string]string{
		"": wantToken, "zx81canary and a blank": wantToken, "zx81canary\x00": wantToken, "zx81canary\u00e9": wantToken, "zx81canary\xff": wantToken,
		"zx81canary": "", strings.Repeat("x", 16): "", "p@ss:w0rd!{}~": "", "\r\n zx81canary \n": "",
	} {
		environ := with(leastSettings(), "SIDECAR_BEARER_TOKEN_FILE", writeFile(t, "token", "token"), "SIDECAR_ADMIN_TOKEN_FILE", writeFile(t, "admin", content))
		sc, faults := build(configure(t, environ), options{logger: discard, stdout: io.Discard})
		if sc != nil {
			sc.cache.Close()
		}
		if got := strings.Join(texts(faults), "\n"); want == "" && got != "" || want != "" && got != "SIDECAR_ADMIN_TOKEN_FILE: "+want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
}

// TestPurgeAudit: who purged what is in the audit log, and who tried to.
func TestPurgeAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	p := newPurging(t, "SIDECAR_AUDIT_LOG", path)
	p.call(http.MethodDelete, "/cache", "", "Bearer wrong")
	p.call(http.MethodDelete, "/cache?subject=x", "", "Bearer "+adminToken)
	p.call(http.MethodDelete, "/cache?sub=s&client_id=c&patient=p", "", "Bearer "+adminToken)
	p.call(http.MethodDelete, "/cache?token_sha256="+hexDigest("one"), "", "Bearer "+adminToken)
	p.call(http.MethodDelete, "/cache", "", "Bearer "+adminToken)
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := p.audit.Run(ended); err != nil {
		t.Fatalf("audit.Run: got error %v, want none", err)
	}
	text := readFile(t, path)
	lines := introspectiontest.AuditLines[auditLine](t, text)
	introspectiontest.InSequence(t, lines, 5)
	for i, want := range []struct {
		status           int
		client, sub, ref string
	}{{401, "", "", ""}, {400, "", "", ""}, {200, "c", "s", ""}, {200, "", "", p.cache.TokenRef("one")}, {200, "", "", ""}} {
		l := lines[i]
		if l.Decision != "cache_purge" || l.Method != "DELETE" || l.Status != want.status || l.ClientID != want.client || l.Subject != want.sub ||
			l.TokenRef != want.ref || l.Peer != "192.0.2.1" || time.Since(l.Time).Abs() > time.Hour {
			t.Errorf("record %+v, want %+v", l, want)
		}
	}
	if strings.Contains(text, adminToken) || strings.Contains(text, hexDigest("one")) {
		t.Errorf("got log %s, want no secret", text)
	}
}
