package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// family returns the names, folded, of the context headers that arrived.
func (r *received) family() (names []string) {
	for _, field := range r.fields {
		if strings.HasPrefix(foldReference(field[0]), "x-launch-") {
			names = append(names, field[0])
		}
	}
	return names
}

func (r *received) checkSeed(t *testing.T) {
	t.Helper()
	if names := r.family(); len(names) != len(seedHeaders) {
		t.Errorf("FHIR server got %q, want %d context headers", names, len(seedHeaders))
	}
	for name, want := range seedHeaders {
		if got := r.one(t, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// spoofed are context headers under all names by which a FHIR server could know
// them.
func spoofed() []string {
	fields := []string{"X-Launch-Patient: evil", "x-launch-patient: evil", "X-LAUNCH-USER: evil", "X-Launch-Other: evil", "X-Launch-: evil"}
	for _, c := range tokenSeparators {
		for _, name := range []string{"X-Launch-Patient: evil", "x-launch-encounter: evil"} {
			fields = append(fields, strings.ReplaceAll(name, "-", string(c)))
		}
		fields = append(fields, "X-Launch"+string(c)+"Patient: evil", "X"+string(c)+"Launch-Patient: evil")
	}
	return fields
}

func TestSpoofedHeaders(t *testing.T) {
	s := newStack(t)
	s.verdicts.answers["BARE"] = decode(t, `{"active":true}`)
	fields := spoofed()
	var want float64
	for _, tt := range []struct {
		name, raw string
		seed      bool
	}{
		{"protected", get("/fhir/Patient", append([]string{bearerTOK}, fields...)...), true},
		{"token without claims", get("/fhir/Patient", append([]string{"Authorization: Bearer BARE"}, fields...)...), false},
		{"public", get("/fhir/metadata", fields...), false},
		{"public with a token", get("/fhir/metadata", append([]string{bearerTOK}, fields...)...), false},
		{"preflight", message("OPTIONS", "/fhir/Patient", "", append([]string{"Origin: https://app.test", "Access-Control-Request-Method: GET"}, fields...)...), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := s.do(tt.raw); a.StatusCode != http.StatusOK {
				t.Fatalf("got status %d, want 200", a.StatusCode)
			}
			r := s.upstream.got()
			if tt.seed {
				r.checkSeed(t)
			} else if names := r.family(); len(names) > 0 {
				t.Errorf("FHIR server got %q, want no context headers", names)
			}
		})
		// What differs in case only is one header to net/http.
		want += countDistinct(fields)
		if got := testutil.ToFloat64(s.proxy.observer.metrics.spoofed); got != want {
			t.Errorf("%v spoofed headers counted, want %v", got, want)
		}
	}
}

func countDistinct(fields []string) float64 {
	names := map[string]bool{}
	for _, field := range fields {
		name, _, _ := strings.Cut(field, ":")
		names[http.CanonicalHeaderKey(name)] = true
	}
	return float64(len(names))
}

// TestNominated finds that a client can't take headers away by naming them in
// Connection (RFC 9110 §7.6.1).
func TestNominated(t *testing.T) {
	nominations := []string{"X-Launch-Patient", "Authorization", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"}
	for name := range seedHeaders {
		nominations = append(nominations, strings.ToLower(name))
	}
	all := strings.Join(nominations, ", ")
	for _, connection := range [][]string{{"Connection: " + all}, {"Connection: close," + all}, {"Connection:", "connection: " + all}} {
		s := newStack(t)
		if a := s.do(get("/fhir/Patient", append(connection, bearerTOK, "X-Request-Id: id-1")...)); a.StatusCode != http.StatusOK {
			t.Fatalf("got status %d, want 200", a.StatusCode)
		}
		r := s.upstream.got()
		r.checkSeed(t)
		for name, want := range map[string]string{
			"Authorization": "Bearer TOK", "X-Request-Id": "id-1", "X-Forwarded-For": "127.0.0.1",
			"X-Forwarded-Host": "fhir.test", "X-Forwarded-Proto": "http", "Host": "fhir.test",
		} {
			if got := r.one(t, name); got != want {
				t.Errorf("%q: %s: %q, want %q", connection, name, got, want)
			}
		}
		if got := r.all("Connection"); len(got) > 0 {
			t.Errorf("FHIR server got Connection %q, want none", got)
		}
	}
}

func TestRemovedInbound(t *testing.T) {
	s := newStack(t)
	names := []string{
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Original-URI",
		"X-Original-Method", "X-Rewrite-URL", "Proxy", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "HTTP2-Settings", "Upgrade",
	}
	fields := []string{bearerTOK, "X-Method: kept", "X-Provenance: kept"}
	for _, name := range names {
		fields = append(fields, name+": evil")
	}
	for _, name := range []string{"X_HTTP_Method_Override", "x.original.url", "X_Rewrite-URL"} {
		fields = append(fields, name+": evil")
		names = append(names, name)
	}
	s.do(get("/fhir/Patient", fields...))
	r := s.upstream.got()
	for _, name := range names {
		if got := r.all(name); len(got) > 0 {
			t.Errorf("FHIR server got %s %q, want none", name, got)
		}
	}
	r.one(t, "X-Method")
	r.one(t, "X-Provenance")
	if len(r.all("Accept-Encoding")) > 0 || len(r.all("User-Agent")) > 0 {
		t.Errorf("FHIR server got %q, want no made-up headers", r.fields)
	}
}

func TestForwarded(t *testing.T) {
	sent := []string{
		bearerTOK, "Forwarded: for=6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7", "X-Forwarded-Proto: https",
		"X-Forwarded-Host: evil.test", "X-Forwarded-Prefix: /evil", "X-Forwarded-User: evil", "X-Real-Ip: 6.6.6.6", "Via: 1.1 evil",
		"X_Forwarded_For: 8.8.8.8", "X.Forwarded-Host: evil", "x_real_ip: 8.8.8.8",
	}
	names := []string{
		"X-Forwarded-Port", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-User", "X-Real-Ip", "Via",
		"X_Forwarded_For", "X.Forwarded-Host", "x_real_ip",
	}
	tests := []struct {
		name    string
		trusted string
		fields  []string
		want    map[string]string
	}{
		{"stranger", "10.0.0.0/8", sent, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "fhir.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80",
		}},
		{"nobody trusted", "", sent, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "fhir.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80",
		}},
		{"trusted", "127.0.0.0/8", sent, map[string]string{
			"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "6.6.6.6, 7.7.7.7, 127.0.0.1", "X-Forwarded-Proto": "https",
			"X-Forwarded-Host": "evil.test", "X-Forwarded-Prefix": "/evil", "X-Forwarded-User": "evil", "X-Real-Ip": "6.6.6.6", "Via": "1.1 evil", "X-Forwarded-Port": "443",
		}},
		{"trusted, nominated", "127.0.0.1/32", []string{bearerTOK, "Connection: X-Forwarded-Prefix, X-Forwarded-For", "X-Forwarded-Prefix: /p", "X-Forwarded-For: 6.6.6.6"}, map[string]string{
			"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "X-Forwarded-Prefix": "/p", "X-Forwarded-Host": "fhir.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80",
		}},
		{"trusted, port sent", "127.0.0.1/32", []string{bearerTOK, "X-Forwarded-Port: 9", "X-Forwarded-Host: a:7"}, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "a:7", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "9",
		}},
		{"trusted, port in the host", "127.0.0.1/32", []string{bearerTOK, "X-Forwarded-Host: a:7"}, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "a:7", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "7",
		}},
		{"stranger, port sent", "", []string{bearerTOK, "X-Forwarded-Port: 9", "X_Forwarded_Port: 9"}, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "fhir.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80",
		}},
		{"trusted, nothing sent", "127.0.0.1/32", []string{bearerTOK}, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "fhir.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStack(t, func(c *Config) {
				if tt.trusted != "" {
					c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
				}
			})
			s.do(get("/fhir/Patient", tt.fields...))
			r := s.upstream.got()
			for _, name := range names {
				got := r.all(name)
				if want, ok := tt.want[name]; ok && (len(got) != 1 || got[0] != want) || !ok && len(got) > 0 {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestForwardedPort: the port is the one the client wrote, or the default one of what it
// spoke; servers build the links to further pages from it.
func TestForwardedPort(t *testing.T) {
	for _, tt := range []struct{ host, proto, want string }{
		{"fhir.test", "http", "80"},
		{"fhir.test", "https", "443"},
		{"fhir.test:8000", "http", "8000"},
		{"fhir.test:8443", "https", "8443"},
		{"[::1]", "http", "80"},
		{"[::1]:8000", "http", "8000"},
		{"", "https", "443"},
		{"fhir.test:", "http", "80"},
		{"fhir.test", "HTTPS", "443"},
	} {
		if got := portOf(tt.host, tt.proto); got != tt.want {
			t.Errorf("portOf(%q, %q): got %q, want %q", tt.host, tt.proto, got, tt.want)
		}
	}
}

// TestUntrustedHTTPS: an operator is told once that a proxy in front ends TLS and isn't
// trusted; the FHIR server's links would be wrong.
func TestUntrustedHTTPS(t *testing.T) {
	for _, tt := range []struct {
		name, trusted, proto string
		want                 int
	}{
		{"untrusted", "", "https", 1}, {"untrusted, any case", "", "HTTPS", 1}, {"trusted", "127.0.0.0/8", "https", 0}, {"http", "", "http", 0},
	} {
		var told []string
		s := newStack(t, func(c *Config) {
			c.UntrustedHTTPS = func(peer string) { told = append(told, peer) }
			if tt.trusted != "" {
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
			}
		})
		for range 3 {
			s.do(get("/fhir/metadata", "X-Forwarded-Proto: "+tt.proto))
		}
		if len(told) != tt.want || tt.want == 1 && told[0] != "127.0.0.1" {
			t.Errorf("%s: told of %q, want %d peer", tt.name, told, tt.want)
		}
	}
}

func TestReadPeer(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct {
		address, peer string
		trusted       bool
	}{
		{"10.1.2.3:4", "10.1.2.3", true},
		{"[::ffff:10.1.2.3]:4", "::ffff:10.1.2.3", true},
		{"[fd00::1%eth0]:4", "fd00::1%eth0", true},
		{"11.1.2.3:4", "11.1.2.3", false},
		{"[fe80::1]:4", "fe80::1", false},
		{"name:4", "name", false},
		{"@", "", false},
	}
	for _, tt := range tests {
		if peer, isTrusted := peerOf(tt.address, trusted); peer != tt.peer || isTrusted != tt.trusted {
			t.Errorf("%q: got %q, %t, want %q, %t", tt.address, peer, isTrusted, tt.peer, tt.trusted)
		}
	}
}

func TestRequestID(t *testing.T) {
	s := newStack(t)
	const made = "made"
	for _, tt := range []struct {
		fields []string
		want   string
	}{
		{nil, made},
		{[]string{"X-Request-Id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301"}, "3f2504e0-4f89-41d3-9a0c-0305e82c3301"},
		{[]string{"x-request-id: a_B.9:z"}, "a_B.9:z"},
		{[]string{"X-Request-Id: " + strings.Repeat("a", maxTraceID)}, strings.Repeat("a", maxTraceID)},
		{[]string{"X-Request-Id: " + strings.Repeat("a", maxTraceID+1)}, made},
		{[]string{`X-Request-Id: a","level":"ERROR`}, made},
		{[]string{"X-Request-Id: a b"}, made},
		{[]string{"X-Request-Id: é"}, made},
		{[]string{"X-Request-Id:"}, made},
		{[]string{"X-Request-Id: a", "X-Request-Id: b"}, made},
	} {
		s.do(get("/fhir/Patient", append(tt.fields, bearerTOK)...))
		upstream := s.upstream.got().one(t, "X-Request-Id")
		if tt.want != made && upstream != tt.want || tt.want == made && len(upstream) != 36 {
			t.Errorf("%q: FHIR server got %q, want %q", tt.fields, upstream, tt.want)
		}
		told := s.do(get("/fhir/Patient", tt.fields...)).Header.Get("X-Request-Id")
		if tt.want != made && told != tt.want || tt.want == made && (len(told) != 36 || told == upstream) {
			t.Errorf("%q: client got %q, want %q", tt.fields, told, tt.want)
		}
	}
}

func TestUpstreamAuthorization(t *testing.T) {
	for _, tt := range []struct {
		strip   bool
		raw     string
		values  int
		cookies int
	}{
		{false, get("/fhir/Patient", bearerTOK, "Cookie: a=b"), 1, 1},
		{true, get("/fhir/Patient", bearerTOK, "Cookie: a=b"), 0, 1},
		{false, get("/fhir/metadata", bearerTOK, "Cookie: a=b"), 0, 0},
		{false, message("OPTIONS", "/fhir/Patient", "", "Origin: https://app.test", "Access-Control-Request-Method: GET", bearerTOK, "Cookie: a=b"), 0, 0},
	} {
		s := newStack(t, func(c *Config) { c.StripAuthorization = tt.strip })
		s.do(tt.raw)
		r := s.upstream.got()
		if got := r.all("Authorization"); len(got) != tt.values {
			t.Errorf("strip %t, %q: FHIR server got Authorization %q, want %d values", tt.strip, tt.raw, got, tt.values)
		}
		if got := r.all("Cookie"); len(got) != tt.cookies {
			t.Errorf("strip %t, %q: FHIR server got Cookie %q, want %d values", tt.strip, tt.raw, got, tt.cookies)
		}
	}
}

func TestUpgradeIsNotForwarded(t *testing.T) {
	for _, upgrade := range [][]string{
		{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"},
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		{"Connection: upgrade", "Upgrade: TLS/1.0, foo"},
		{"Connection: Upgrade", "Upgrade: h2c\xff"},
		{"Connection: Upgrade"},
		{"Upgrade: websocket"},
		{"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
	} {
		authorized := append(upgrade, bearerTOK)
		for _, raw := range []string{
			get("/fhir/Patient", authorized...), get("/fhir/metadata", upgrade...),
			message(http.MethodDelete, "/fhir/Patient/1", "", authorized...), // ReverseProxy would pass it on
		} {
			s := newStack(t)
			if a := s.do(raw); a.StatusCode != http.StatusOK {
				t.Errorf("%q: got status %d, want 200", upgrade, a.StatusCode)
				continue
			}
			r := s.upstream.got()
			for _, name := range []string{"Connection", "Upgrade", "HTTP2-Settings"} {
				if got := r.all(name); len(got) > 0 {
					t.Errorf("%q: FHIR server got %s %q, want none", upgrade, name, got)
				}
			}
		}
	}
}

func TestSwitchingProtocols(t *testing.T) {
	s := newStack(t)
	s.upstream.writes("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX-Launch-Patient: evil\r\n\r\nsmuggled")
	a := s.do(get("/fhir/Patient", bearerTOK, "Connection: Upgrade", "Upgrade: h2c"))
	if a.StatusCode != http.StatusBadGateway || len(a.Header["Upgrade"]) > 0 || len(a.Header["X-Launch-Patient"]) > 0 {
		t.Errorf("got status %d %v, want 502 without the server's headers", a.StatusCode, a.Header)
	}
	// The connection that was switched is no longer HTTP.
	select {
	case <-s.upstream.gone:
	case <-time.After(deadline):
		t.Error("connection to the FHIR server stays open, want its end")
	}
}

func TestInformationalIsDropped(t *testing.T) {
	for _, method := range []string{"GET", "POST"} { // by both transports
		s := newStack(t)
		s.upstream.writes("HTTP/1.1 103 Early Hints\r\nX-Launch-Patient: evil\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + okAnswer)
		a := s.do(message(method, "/fhir/Patient", "", bearerTOK))
		if a.StatusCode != http.StatusOK || a.body != "{}" || len(a.Header["Link"]) > 0 || len(a.Header["X-Launch-Patient"]) > 0 {
			t.Errorf("%s: got status %d %v %q, want the final response only", method, a.StatusCode, a.Header, a.body)
		}
	}
}

// TestResponseFamily finds that a FHIR server's echo of context headers doesn't
// reach the client, as header or trailer.
func TestResponseFamily(t *testing.T) {
	for name, raw := range map[string]string{
		"headers": "HTTP/1.1 200 OK\r\nX-Launch-Patient: 1\r\nx_launch_user: 1\r\nX.Launch-X: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\n{}",
		"declared trailers": "HTTP/1.1 200 OK\r\nTrailer: X-Launch-Patient, X-Kept\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2\r\n{}\r\n0\r\nX-Launch-Patient: 1\r\nX-Kept: 1\r\n\r\n",
		"declared, other sent": "HTTP/1.1 200 OK\r\nTrailer: X-Launch-Patient, X-Absent\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"2\r\n{}\r\n0\r\nX-Launch-Patient: 1\r\nX-Kept: 1\r\n\r\n",
		"undeclared trailers": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" +
			"X_Launch_Patient: 1\r\nX-Launch-User: 1\r\nX-Kept: 1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			s.upstream.writes(raw)
			c := s.dial()
			c.send(get("/fhir/Patient", bearerTOK, "Connection: close", "TE: trailers"))
			all, err := io.ReadAll(c.r)
			if err != nil {
				t.Fatalf("io.ReadAll: got error %v, want none", err)
			}
			text := strings.ToLower(string(all))
			if !strings.HasPrefix(text, "http/1.1 200 ") || !strings.Contains(text, "{}") || !strings.Contains(text, "x-kept: 1") {
				t.Errorf("client got %q, want 200, the body and X-Kept", all)
			}
			if strings.Contains(foldReference(text), "x-launch") {
				t.Errorf("client got %q, want nothing of the namespace", all)
			}
		})
	}
}

// TestRequestTrailers finds that what follows a body can't bring headers along.
func TestRequestTrailers(t *testing.T) {
	for _, declared := range []string{"", "Trailer: X-Launch-Patient, X-Other\r\n"} {
		s := newStack(t)
		a := s.do("POST /fhir/Patient HTTP/1.1\r\nHost: fhir.test\r\n" + bearerTOK + "\r\nTransfer-Encoding: chunked\r\n" + declared +
			"\r\n2\r\n{}\r\n0\r\nX-Launch-Patient: evil\r\nX-Other: evil\r\n\r\n")
		if a.StatusCode != http.StatusOK {
			t.Fatalf("got status %d, want 200", a.StatusCode)
		}
		r := s.upstream.got()
		r.checkSeed(t)
		if len(r.trailer) > 0 || len(r.all("Trailer")) > 0 || r.body != "{}" {
			t.Errorf("%q: FHIR server got %q, trailers %q, body %q, want the body without trailers", declared, r.fields, r.trailer, r.body)
		}
	}
}

// TestBodyThatIsPassedOver finds that nothing follows on a connection whose FHIR server may
// take the body of a request for the next one, as in CL.0 attacks, and that it is told so.
func TestBodyThatIsPassedOver(t *testing.T) {
	inner := "PUT /fhir/Patient/2 HTTP/1.1\r\nHost: f\r\nX-Launch-Patient: 2\r\nContent-Length: 0\r\n\r\n"
	for method, last := range map[string]bool{"GET": true, "DELETE": true, "OPTIONS": true, "HEAD": true, "POST": false, "PUT": false, "PATCH": false} {
		for _, raw := range []string{
			message(method, "/fhir/Patient/1", inner, bearerTOK),
			method + " /fhir/Patient/1 HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		} {
			s := newStack(t)
			s.do(raw)
			first := s.upstream.got()
			if got := first.all("Connection"); (len(got) == 1 && got[0] == "close") != last {
				t.Errorf("%.60q: FHIR server got Connection %q, want close to be %t", raw, got, last)
			}
			s.do(get("/fhir/Patient/1", bearerTOK))
			if again := s.upstream.got(); (again.conn != first.conn) != last {
				t.Errorf("%.60q: another connection for the next request: got %t, want %t", raw, again.conn != first.conn, last)
			}
		}
	}
}

func TestBodyFraming(t *testing.T) {
	s := newStack(t)
	for _, tt := range []struct{ raw, body, length string }{
		{message("POST", "/fhir/Patient", "{}", bearerTOK), "{}", "2"},
		{message("PUT", "/fhir/Patient/1", strings.Repeat("x", 200_000), bearerTOK), strings.Repeat("x", 200_000), "200000"},
		{message("GET", "/fhir/Patient", "abc", bearerTOK), "abc", "3"},
		{message("DELETE", "/fhir/Patient/1", "", bearerTOK), "", ""},
		{message("POST", "/fhir/Patient/1/$everything", "", bearerTOK, "Content-Length: 0"), "", "0"},
		{"POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=\"x\"\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde", "chunked"},
		{"POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nG\r\n0\r\n\r\n", "G", "chunked"},
	} {
		a := s.do(tt.raw)
		// A length beside the chunks may have been read by somebody else (RFC 9112 §6.1).
		// net/http doesn't tell, so that without the fast path all chunks end it.
		if both := tt.body == "G" || *standardOnly && tt.length == "chunked"; a.Close != both {
			t.Errorf("%.80q: connection ends %t, want %t", tt.raw, a.Close, both)
		}
		r := s.upstream.got()
		framing := strings.Join(append(r.all("Content-Length"), r.all("Transfer-Encoding")...), ",")
		if a.StatusCode != http.StatusOK || r.body != tt.body || framing != tt.length {
			t.Errorf("%.80q: got status %d and a body of %d bytes framed %q, want 200, %d bytes and %q", tt.raw, a.StatusCode, len(r.body), framing, len(tt.body), tt.length)
		}
	}
}

func TestExpectContinue(t *testing.T) {
	s := newStack(t)
	c := s.dial()
	c.send("POST /fhir/Patient HTTP/1.1\r\nHost: f\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if a := c.receive("POST"); a.StatusCode != http.StatusUnauthorized || !a.Close {
		t.Errorf("without token: got status %d, close %t, want 401 and true", a.StatusCode, a.Close)
	}
	c = s.dial()
	c.send("POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if status := c.head("POST").StatusCode; status != http.StatusContinue {
		t.Errorf("got status %d, want 100", status)
	}
	c.send("{}")
	if a := c.receive("POST"); a.StatusCode != http.StatusOK {
		t.Errorf("got status %d, want 200", a.StatusCode)
	}
}

// TestExpectation finds that what isn't 100-continue alone goes no further, and
// that it does only with a body (D17). net/http refuses what doesn't have that word.
func TestExpectation(t *testing.T) {
	s := newStack(t)
	for _, value := range []string{"y 100-continue", "100-continue, 200-ok", "100-continue\r\nExpect: 100-continue"} {
		for _, method := range []string{"GET", "POST"} {
			if a := s.do(message(method, "/fhir/Patient", "{}", bearerTOK, "Expect: "+value)); a.StatusCode != http.StatusExpectationFailed || !a.Close {
				t.Errorf("%s %q: got status %d, connection ends %t, want 417 and true", method, value, a.StatusCode, a.Close)
			}
		}
	}
	s.upstream.untouched()
	for _, method := range []string{"GET", "POST"} {
		s.do(message(method, "/fhir/Patient", "", bearerTOK, "Expect: 100-continue"))
		if r := s.upstream.got(); len(r.all("Expect")) > 0 {
			t.Errorf("%s without a body: FHIR server got %q, want no Expect", method, r.fields)
		}
	}
}

// TestEarlyAnswer finds that a response isn't held back until the client has
// sent a body that nobody wants.
func TestEarlyAnswer(t *testing.T) {
	for name, framing := range map[string]string{"length": "Content-Length: 1000\r\n\r\n{", "chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			s.upstream.early = func(conn net.Conn, _ *bufio.Reader) bool {
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
				_, _ = io.Copy(io.Discard, conn) // until the proxy gives up
				return true
			}
			c := s.dial()
			_ = c.SetDeadline(time.Now().Add(deadline / 2))
			c.send("POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\n" + framing)
			// What is left of the body must not be taken for a request.
			if a := c.receive("POST"); a.StatusCode != http.StatusRequestEntityTooLarge || a.body != "{}" || !a.Close {
				t.Errorf("got status %d %q, close %t, want 413, its body and true", a.StatusCode, a.body, a.Close)
			}
		})
	}
}

// heldBody is a body that doesn't come.
type heldBody struct {
	end     chan struct{}
	reading atomic.Int32
}

func (b *heldBody) Read([]byte) (int, error) {
	b.reading.Add(1)
	defer b.reading.Add(-1)
	<-b.end
	return 0, os.ErrDeadlineExceeded
}

// heldWriter is where the response goes to a request with a heldBody.
type heldWriter struct {
	*httptest.ResponseRecorder
	body *heldBody
}

func (w heldWriter) SetReadDeadline(time.Time) error { close(w.body.end); return nil }

// TestNoReadOutlivesTheResponse: what still reads when the handler returns would take
// bytes of the next request, or keep net/http from going on.
func TestNoReadOutlivesTheResponse(t *testing.T) {
	s := newStack(t)
	s.upstream.early = func(conn net.Conn, _ *bufio.Reader) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
		_, _ = io.Copy(io.Discard, conn) // until the proxy gives up
		return true
	}
	body := &heldBody{end: make(chan struct{})}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/fhir/Patient", body)
	r.Header.Set("Authorization", "Bearer TOK")
	r.ContentLength = 5
	w := heldWriter{httptest.NewRecorder(), body}
	s.proxy.ServeHTTP(w, r)
	if n := body.reading.Load(); n != 0 || w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got status %d with %d reads under way, want 413 and none", w.Code, n)
	}
}

// lateWriter is where the response goes to a request over HTTP/2, whose stream is nobody's
// once the handler has returned: net/http would panic.
type lateWriter struct {
	*httptest.ResponseRecorder
	ended chan struct{}
	late  chan struct{}
}

func (w lateWriter) SetReadDeadline(time.Time) error {
	select {
	case <-w.ended:
		close(w.late)
	default:
	}
	return nil
}

// TestNoDeadlineOutlivesTheResponse: over HTTP/2 a read may last longer than the handler,
// while the end of the response waits for a client that doesn't read. Its patience has
// ended by then.
func TestNoDeadlineOutlivesTheResponse(t *testing.T) {
	const patience = 50 * time.Millisecond
	s := newStack(t, func(c *Config) { c.StallTimeout = patience })
	s.upstream.early = func(conn net.Conn, _ *bufio.Reader) bool {
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
		_, _ = io.Copy(io.Discard, conn) // until the proxy gives up
		return true
	}
	body := &heldBody{end: make(chan struct{})}
	defer close(body.end)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/fhir/Patient", body)
	r.Header.Set("Authorization", "Bearer TOK")
	r.ContentLength, r.ProtoMajor, r.ProtoMinor = 5, 2, 0
	w := lateWriter{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	s.proxy.ServeHTTP(w, r)
	close(w.ended)
	select {
	case <-w.late:
		t.Error("got a deadline for a stream that is over, want none")
	case <-time.After(4 * patience):
	}
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got status %d, want 413", w.Code)
	}
}

func TestMalformedBody(t *testing.T) {
	for name, body := range map[string]string{
		"no hex":    "xyz\r\n{}\r\n0\r\n\r\n",
		"prefix":    "0x2\r\n{}\r\n0\r\n\r\n",
		"overflow":  "ffffffffffffffff2\r\n{}\r\n",
		"too long":  "2\r\n{}extra\r\n0\r\n\r\n",
		"second":    "2\r\n{}\r\n-1\r\n",
		"truncated": "5\r\n{}",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			c := s.dial()
			c.send("POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
			if name == "truncated" {
				_ = c.Conn.(*net.TCPConn).CloseWrite()
			}
			a := c.receive("POST")
			// Which of the two it is depends on who sees first that the client left.
			gone := name == "truncated" && a.StatusCode == statusClientClosed
			if a.StatusCode != http.StatusBadRequest && !gone || !a.Close {
				t.Errorf("got status %d, close %t, want 400 and true", a.StatusCode, a.Close)
			}
			c.closed()
			s.upstream.untouched()
		})
	}
}

// TestNotSentTwice lets the FHIR server close a kept connection on which a
// request has just been written. Nobody knows whether it was carried out.
func TestNotSentTwice(t *testing.T) {
	for _, tt := range []struct {
		raw   string
		twice bool
	}{
		{message("POST", "/fhir/Patient", "{}", bearerTOK), false},
		{message("POST", "/fhir/Patient/1/$x", "", bearerTOK, "Content-Length: 0"), false},
		{message("POST", "/fhir/Patient/1/$x", "", bearerTOK, "Content-Length: 0", "Idempotency-Key: 1"), false},
		{message("POST", "/fhir/Patient/1/$x", "", bearerTOK, "Content-Length: 0", "x-idempotency-key: 1"), false},
		{message("DELETE", "/fhir/Patient/1", "", bearerTOK), false},
		{message("PUT", "/fhir/Patient/1", "{}", bearerTOK), false},
		{message("PATCH", "/fhir/Patient/1", "{}", bearerTOK), false},
		{get("/fhir/Patient/1", bearerTOK), true},
		{message("HEAD", "/fhir/Patient/1", "", bearerTOK), true},
	} {
		s := newStack(t)
		if tt.twice {
			s.do(get("/fhir/Patient", bearerTOK)) // keeps a connection
		} else {
			s.do(message("POST", "/fhir/Patient", "{}", bearerTOK)) // of the other pool
		}
		first := s.upstream.got().conn
		s.upstream.answer = func(conn net.Conn, r *received) bool {
			if r.conn == first {
				return false
			}
			_, _ = io.WriteString(conn, strings.TrimSuffix(okAnswer, "{}"))
			if !strings.HasPrefix(r.line, "HEAD") {
				_, _ = io.WriteString(conn, "{}")
			}
			return true
		}
		a := s.do(tt.raw)
		r := s.upstream.got()
		if r.conn != first {
			t.Fatal("got another connection, want the kept one")
		}
		if tt.twice {
			if a.StatusCode != http.StatusOK {
				t.Errorf("%q: got status %d, want 200", tt.raw, a.StatusCode)
			}
			continue
		}
		if a.StatusCode != http.StatusBadGateway {
			t.Errorf("%q: got status %d, want 502", tt.raw, a.StatusCode)
		}
		if strings.Contains(strings.ToLower(tt.raw), "idempotency") && len(r.all("Idempotency-Key"))+len(r.all("X-Idempotency-Key")) != 1 {
			t.Errorf("FHIR server got %q, want the client's header", r.fields)
		}
		s.upstream.untouched()
	}
}

// TestStreaming finds that each part of a response arrives before the next one
// is written.
func TestStreaming(t *testing.T) {
	for name, tt := range map[string]struct {
		header string
		parts  []string
	}{
		"events":         {"Content-Type: text/event-stream\r\n", []string{"data: 1\n\n", "data: 2\n\n"}},
		"chunks":         {"Content-Type: application/fhir+json\r\n", []string{"{", "}"}},
		"content-length": {"Content-Type: application/fhir+json\r\nContent-Length: 6\r\n", []string{"ab", "cd", "ef"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			next := make(chan struct{})
			s.upstream.answer = func(conn net.Conn, _ *received) bool {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%sConnection: close\r\n\r\n", tt.header)
				for _, part := range tt.parts {
					_, _ = io.WriteString(conn, part)
					select {
					case <-next:
					case <-t.Context().Done():
					}
				}
				return false
			}
			c := s.dial()
			c.send(get("/fhir/Patient", bearerTOK))
			body := c.head("GET").Body
			for _, want := range tt.parts {
				part := make([]byte, len(want))
				if _, err := io.ReadFull(body, part); err != nil || string(part) != want {
					t.Errorf("got part %q (%v), want %q", part, err, want)
				}
				select {
				case next <- struct{}{}:
				case <-time.After(deadline):
					t.Fatal("FHIR server doesn't go on, want it to")
				}
			}
			if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
				t.Errorf("got rest %q (%v), want none", rest, err)
			}
		})
	}
}

func TestUploadStreams(t *testing.T) {
	for name, tt := range map[string]struct{ framing, first, second string }{
		"chunked": {"Transfer-Encoding: chunked", "1\r\n{\r\n", "1\r\n}\r\n0\r\n\r\n"},
		"length":  {"Content-Length: 2", "{", "}"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			first := make(chan string, 1)
			s.upstream.early = func(conn net.Conn, body *bufio.Reader) bool {
				b := make([]byte, len(tt.first))
				_, _ = io.ReadFull(body, b)
				first <- string(b)
				_, _ = io.CopyN(io.Discard, body, int64(len(tt.second)))
				_, _ = io.WriteString(conn, okAnswer)
				return true
			}
			c := s.dial()
			c.send("POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\n" + tt.framing + "\r\n\r\n" + tt.first)
			// It arrives although the second part hasn't been sent.
			if got := <-first; got != tt.first {
				t.Errorf("got first bytes %q, want %q", got, tt.first)
			}
			c.send(tt.second)
			if a := c.receive("POST"); a.StatusCode != http.StatusOK {
				t.Errorf("got status %d, want 200", a.StatusCode)
			}
		})
	}
}

func TestClientLeaves(t *testing.T) {
	for name, head := range map[string]string{"waiting": "", "streaming": "HTTP/1.1 200 OK\r\n\r\nsome"} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			arrived := make(chan struct{})
			ended := make(chan error, 1)
			s.upstream.answer = func(conn net.Conn, _ *received) bool {
				_, _ = io.WriteString(conn, head)
				close(arrived)
				_, err := conn.Read(make([]byte, 1))
				ended <- err
				return false
			}
			c := s.dial()
			c.send(get("/fhir/Patient", bearerTOK))
			<-arrived
			if head != "" {
				_, _ = io.ReadFull(c.head("GET").Body, make([]byte, 4))
			}
			c.reset()
			if err := <-ended; err == nil || isTimeout(err) {
				t.Errorf("request to the FHIR server goes on (%v), want its end", err)
			}
			s.wait(1)
			if waiting := head == ""; waiting && s.counted(clientClosed, statusClientClosed) != 1 || !waiting && s.counted(allowed, 200) != 1 {
				t.Errorf("got other counts, want one request: %s", s.log)
			}
		})
	}
}

// brokenClient is a ResponseWriter whose client takes no body.
type brokenClient struct{ benchWriter }

func (*brokenClient) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestClientTakesNoBody finds that a client's fault isn't put down to the FHIR
// server, even before net/http knows that the client has gone.
func TestClientTakesNoBody(t *testing.T) {
	s := newStack(t)
	r := benchRequest(t)
	r.Header.Set("Authorization", "Bearer TOK")
	func() {
		defer func() {
			if !isAbort(recover()) {
				t.Error("got a whole response, want one that is cut off")
			}
		}()
		s.proxy.ServeHTTP(&brokenClient{benchWriter{header: http.Header{}}}, r)
	}()
	if s.counted(allowed, 200) != 1 {
		t.Errorf("got other counts, want one request: %s", s.log)
	}
}

// TestUpstreamFaults: a response that breaks off is no bug of ours (J05).
func TestUpstreamFaults(t *testing.T) {
	const broken = "broken body"
	for name, tt := range map[string]struct {
		answer  string
		status  int
		failure string
	}{
		"closes":               {"", 502, ""},
		"garbage":              {"SSH-2.0-x\r\n\r\n", 502, ""},
		"two lengths":          {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502, ""},
		"bad field":            {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 502, ""},
		"no status":            {"HTTP/1.1 042 x\r\nContent-Length: 0\r\n\r\n", 502, ""},
		"huge header":          {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", oracleMaxHead) + "\r\n\r\n", 502, ""},
		"truncated length":     {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 200, broken},
		"truncated chunk":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", 200, broken},
		"malformed chunk":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxx\r\n", 200, broken},
		"own refusal":          {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n", 401, ""},
		"until the connection": {"HTTP/1.1 200 OK\r\n\r\nabc", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			s.upstream.answer = func(conn net.Conn, _ *received) bool {
				_, _ = io.WriteString(conn, tt.answer)
				return false
			}
			a := s.do(get("/fhir/Patient", bearerTOK))
			if a.StatusCode != tt.status || (a.err != nil) != (tt.failure == broken) {
				t.Errorf("got status %d, body %q, error %v, want %d", a.StatusCode, a.body, a.err, tt.status)
			}
			if tt.status == 401 && a.Header.Get("WWW-Authenticate") != "Basic realm=x" {
				t.Errorf("got header %v, want the server's challenge", a.Header)
			}
			if strings.Contains(s.log.String(), `"msg":"panic"`) {
				t.Errorf("got %s, want no panic", s.log)
			}
			d := allowed
			if tt.status == 502 || tt.failure == broken {
				d = refuseUpstream
			}
			if got := s.counted(d, tt.status); got != 1 {
				t.Errorf("requests counted as %s: got %v, want 1", d.label, got)
			}
		})
	}
}

// counted returns the counter of a decision with a status.
func (s *stack) counted(d *decision, status int) float64 {
	return testutil.ToFloat64(s.proxy.observer.metrics.byDecision[d].requests[status/100-1])
}

func TestUpstreamRefuses(t *testing.T) {
	s := newStack(t)
	_ = s.upstream.Close()
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != http.StatusBadGateway {
		t.Errorf("got status %d, want 502", a.StatusCode)
	}
	// The rest of the body isn't waited for.
	c := s.dial()
	c.send("POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nContent-Length: 100\r\n\r\n{")
	if a := c.receive("POST"); a.StatusCode != http.StatusBadGateway || !a.Close {
		t.Errorf("got status %d, close %t, want 502 and true", a.StatusCode, a.Close)
	}
}

func TestUpstreamHeaderTimeout(t *testing.T) {
	s := newStack(t, func(c *Config) { c.UpstreamLimits.HeaderTimeout = 50 * time.Millisecond })
	s.upstream.answer = func(conn net.Conn, _ *received) bool {
		_, err := conn.Read(make([]byte, 1))
		if err == nil || isTimeout(err) {
			t.Errorf("request to the FHIR server goes on (%v), want its end", err)
		}
		return false
	}
	if a := s.do(get("/fhir/Patient", bearerTOK)); a.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("got status %d, want 504", a.StatusCode)
	}
	<-s.upstream.gone
}

// TestPool finds that a refused or failed request doesn't leave bytes behind on
// a connection that the next client's request goes over.
func TestPool(t *testing.T) {
	s := newStack(t)
	// GET and the rest have connections of their own.
	victims := []string{get("/fhir/victim", bearerTOK), message("PUT", "/fhir/victim", "{}", bearerTOK)}
	for _, victim := range victims {
		s.do(victim)
		s.upstream.got()
	}
	attacks := []string{
		"CONNECT /fhir/a HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nContent-Length: 62\r\n\r\nGET /fhir/poison HTTP/1.1\r\nHost: x\r\nX-Launch-Patient: evil\r\n\r\n",
		"CONNECT /fhir/a HTTP/1.1\r\nHost: f\r\n\r\nGET /fhir/poison HTTP/1.1\r\nHost: x\r\n\r\n",
		message("POST", "/fhir/Patient", "GET /fhir/poison HTTP/1.1\r\nHost: x\r\n\r\n"),
		"POST /fhir/Patient HTTP/1.1\r\nHost: f\r\n" + bearerTOK + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /fhir/poison HTTP/1.1\r\nHost: x\r\n\r\n",
	}
	for _, attack := range attacks {
		c := s.dial()
		c.send(attack)
		c.receive("POST")
		c.closed()
		s.wait(1)
		for _, victim := range victims {
			if a := s.do(victim); a.StatusCode != http.StatusOK {
				t.Errorf("victim: got status %d, want 200", a.StatusCode)
			}
			for {
				r := s.upstream.got()
				if strings.Contains(r.line, "poison") {
					t.Fatalf("%q: FHIR server got %q, want nothing smuggled", attack, r.line)
				}
				if strings.Contains(r.line, "victim") {
					break
				}
			}
		}
	}
}

// TestContextIsTheRequests finds that the Introspector is asked in the client's
// context.
func TestContextIsTheRequests(t *testing.T) {
	s := newStack(t)
	ended := make(chan error, 1)
	asked := make(chan struct{})
	s.verdicts.during = func(ctx context.Context, _ string) {
		close(asked)
		<-ctx.Done()
		ended <- ctx.Err()
	}
	s.verdicts.failures["WAIT"] = context.Canceled
	c := s.dial()
	c.send(get("/fhir/Patient", "Authorization: Bearer WAIT"))
	<-asked
	c.reset()
	if err := <-ended; err == nil {
		t.Error("context goes on, want its end")
	}
	s.wait(1)
	if got := s.counted(clientClosed, statusClientClosed); got != 1 {
		t.Errorf("got %v requests counted as client_closed, want 1", got)
	}
	s.upstream.untouched()
}

// TestHTTP10 finds that what an old client may have meant otherwise is refused,
// and that its connection always ends.
func TestHTTP10(t *testing.T) {
	s := newStack(t)
	for raw, status := range map[string]int{
		"GET /fhir/Patient HTTP/1.0\r\n" + bearerTOK + "\r\nConnection: keep-alive\r\n\r\n":                                                     200,
		"POST /fhir/Patient HTTP/1.0\r\n" + bearerTOK + "\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}":                             200,
		"POST /fhir/Patient HTTP/1.0\r\n" + bearerTOK + "\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n": 400,
		"PUT /fhir/Patient/1 HTTP/1.0\r\n" + bearerTOK + "\r\nConnection: keep-alive\r\n\r\n":                                                   400,
	} {
		a := s.do(raw)
		if a.StatusCode != status || !a.Close {
			t.Errorf("%.60q: got status %d, connection ends %t, want %d and true", raw, a.StatusCode, a.Close, status)
		}
		if status == 200 {
			if r := s.upstream.got(); len(r.all("X-Forwarded-Host")) > 0 {
				t.Errorf("%.60q: FHIR server got %q, want no X-Forwarded-Host", raw, r.fields)
			}
		}
	}
	s.upstream.untouched()
}

// TestNoMediaTypeIsInvented: a browser would believe a guess.
func TestNoMediaTypeIsInvented(t *testing.T) {
	for name, s := range map[string]*stack{"fast path": newStackBehind(t, withFastPath), "net/http": newStackBehind(t, withStandard)} {
		s.upstream.writes("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
		a := s.do(get("/fhir/Binary/1", bearerTOK))
		if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "" {
			t.Errorf("%s: got status %d, Content-Type %q, want 200 and none", name, a.StatusCode, a.Header.Get("Content-Type"))
		}
	}
}
