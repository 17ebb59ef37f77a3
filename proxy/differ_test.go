package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

// seen is what comes of a request: at the FHIR server, at the client, and in the
// count of requests.
type seen struct {
	upstream string
	client   string
	decision string
}

var (
	dates       = regexp.MustCompile(`Date: [^\r]*\r\n`)
	emptyStream = regexp.MustCompile(`"Transfer-Encoding: chunked".*\] "(0\\r\\n.*)?"$`)
)

// exchanged sends the bytes and returns what came of them.
func (s *stack) exchanged(raw, answer string, ends bool) (o seen) {
	s.Helper()
	s.upstream.answer = func(conn net.Conn, _ *received) bool {
		_, err := io.WriteString(conn, answer)
		return err == nil && !ends
	}
	c := s.dial()
	c.send(raw)
	s.wait(1) // or the end of what the client sends would be the end of the request
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	client, err := io.ReadAll(c.r)
	if isTimeout(err) {
		s.Fatal("connection stays open")
	}
	r := s.upstream.got()
	fields := slices.Clone(r.fields)
	for i := range fields {
		fields[i][0] = http.CanonicalHeaderKey(fields[i][0])
	}
	slices.SortFunc(fields, func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) })
	o.upstream = strings.ReplaceAll(fmt.Sprintf("%s %q %q", r.line, fields, r.body), s.upstream.Addr().String(), "upstream")
	head, body, _ := strings.Cut(dates.ReplaceAllString(string(client), ""), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	for i, line := range lines {
		if name, value, ok := strings.Cut(line, ": "); ok {
			lines[i] = http.CanonicalHeaderKey(name) + ": " + value
		}
	}
	o.client = fmt.Sprintf("%q %q", slices.Sorted(slices.Values(lines)), body)
	for _, d := range decisions {
		for class := range statusClasses {
			if n := s.counted(d, (class+1)*100); n > 0 && !strings.Contains(o.decision, d.label) {
				o.decision += fmt.Sprint(d.label, " ", class+1, "xx ", n)
			}
		}
	}
	return o
}

// TestPlainIsAsUsual finds that what is there for speed only makes the same of a
// request and of whatever the FHIR server says as what it stands for: the
// forwarder, as httputil.ReverseProxy; and package fastpath, as http.Server.
func TestPlainIsAsUsual(t *testing.T) {
	compare := func(t *testing.T, raw, answer string, ends bool, options ...func(*Config)) {
		t.Helper()
		plain := newStack(t, options...)
		usual := newStackBehind(t, withOracle, options...)
		usual.proxy.forwarder.hop, usual.proxy.router.hop = plain.proxy.forwarder.hop, plain.proxy.router.hop
		got, want := plain.exchanged(raw, answer, ends), usual.exchanged(raw, answer, ends)
		if emptyStream.MatchString(got.client) {
			// ReverseProxy sends the head of a stream from a goroutine of its own,
			// which may be later than the end.
			got.client, want.client = "", ""
		}
		if got != want {
			t.Errorf("got:\n%+v\nwant:\n%+v", got, want)
		}
	}
	plain := func(method, target string, fields ...string) string {
		return message(method, target, "", append(fields, bearerTOK, "X-Request-Id: r-1")...)
	}
	const other = "Content-Length: 2\r\n\r\n{}"
	answers := append(rawAnswers(),
		rawAnswer{name: "hop by hop", raw: "HTTP/1.1 200 OK\r\nConnection: X-A , x-b\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\nKeep-Alive: timeout=5\r\n" +
			"Proxy-Connection: x\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTE: trailers\r\n" + other},
		rawAnswer{name: "family", raw: "HTTP/1.1 200 OK\r\nX-Launch-Patient: 1\r\nX_launch_user: 2\r\n" + other},
		rawAnswer{name: "family in trailer", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Launch-Patient\r\n\r\n" +
			"2\r\n{}\r\n0\r\nX-Launch-Patient: 1\r\nX-Launch-User: 2\r\nX-A: 3\r\n\r\n"},
		rawAnswer{name: "event stream", raw: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"},
		rawAnswer{name: "own names", raw: "HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\nX-Request-Id: z\r\n" + other},
	)
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			method := http.MethodGet
			if tt.head {
				method = http.MethodHead
			}
			compare(t, plain(method, "/fhir/Patient/1"), tt.raw, tt.ends)
		})
	}
	trusted := func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	stripped := func(c *Config) { c.StripAuthorization = true }
	for name, tt := range map[string]struct {
		raw     string
		options []func(*Config)
	}{
		"public":                 {message("GET", "/fhir/metadata", "", "X-Request-Id: r-1", "Connection: close"), nil},
		"query":                  {plain("GET", "/fhir/Patient?a=1;b=2&c=%zz"), nil},
		"empty query":            {plain("GET", "/fhir/Patient?"), nil},
		"many fields":            {plain("GET", "/fhir/Patient/1", append(spoofed(), "Accept: a", "accept: b", "If-None-Match: \"1\"", "X-A:", "Cookie: a=b")...), nil},
		"nominated":              {plain("GET", "/fhir/Patient/1", "Connection: X-Launch-Patient, X-A,, Authorization, X-Request-Id, X-Forwarded-For, User-Agent", "X-A: 1", "User-Agent: u"), nil},
		"hop by hop":             {plain("GET", "/fhir/Patient/1", "Keep-Alive: 5", "Proxy-Connection: x", "Proxy-Authorization: y", "Trailer: X-A", "Upgrade: h2c"), nil},
		"takes trailers":         {plain("GET", "/fhir/Patient/1", "TE: trailers"), nil},
		"no user agent":          {plain("GET", "/fhir/Patient/1", "User-Agent:"), nil},
		"forwarded":              {plain("GET", "/fhir/Patient/1", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Forwarded-Host: h", "X-Real-Ip: 1.2.3.4", "Via: v"), nil},
		"trusted":                {plain("GET", "/fhir/Patient/1", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1", "X_Forwarded_For: 5", "Via: v"), []func(*Config){trusted}},
		"trusted and nominated":  {plain("GET", "/fhir/Patient/1", "X-Forwarded-For: 1.2.3.4", "Connection: X-Forwarded-For"), []func(*Config){trusted}},
		"authorization stripped": {plain("GET", "/fhir/Patient/1"), []func(*Config){stripped}},
		"OPTIONS":                {plain("OPTIONS", "/fhir/Patient"), nil},
		"1.0":                    {"GET /fhir/Patient/1 HTTP/1.0\r\nX-Request-Id: r-1\r\n" + bearerTOK + "\r\n\r\n", nil},
		"no length":              {plain("GET", "/fhir/Patient/1", "Content-Length: 0"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compare(t, tt.raw, "HTTP/1.1 200 OK\r\n"+other, false, tt.options...)
		})
	}
}

// TestNoContent finds that 204 has no length, whatever the FHIR server says: net/http
// sees to that in HTTP/1 only.
func TestNoContent(t *testing.T) {
	s := newStack(t)
	s.upstream.writes("HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n")
	w := httptest.NewRecorder()
	s.proxy.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/fhir/metadata", nil))
	if length := w.Header()["Content-Length"]; w.Code != http.StatusNoContent || length != nil {
		t.Errorf("got status %d with length %q, want 204 without", w.Code, length)
	}
}

// TestRelayKeepsNothing finds that nothing of a request is in the next one.
func TestRelayKeepsNothing(t *testing.T) {
	s := newStack(t)
	s.do(get("/fhir/Patient/1", bearerTOK, "X-Secret: 1", "Connection: close"))
	if got := s.upstream.got().one(t, "X-Secret"); got != "1" {
		t.Errorf("got X-Secret %q, want 1", got)
	}
	s.do(get("/fhir/metadata", "Connection: close"))
	r := s.upstream.got()
	if fields := append(r.family(), slices.Concat(r.all("X-Secret"), r.all("Authorization"))...); len(fields) > 0 {
		t.Errorf("got %q of the last request, want nothing", fields)
	}
	if b, ok := s.proxy.forwarder.buffers.Get().(*buffer); ok && *b != (buffer{}) {
		t.Errorf("got %q in the pool, want nothing", bytes.Trim(b.bytes[:], "\x00"))
	}
}

// TestExchangeForgets finds that nothing of an exchange is in memory that others get, and
// that those get none of an exchange with a body, which may be read longer.
func TestExchangeForgets(t *testing.T) {
	p := newStack(t).proxy
	for length, again := range map[int64]bool{0: true, 2: false, wire.Chunked: false} {
		in := &wire.Request{Method: "GET", Target: "/fhir/Patient/1?a", Host: "h", Length: length, Peer: "192.0.2.1:5", Fields: wire.Fields{
			{Name: "Authorization", Value: "Bearer secret"}, {Name: "Accept", Value: "b"}, {Name: "X-Request-Id", Value: "c"},
		}}
		x := newExchange(&standard{}, in, protocol{closes: true}, nil, &p.draining)
		x.token, x.verdict.Lookup, x.response.Status = "secret", "hit", 200
		x.begin().Add("X-Secret", "secret")
		x.end()
		if empty := reflect.ValueOf(x).Elem().IsZero(); empty != again {
			t.Errorf("length %d: got memory cleared for others: %t, want %t", length, empty, again)
		}
		if y := exchanges.Get(); !again && y == x {
			t.Errorf("length %d: another exchange got the memory, want none to", length)
		}
	}
}
