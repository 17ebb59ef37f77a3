package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// tokenSeparators are the characters of a field name (RFC 9110 §5.6.2) that
// aren't alphanumeric.
const tokenSeparators = "!#$%&'*+-.^_`|~"

// TestContextHeadersFor: each once, in the order in which they get room.
func TestContextHeadersFor(t *testing.T) {
	headers, err := ContextHeadersFor([]string{"azp", "scope", "fhirUser", "scope"})
	var got []string
	for _, header := range headers {
		got = append(got, header.Suffix)
	}
	if want := []string{"User", "Client-Id", "Scope"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v and error %v, want %v and none", got, err, want)
	}
	for _, claims := range [][]string{{"Patient"}, {"patient", "token_type"}, {""}} {
		if headers, err := ContextHeadersFor(claims); err == nil || headers != nil {
			t.Errorf("%v: got %v and error %v, want none and an error", claims, headers, err)
		}
	}
}

// TestEveryClaimHasItsNames: what settings call a header's claim is what they call the
// claim elsewhere.
func TestEveryClaimHasItsNames(t *testing.T) {
	for _, header := range ContextHeaders() {
		for _, name := range header.Names {
			if claim, known := introspection.ClaimNamed(name); !known || claim != header.Claim {
				t.Errorf("%s: got claim %v of the name %q, want %v", header.Suffix, claim, name, header.Claim)
			}
		}
	}
}

// B23: no prefix takes in a header with a meaning of its own.
func TestCheckHeaderPrefix(t *testing.T) {
	for _, prefix := range []string{"X-Launch-", "x-launch-", "X-Authorization-", "X-Forwarded-Launch-", "A1-", "Sec-Launch-", "Content-Launch-", "Launch-"} {
		if err := CheckHeaderPrefix(prefix); err != nil {
			t.Errorf("%q: got error %v, want none", prefix, err)
		}
	}
	for _, prefix := range []string{
		"", "-", "X-", "x-", "X-Launch", "X_Launch-", "X--Launch-", "-X-", "1-", "X-Lä-", "X Launch-", "X-Launch-\r\n",
		"Content-", "Accept-", "X-Forwarded-", "X-Request-", "If-", "Transfer-", "Proxy-", "WWW-", "User-", "Access-Control-",
		"Access-Control-Request-", "Sec-", "Sec-Fetch-", "Strict-", "Strict-Transport-", "Content-Security-", "X-Content-", "X-Frame-",
		"Referrer-", "Permissions-", "Cross-Origin-", "Clear-Site-", "Server-", "Alt-", "Max-", "Idempotency-",
	} {
		if CheckHeaderPrefix(prefix) == nil {
			t.Errorf("%q: got no error, want one", prefix)
		}
	}
}

func TestFamilyHas(t *testing.T) {
	f, err := newNamespace("x-launch-")
	if err != nil {
		t.Fatalf("newNamespace: got error %v, want none", err)
	}
	if f.prefix != "X-Launch-" {
		t.Errorf("got prefix %q, want X-Launch-", f.prefix)
	}
	for _, c := range tokenSeparators {
		for _, name := range []string{"X%sLaunch%sPatient", "x%slaunch%spatient", "X%sLAUNCH%s", "X%sLaunch%sAnything-At-All"} {
			name = fmt.Sprintf(name, string(c), string(c))
			if !f.has(name) {
				t.Errorf("has(%q): got false, want true", name)
			}
		}
	}
	for _, name := range []string{"X-Launch", "XLaunchPatient", "X-Launcher-X", "A-X-Launch-Patient", "X-Launc-", "", "X"} {
		if f.has(name) {
			t.Errorf("has(%q): got true, want false", name)
		}
	}
}

// foldReference is the rule of the contract, written out.
func foldReference(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		}
		return '-'
	}, name)
}

// FuzzFold holds that no name survives strip that folds into the family or
// names a header by which the request could become another one, and that
// nothing else is lost.
func FuzzFold(f *testing.F) {
	for _, c := range tokenSeparators {
		for _, name := range []string{"X-Launch-Patient", "X-Forwarded-For", "X-Http-Method-Override", "X-Original-Url", "Via", "Proxy", "X-Real-Ip"} {
			f.Add(strings.ReplaceAll(name, "-", string(c)), "Accept", false)
		}
	}
	f.Add("X-LAUNCH_x", "x.forwarded-proto", true)
	f.Add("Forwarded", "forwarded", true)
	f.Add("x-launch-", "X-Launch", true)
	p, err := New(unitConfig(introspectorFunc(nil)))
	if err != nil {
		f.Fatalf("New: got error %v, want none", err)
	}
	f.Fuzz(func(t *testing.T, first, second string, trusted bool) {
		if !isFieldName(first) || !isFieldName(second) {
			return
		}
		before := wire.Fields{{Name: first, Value: "evil"}, {Name: http.CanonicalHeaderKey(first), Value: "evil"}, {Name: second, Value: "evil"}, {Name: "Accept-Language", Value: "nl"}}
		q := &request{peerTrusted: trusted, fields: slices.Clone(before)}
		p.stripper.strip(q)
		for _, field := range before {
			name := field.Name
			folded := foldReference(name)
			forwarding := strings.HasPrefix(folded, "x-forwarded-") || folded == "forwarded" || folded == "via" || folded == "x-real-ip"
			gone := strings.HasPrefix(folded, "x-launch-") || field.Is("upgrade") || field.Is("http2-settings") ||
				forwarding && (!trusted || strings.ToLower(name) != folded)
			for _, removed := range []string{
				"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-original-uri",
				"x-original-method", "x-rewrite-url", "proxy",
			} {
				gone = gone || folded == removed
			}
			if survives := slices.Contains(q.fields, field); survives == gone {
				t.Errorf("%q (trusted peer: %t): survives: %t, want %t", name, trusted, survives, !gone)
			}
		}
	})
}

func isFieldName(s string) bool {
	for i := range len(s) {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// unitConfig is a configuration without anything that has to be ended.
func unitConfig(verdicts introspection.Introspector) Config {
	return Config{
		Upstream:     &url.URL{Scheme: "http", Host: "127.0.0.1:1", Path: "/fhir"},
		Introspector: verdicts, TokenRef: func(string) string { return "0badcafe" },
		MaxTokenBytes: 64, Headers: ContextHeaders(), HeaderPrefix: "X-Launch-",
	}
}

// injected runs Rewrite alone and returns the context headers it sets.
func injected(t *testing.T, p *Proxy, response *introspection.Response) map[string]string {
	t.Helper()
	x := &exchange{ctx: t.Context(), verdict: introspection.Verdict{Response: response}, authorized: true}
	x.method, x.host, x.target = http.MethodGet, "fhir.test", parseTarget("/fhir")
	var out wire.Builder
	p.forwarder.writeHead(&out, x)
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out.Bytes)))
	if err != nil || out.Err != nil {
		t.Fatalf("got head %q, %v, %v, want one of a request", out.Bytes, err, out.Err)
	}
	headers := map[string]string{}
	for name, values := range r.Header {
		if suffix, ok := strings.CutPrefix(name, "X-Launch-"); ok {
			if len(values) != 1 || values[0] == "" {
				t.Errorf("got %s with values %q, want one", name, values)
			}
			headers[suffix] = values[0]
		}
	}
	return headers
}

func TestContextHeaders(t *testing.T) {
	tests := []struct {
		name, answer string
		want         map[string]string
		omitted      map[string]int // header and reason
	}{
		{name: "nothing", answer: `{"active":true}`, want: map[string]string{}},
		{
			name: "all",
			answer: `{"active":true,"patient":"Patient/1","encounter":"e.1","user":"old","fhirUser":"Practitioner/2","sub":"s","iss":"i",` +
				`"azp":"z","exp":4102444800.9,"intent":"order","tenant":"t","username":"u","jti":"j","resource":"Task/1","definition":"AD/1",` +
				`"aud":["a","b\"c"],"fhirContext":["Task/1",{"reference":"Task/2","role":"r"}],"scope":["x","y/z"]}`,
			want: map[string]string{
				"Patient": "1", "Encounter": "e.1", "User": "Practitioner/2", "Subject": "s", "Issuer": "i", "Client-Id": "z",
				"Expires": "4102444800", "Intent": "order", "Tenant": "t", "Username": "u", "Token-Id": "j", "Resource": "Task/1",
				"Definition": "AD/1", "Audience": `["a","b\"c"]`, "Scope": "x y/z",
				"Fhir-Context": `[{"reference":"Task/1"},{"reference":"Task/2","role":"r"}]`,
			},
		},
		{
			name: "encoding", answer: `{"active":true,"username":"Jan Süß","intent":" lead","tenant":"100%","sub":"trail ","jti":"\u202e","iss":"a\"b\\c","aud":"é"}`,
			want: map[string]string{
				"Username": "Jan S%C3%BC%C3%9F", "Intent": "%20lead", "Tenant": "100%25", "Subject": "trail%20", "Token-Id": "%E2%80%AE",
				"Issuer": `a"b\c`, "Audience": `["\u00e9"]`,
			},
		},
		{name: "empty strings", answer: `{"active":true,"patient":"","sub":"","scope":"","aud":[],"fhirContext":[]}`, want: map[string]string{}},
		{
			name: "unusable", answer: `{"active":true,"patient":"Practitioner/1","encounter":"a b","fhirContext":["Task/1",7]}`,
			want:    map[string]string{"Fhir-Context": `[{"reference":"Task/1"}]`},
			omitted: map[string]int{"X-Launch-Patient invalid": 1, "X-Launch-Encounter invalid": 1, "X-Launch-Fhir-Context invalid": 1},
		},
		{
			name: "scope of 4 KiB", answer: `{"active":true,"scope":"` + strings.Repeat("s", maxScopeBytes) + `"}`,
			want: map[string]string{"Scope": strings.Repeat("s", maxScopeBytes)},
		},
		{
			name: "scope above 4 KiB", answer: `{"active":true,"sub":"s","scope":"` + strings.Repeat("s", maxScopeBytes+1) + `"}`,
			want: map[string]string{"Subject": "s"}, omitted: map[string]int{"X-Launch-Scope too_large": 1},
		},
		{
			name: "scope above 4 KiB once encoded", answer: `{"active":true,"scope":"` + strings.Repeat("é", 1000) + `"}`,
			want: map[string]string{}, omitted: map[string]int{"X-Launch-Scope too_large": 1},
		},
		{
			name: "no room", answer: `{"active":true,"patient":"1","sub":"` + strings.Repeat("s", 6000) + `","intent":"` + strings.Repeat("i", 200) + `","tenant":"t"}`,
			want:    map[string]string{"Patient": "1", "Subject": strings.Repeat("s", 6000), "Tenant": "t"},
			omitted: map[string]int{"X-Launch-Intent no_room": 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := New(unitConfig(introspectorFunc(nil)))
			if err != nil {
				t.Fatalf("New: got error %v, want none", err)
			}
			got := injected(t, p, decode(t, tt.answer))
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
			// Every series is there from the start; only the named ones are above zero.
			before := testutil.CollectAndCount(p.context.omitted)
			for i, header := range p.context.headers {
				for _, reason := range header.omittedFor() {
					name := p.context.names[i]
					if got := testutil.ToFloat64(p.context.omitted.WithLabelValues(name, reason)); int(got) != tt.omitted[name+" "+reason] {
						t.Errorf("omitted %s %s: got %v, want %d", name, reason, got, tt.omitted[name+" "+reason])
					}
				}
			}
			for label := range tt.omitted {
				header, reason, _ := strings.Cut(label, " ")
				p.context.omitted.WithLabelValues(header, reason)
			}
			if after := testutil.CollectAndCount(p.context.omitted); after != before {
				t.Errorf("series of omitted headers: got %d, want %d", after, before)
			}
		})
	}
}

// TestContextRoom finds that the limit holds for the bytes on the wire, up to
// the last one.
func TestContextRoom(t *testing.T) {
	p, err := New(unitConfig(introspectorFunc(nil)))
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	const overhead = len("X-Launch-Subject: \r\n")
	for _, n := range []int{maxContextBytes - overhead - 1, maxContextBytes - overhead} {
		got := injected(t, p, decode(t, `{"active":true,"sub":"`+strings.Repeat("s", n)+`"}`))
		if set, want := got["Subject"] != "", n+overhead < maxContextBytes; set != want {
			t.Errorf("%d bytes: got set %t, want %t", n+overhead, set, want)
		}
	}
}

func TestContextHeadersIsACopy(t *testing.T) {
	headers := ContextHeaders()
	headers[0].Suffix = "Other"
	if ContextHeaders()[0].Suffix != "Patient" {
		t.Error("got a table that a caller has changed, want a copy")
	}
}

// FuzzPercentEncode holds that a claim can be had back from its header, and
// that nothing between here and the FHIR server would change or refuse it.
func FuzzPercentEncode(f *testing.F) {
	for _, s := range []string{"a", " a", "a ", " ", "%", "%41", "é", "\x00", "\r\n", "a\tb", "\x7f", "\u202e", "\xff", "a  b", "~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return // an absent claim has no header
		}
		got := percentEncode(s)
		if back, err := url.PathUnescape(got); err != nil || back != s {
			t.Errorf("got %q (%v) back, want %q", back, err, s)
		}
		if got == "" || strings.TrimSpace(got) != got {
			t.Errorf("got %q, want nothing that HTTP trims", got)
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Errorf("got %q, want printable ASCII", got)
			}
		}
	})
}

// FuzzContextHeaders holds that the FHIR server can have every claim back from its
// header as it stood in the response, or doesn't get it at all.
func FuzzContextHeaders(f *testing.F) {
	for _, text := range []string{"a", " a ", "100%", "%41", "é", "日本", "\u202e", "😀", "a,b;c=\"d\"", "\ufffd", "Patient/1"} {
		f.Add(text, `["Task/1"]`)
	}
	for _, context := range []string{
		`{"reference":"Task/1"}`, `[{"reference":"Task/2","x":[1.50,null,{"y":"é"}]},"Task/1"]`, `"Task/1"`, `"[\"Task/1\"]"`, `[5,"",null,[]]`, `[{"a":1e400}]`,
		`[{"a":"\u2028","b":true}]`, `"{\"a\":{}}"`, `[]`, `{}`,
	} {
		f.Add("a", context)
	}
	p, err := New(unitConfig(introspectorFunc(nil)))
	if err != nil {
		f.Fatalf("New: got error %v, want none", err)
	}
	f.Fuzz(func(t *testing.T, text, fhirContext string) {
		claims := map[string]any{"active": true}
		for _, name := range []string{"sub", "iss", "client_id", "intent", "tenant", "username", "jti", "resource", "definition", "user", "patient"} {
			claims[name] = text
		}
		if json.Valid([]byte(fhirContext)) {
			claims["fhirContext"] = json.RawMessage(fhirContext)
		}
		body, err := json.Marshal(claims)
		if err != nil || !utf8.ValidString(text) {
			return
		}
		response, err := introspectiontest.Decode(body, allClaims(), time.Unix(0, 0))
		if err != nil {
			return // malformed, and so no verdict
		}
		for suffix, value := range injected(t, p, response) {
			if strings.Trim(value, " ") != value || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%s: got %q, want printable ASCII without spaces at its ends", suffix, value)
			}
			back, err := url.PathUnescape(value)
			switch suffix {
			case "Fhir-Context":
				if want := contextItems([]byte(fhirContext)); !reflect.DeepEqual(decodeItems(t, value), want) {
					t.Errorf("%s: got %s, want the same items", fhirContext, value)
				}
			case "Patient":
				if back != strings.TrimPrefix(text, "Patient/") {
					t.Errorf("got patient %q, want that of %q", value, text)
				}
			default:
				if err != nil || back != text {
					t.Errorf("got %s %q (%v), want what decodes to %q", suffix, value, err, text)
				}
			}
		}
	})
}

func decodeItems(t *testing.T, list string) (items []any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(list))
	decoder.UseNumber()
	if err := decoder.Decode(&items); err != nil {
		t.Errorf("%s: got error %v, want JSON", list, err)
	}
	return items
}

// contextItems is the contract's fhirContext: one or a list, of objects or of
// strings that are references; all of it may stand in a string.
func contextItems(raw []byte) (items []any) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return nil
	}
	if text, ok := value.(string); ok {
		if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "[") || strings.HasPrefix(trimmed, "{") {
			return contextItems([]byte(trimmed))
		}
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, item := range list {
		switch item := item.(type) {
		case string:
			if item != "" {
				items = append(items, map[string]any{"reference": item})
			}
		case map[string]any:
			items = append(items, item)
		}
	}
	return items
}
