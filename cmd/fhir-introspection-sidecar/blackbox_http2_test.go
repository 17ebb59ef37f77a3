package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Frame types and flags of RFC 9113 §6.
const (
	frameData, frameHeaders, frameReset, frameSettings  = 0, 1, 3, 4
	framePing, frameGoAway, frameWindow, frameContinued = 6, 7, 8, 9
	flagEndStream, flagAck, flagEndHeaders, flagPadded  = 1, 1, 4, 8
	settingTableSize, settingWindow, settingHeaderList  = 1, 4, 6
	http2Preface                                        = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func frame(kind, flags byte, stream uint32, payload string) string {
	head := make([]byte, 9)
	binary.BigEndian.PutUint32(head, uint32(len(payload))<<8)
	head[3], head[4] = kind, flags
	binary.BigEndian.PutUint32(head[5:], stream)
	return string(head) + payload
}

func setting(id uint16, value uint32) string {
	return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, id), value))
}

// block is an HPACK block of literal fields, given as name, value, name, value.
func block(fields ...string) string {
	var b strings.Builder
	text := func(s string) {
		if n := len(s); n < 127 {
			b.WriteByte(byte(n))
		} else {
			b.WriteByte(127)
			for n -= 127; n >= 128; n >>= 7 {
				b.WriteByte(byte(n)&127 | 128)
			}
			b.WriteByte(byte(n))
		}
		b.WriteString(s)
	}
	for i, s := range fields {
		if i%2 == 0 {
			b.WriteByte(0)
		}
		text(s)
	}
	return b.String()
}

// http2Request is the fields of a request with a good token, and more.
func http2Request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "https", ":authority", "fhir.test", ":path", path, "authorization", "Bearer good"}, more...)
}

// http2Conn is a client's connection after the settings.
type http2Conn struct {
	net.Conn
	r *bufio.Reader
}

func (w *world) dialHTTP2(t *testing.T, settings string) *http2Conn {
	t.Helper()
	c, err := tls.Dial("tcp", w.data, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatalf("tls.Dial: got error %v, want none", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	h := &http2Conn{c, bufio.NewReader(c)}
	_, _ = io.WriteString(h, http2Preface+frame(frameSettings, 0, 0, settings))
	return h
}

// next reads a frame, and acknowledges settings. The kind of an error is GOAWAY.
func (c *http2Conn) next() (kind, flags byte, payload []byte) {
	head := make([]byte, 9)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return frameGoAway, 0, goneAway
	}
	payload = make([]byte, binary.BigEndian.Uint32(head)>>8)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return frameGoAway, 0, goneAway
	}
	if head[3] == frameSettings && head[4]&flagAck == 0 {
		_, _ = io.WriteString(c, frame(frameSettings, flagAck, 0, ""))
	}
	return head[3], head[4], payload
}

// goneAway is the payload of a GOAWAY with an error.
var goneAway = []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}

// outcome reads until a stream, or all of them, are answered or refused. It
// returns the status, "reset" or "closed".
func (c *http2Conn) outcome() string {
	for {
		switch kind, _, payload := c.next(); kind {
		case frameHeaders:
			return statusOfBlock(payload)
		case frameReset:
			return "reset"
		case frameGoAway: // without an error, the response still comes
			if code := binary.BigEndian.Uint32(payload[4:]); code != 0 {
				return "closed"
			}
		}
	}
}

// answer reads an answer to its end, which is "whole", "reset" or "closed".
func (c *http2Conn) answer() (status, end string) {
	for {
		kind, flags, payload := c.next()
		switch {
		case kind == frameHeaders && status == "":
			status = statusOfBlock(payload)
		case kind == frameReset:
			return status, "reset"
		case kind == frameGoAway && binary.BigEndian.Uint32(payload[4:]) != 0:
			return status, "closed"
		}
		if (kind == frameHeaders || kind == frameData) && flags&flagEndStream != 0 {
			return status, "whole"
		}
	}
}

// statusOfBlock reads the status that a server's first block begins with (RFC
// 7541 §6, appendix A and B).
func statusOfBlock(b []byte) string {
	if static := map[byte]string{0x88: "200", 0x89: "204", 0x8a: "206", 0x8b: "304", 0x8c: "400", 0x8d: "404", 0x8e: "500"}[b[0]]; static != "" {
		return static
	}
	if b[0] != 0x48 && b[0] != 0x4e || len(b) < 5 {
		return fmt.Sprintf("block %x", b)
	}
	if b[1] == 3 {
		return string(b[2:5])
	}
	bits := fmt.Sprintf("%08b%08b%08b", b[2], b[3], b[4])
	status := ""
	for range 3 {
		if n := strings.Index("00000 00001 00010", bits[:5]); n >= 0 {
			status += string(rune('0' + n/6))
			bits = bits[5:]
			continue
		}
		status += string(rune('3' + strings.Index("011001 011010 011011 011100 011101 011110 011111", bits[:6])/7))
		bits = bits[6:]
	}
	return status
}

func startHTTP2(t *testing.T) *world {
	t.Helper()
	cert, key := introspectiontest.NewAuthority(t, "test authority").Issue("fhir.test", nil)
	return start(t, env{"TLS_CERT_FILE": writeFile(t, "cert", cert), "TLS_KEY_FILE": writeFile(t, "key", key)})
}

// B09, B16-B18, B25, C05-C26, D04, E04 over HTTP/2, frame by frame.
func TestBlackboxHTTP2Frames(t *testing.T) {
	t.Parallel()
	w := startHTTP2(t)
	request := func(flags byte, fields ...string) string {
		return frame(frameHeaders, flagEndHeaders|flags, 1, block(fields...))
	}
	get := func(more ...string) string {
		return request(flagEndStream, http2Request("GET", "/fhir/Patient", more...)...)
	}
	post := func(body, trailer string, more ...string) string {
		return request(0, http2Request("POST", "/fhir/Patient", more...)...) + frame(frameData, 0, 1, body) +
			frame(frameHeaders, flagEndHeaders|flagEndStream, 1, trailer)
	}
	without := func(method, path string) string {
		return request(flagEndStream, ":method", method, ":scheme", "https", ":authority", "fhir.test", ":path", path)
	}
	nowhere := func(more ...string) string {
		return request(flagEndStream, append([]string{":method", "GET", ":scheme", "https", ":path", "/fhir/x", "authorization", "Bearer good"}, more...)...)
	}
	type attempt struct{ name, frames, want string }
	cases := []attempt{
		{"fine", get(), "200"},
		{"B16 trailers", post("abc", block("x-launch-patient", "evil-value")), "200"},
		{"B16 trailers, underscores", post("abc", block("x_launch_patient", "evil-value")), "200"},
		{"B16 declared trailers", post("abc", block("x-launch-patient", "evil-value"), "trailer", "x-launch-patient"), "200"},
		{"B16 trailers in capitals", post("abc", block("X-Launch-Patient", "evil-value")), "reset|closed"},
		{"B16 pseudo-fields as trailers", post("abc", block(":path", "/fhir/metadata")), "reset|closed"},
		{"B17 capitals", get("X-Launch-Patient", "evil-value"), "reset|closed|400"},
		{"B17 one capital", get("x-launch-Patient", "evil-value"), "reset|closed|400"},
		{"B17 lower case", get("x-launch-patient", "evil-value"), "200"},
		{"B17 underscores", get("x_launch_patient", "evil-value"), "200"},
		{"B18 te: trailers", get("te", "trailers"), "200"},
		{"B18 unknown pseudo-field", get(":patient", "evil-value"), "reset|closed|400"},
		{"B18 pseudo-field after a field", request(flagEndStream, ":method", "GET", ":scheme", "https", ":authority", "a", "authorization", "Bearer good", ":path", "/fhir/x"), "reset|closed|400"},
		{"B18 two paths", get(":path", "/fhir/metadata"), "reset|closed|400"},
		{"B18 answer's pseudo-field", get(":status", "200"), "reset|closed|400"},
		{"B18 no path", request(flagEndStream, ":method", "GET", ":scheme", "https", ":authority", "a", "authorization", "Bearer good"), "reset|closed|400"},
		{"B18 no method", request(flagEndStream, ":scheme", "https", ":authority", "a", ":path", "/fhir/x", "authorization", "Bearer good"), "reset|closed|400"},
		{"B18 extended CONNECT", request(0, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a", ":path", "/fhir/x", "authorization", "Bearer good"), "reset|closed|400|405"},
		{"B18 CONNECT", request(0, ":method", "CONNECT", ":authority", "fhir.test:443", "authorization", "Bearer good"), "reset|closed|405"},
		{"B18 CR LF in a value", get("x-a", "b\r\nx-launch-patient: evil-value"), "reset|closed|400"},
		{"B18 NUL in a value", get("x-a", "b\x00c"), "reset|closed|400"},
		{"B18 colon in a name", get("x-a: b\r\nx-launch-patient", "evil-value"), "reset|closed|400"},
		{"B18 blank in a name", get("x-launch-patient ", "evil-value"), "reset|closed|400"},
		{"B18 empty name", get("", "evil-value"), "reset|closed|400"},
		{"B25 odd authority", request(flagEndStream, ":method", "GET", ":scheme", "https", ":authority", `a";for=b`, ":path", "/fhir/x", "authorization", "Bearer good"), "400"},
		{"A04 two tokens", get("authorization", "Bearer good"), "400"},
		{"E04 more than the length", request(0, http2Request("POST", "/fhir/x", "content-length", "3")...) + frame(frameData, flagEndStream, 1, "abcdef"), "reset|closed|400"},
		{"E04 less than the length", request(0, http2Request("POST", "/fhir/x", "content-length", "9")...) + frame(frameData, flagEndStream, 1, "abc"), "reset|closed|400"},
		{"E04 two lengths", request(0, http2Request("POST", "/fhir/x", "content-length", "3", "content-length", "5")...) + frame(frameData, flagEndStream, 1, "abc"), "reset|closed|400"},
		{"E04 a length and no body", get("content-length", "3"), "reset"},
		{"E04 a length and no body, POST", request(flagEndStream, http2Request("POST", "/fhir/x", "content-length", "3")...), "reset"},
		{"E04 no length and no body", get("content-length", "0"), "200"},
		{"B25 Host as the authority", get("host", "FHIR.test"), "200"},
		{"B25 Host beside the authority", get("host", "evil.test"), "400"},
		{"B25 empty Host", get("host", ""), "400"},
		{"B25 Host alone", nowhere("host", "a"), "200"},
		{"B25 two hosts", nowhere("host", "a", "host", "b"), "400"},
		{"B25 twice the same Host", nowhere("host", "a", "host", "a"), "400"},
		{"B25 neither", nowhere(), "400"},
		{"B25 empty authority", nowhere(":authority", ""), "400|reset"},
		{"B25 http over TLS", request(flagEndStream, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/fhir/x", "authorization", "Bearer good"), "200"},
		{"B18 a blank as Origin", request(flagEndStream, ":method", "OPTIONS", ":scheme", "https", ":authority", "a", ":path", "/fhir/x", "origin", " ", "access-control-request-method", " "), "400"},
		{"B18 a blank before a value", get("x-a", " b"), "400"},
		{"B18 a tab after a value", get("x-a", "b\t"), "400"},
		{"B18 blanks within a value", get("x-a", "b \tc"), "200"},
		{"B09 public", without("GET", "/fhir/metadata"), "200"},
		{"C19 a blank in the path", without("GET", "/fhir/metadata HTTP/1.0"), "400"},
		{"C19 a blank in the query of a public path", without("GET", "/fhir/metadata?x HTTP/1.0"), "400"},
		{"C19 a blank in the query", request(flagEndStream, ":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/fhir/Patient?name=a b", "authorization", "Bearer good"), "400"},
		{"D17 odd Expect", request(0, http2Request("POST", "/fhir/x", "expect", "y 100-continue")...) + frame(frameData, flagEndStream, 1, "abc"), "417"},
	}
	for _, name := range []string{"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"} {
		cases = append(cases, attempt{"B18 " + name, get(name, "x-launch-patient"), "reset|closed|400"})
	}
	cases = append(cases, attempt{"B18 te", get("te", "gzip"), "reset|closed|400"})
	for _, length := range []string{"", "abc", "-1", "+3", "0x3", "3, 3", "1_0", "99999999999999999999"} {
		cases = append(cases, attempt{"E04 " + length + " as length", request(0, http2Request("POST", "/fhir/x", "content-length", length)...), "400"})
	}
	for _, path := range []string{"metadata/../Patient", "metadata/%2e%2e/Patient", "metadata/..;/Patient", "metadata;x", "metadata%2f..%2fPatient", `metadata\..\Patient`, "/metadata", "metadata%00", "%2e/metadata", "metadata#x"} {
		cases = append(cases, attempt{"C05 " + path, without("GET", "/fhir/"+path), "400|reset|closed"})
	}
	for _, path := range []string{"/fhir/Patient", "/fhir/metadataX", "/fhir/metadata/", "/fhir/METADATA", "/fhir/%6detadata", "/fhir"} {
		cases = append(cases, attempt{"C25 " + path, without("GET", path), "401"})
	}
	for _, path := range []string{"*", "fhir/metadata", "https://evil.test/fhir/metadata", "", "?x", "//evil.test/fhir/metadata"} {
		cases = append(cases, attempt{"C24 " + path, without("GET", path), "400|404|405|reset|closed"})
	}
	for _, method := range []string{"TRACE", "get", "PRI", "PROPFIND", "G T", "GET\r\n", ""} {
		cases = append(cases, attempt{"D04 " + method, without(method, "/fhir/metadata"), "405|400|reset|closed"})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := w.up.count()
			conn := w.dialHTTP2(t, "")
			_, _ = io.WriteString(conn, c.frames)
			got := conn.outcome()
			if !strings.Contains("|"+c.want+"|", "|"+got+"|") {
				t.Errorf("%s, want %s", got, c.want)
			}
			_ = conn.Close()
			eventually(t, "the request ends", func() bool {
				return strings.Contains(w.get(t, "/metrics").body, "\nintrospection_sidecar_introspections_in_flight 0")
			})
			for _, r := range w.up.all()[before:] {
				r.lacks(t, "evil-value")
				if strings.HasPrefix(c.want, "200") && strings.Contains(c.name, "B1") {
					r.has(t, "X-Launch-Patient", "123")
				}
			}
			// Bodies that don't keep their length are cut off when that shows.
			if n := w.up.count() - before; c.want == "200" && n != 1 || c.want != "200" && n != 0 && !strings.HasPrefix(c.name, "E04") && !strings.HasPrefix(c.name, "B16") {
				t.Errorf("FHIR server got %d requests, want one with 200 and none otherwise", n)
			}
		})
	}
}

// B18, C19: every byte in every place goes upstream as it came, or not at all.
func TestBlackboxHTTP2Bytes(t *testing.T) {
	t.Parallel()
	w := startHTTP2(t)
	for _, place := range []struct {
		name, path, authority, field, value string
		want                                func(c string) string // what the FHIR server gets
		passes                              int                   // of 256
	}{
		{"path", "/fhir/x%sy", "a", "x-a", "b", func(c string) string { return " /fhir/x" + c + "y HTTP/1.1\r\n" }, 90},
		{"query", "/fhir/x?x%sy", "a", "x-a", "b", func(c string) string { return " /fhir/x?x" + c + "y HTTP/1.1\r\n" }, 222},
		{"authority", "/fhir/x", "x%sy", "x-a", "b", func(c string) string { return "\r\nHost: x" + c + "y\r\n" }, 65},
		{"name", "/fhir/x", "a", "x%sy", "b", func(c string) string { return "\r\n" + http.CanonicalHeaderKey("x"+c+"y") + ": b\r\n" }, 51},
		{"value", "/fhir/x", "a", "x-a", "b%sc", func(c string) string { return "\r\nX-A: b" + c + "c\r\n" }, 224},
		{"value's begin", "/fhir/x", "a", "x-a", "%sc", func(c string) string { return "\r\nX-A: " + c + "c\r\n" }, 222},
		{"value's end", "/fhir/x", "a", "x-a", "b%s", func(c string) string { return "\r\nX-A: b" + c + "\r\n" }, 222},
	} {
		for _, method := range []string{"GET", "POST"} { // directTransport's, and http.Transport's
			conn, passed := w.dialHTTP2(t, ""), 0
			for i := range 256 {
				c := string([]byte{byte(i)})
				with := func(pattern string) string { return strings.Replace(pattern, "%s", c, 1) }
				before := w.up.count()
				_, _ = io.WriteString(conn, frame(frameHeaders, flagEndHeaders|flagEndStream, uint32(2*i+1), block(":method", method, ":scheme", "https",
					":authority", with(place.authority), ":path", with(place.path), "authorization", "Bearer good", with(place.field), with(place.value))))
				status, end := conn.answer()
				switch n := w.up.count() - before; {
				case n == 1 && status == "200" && strings.Contains(w.up.last(t).head, place.want(c)):
					passed++
				case n != 0 || status != "400" && end != "reset":
					t.Errorf("%s, %s, %q: got %s, %s, and %d requests at the FHIR server, want 400 or a reset, and none: %q", place.name, method, c, status, end, n, w.up.last(t).head)
				}
			}
			if passed != place.passes {
				t.Errorf("%s, %s: %d bytes pass, want %d", place.name, method, passed, place.passes)
			}
			_ = conn.Close()
		}
	}
}

// E20: a response that HTTP/2 can't carry as it is ends all the same.
func TestBlackboxHTTP2Answers(t *testing.T) {
	t.Parallel()
	w := startHTTP2(t)
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	for _, c := range []struct{ name, answer, status, end string }{
		{"fine", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200", "whole"},
		{"a connection's fields", "HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok", "200", "whole"},
		{"a blank in a name", "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok", "200", "whole"},
		{"a pseudo-field", "HTTP/1.1 200 OK\r\n:status: 500\r\nContent-Length: 2\r\n\r\nok", "502", "whole"},
		{"informational", "HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200", "whole"},
		{"protocol switch", "HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "502", "whole"},
		{"trailers", chunked + "Trailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: v\r\nX-U: w\r\n\r\n", "200", "whole"},
		{"a trailer that doesn't come", chunked + "Trailer: X-T\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200", "whole"},
		{"a trailer without value", chunked + "Trailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T:\r\n\r\n", "200", "whole"},
		{"a blank in a trailer's name", chunked + "\r\n2\r\nok\r\n0\r\nX A: v\r\n\r\n", "200", "whole"},
		{"a blank in an announced trailer's name", chunked + "Trailer: X A\r\n\r\n2\r\nok\r\n0\r\nX A: v\r\n\r\n", "200", "whole"},
		{"a trailer about framing", chunked + "\r\n2\r\nok\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "200", "whole"},
		{"204 with a body", "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nok", "502", "whole"},
		{"304 with a length", "HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\n", "304", "whole"},
		{"less than its length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "200", "reset"},
		{"half a chunk", chunked + "\r\n2\r\nok\r\n5\r\nab", "200", "reset"},
	} {
		w.up.bytesOn("/fhir/Patient", c.answer, false)
		for _, method := range []string{"GET", "POST"} { // directTransport's, and http.Transport's
			// A POST that meets a connection as it closes is 502: it must not be sent again.
			eventually(t, "the FHIR server has closed its connections", func() bool { return w.up.open() == 0 })
			conn := w.dialHTTP2(t, "")
			_, _ = io.WriteString(conn, frame(frameHeaders, flagEndHeaders|flagEndStream, 1, block(http2Request(method, "/fhir/Patient")...)))
			status, end := conn.answer()
			if status != c.status || end != c.end {
				t.Errorf("%s, %s: got %s, %s, want %s, %s", c.name, method, status, end, c.status, c.end)
			}
			_ = conn.Close()
		}
	}
}

// E23: a stream that is refused or cancelled leaves the connection to the others.
func TestBlackboxHTTP2Shared(t *testing.T) {
	t.Parallel()
	w := startHTTP2(t)
	for _, c := range []struct {
		name        string
		fields      []string
		status, end string
	}{
		{"method", http2Request("TRACE", "/fhir/Patient"), "405", "whole"},
		{"length", http2Request("GET", "/fhir/Patient", "content-length", "3"), "", "reset"},
		{"expectation", http2Request("GET", "/fhir/Patient", "expect", "y"), "417", "whole"},
		{"cancelled", nil, "", ""},
	} {
		conn := w.dialHTTP2(t, "")
		if before := w.metric(t, "introspection_sidecar_requests_total"); c.fields == nil {
			_, _ = io.WriteString(conn, frame(frameHeaders, flagEndHeaders, 1, block(http2Request("POST", "/fhir/Patient")...))+frame(frameReset, 0, 1, "\x00\x00\x00\x08"))
			eventually(t, "the request ends", func() bool { return w.metric(t, "introspection_sidecar_requests_total") > before })
		} else {
			_, _ = io.WriteString(conn, frame(frameHeaders, flagEndHeaders|flagEndStream, 1, block(c.fields...)))
			if status, end := conn.answer(); status != c.status || end != c.end {
				t.Errorf("%s: got status %q, %s, want %q, %s", c.name, status, end, c.status, c.end)
			}
		}
		_, _ = io.WriteString(conn, frame(frameHeaders, flagEndHeaders|flagEndStream, 3, block(http2Request("GET", "/fhir/Patient")...)))
		if status, end := conn.answer(); status != "200" || end != "whole" {
			t.Errorf("%s: next stream: got status %q, %s, want 200, whole", c.name, status, end)
		}
		_ = conn.Close()
	}
}

// E23: frames nobody needs cost little and hurt nobody.
func TestBlackboxHTTP2Abuse(t *testing.T) {
	t.Parallel()
	w := startHTTP2(t)
	open := frame(frameHeaders, flagEndHeaders, 1, block(http2Request("POST", "/fhir/Patient")...))
	unknown, resets := "", strings.Builder{}
	for kind := byte(0x0a); kind <= 0x0f; kind++ {
		unknown += frame(kind, 0xff, 1, "whatever") + frame(kind, 0, 0, "")
	}
	for i := range uint32(5000) {
		resets.WriteString(frame(frameHeaders, flagEndHeaders|flagEndStream, 2*i+1, block(http2Request("GET", "/fhir/Patient")...)))
		resets.WriteString(frame(frameReset, 0, 2*i+1, "\x00\x00\x00\x08"))
	}
	flips := strings.Repeat(frame(frameSettings, 0, 0, setting(settingWindow, 1<<30))+frame(frameSettings, 0, 0, setting(settingWindow, 0)), 5000)
	tables := strings.Repeat(frame(frameSettings, 0, 0, setting(settingTableSize, 0))+frame(frameSettings, 0, 0, setting(settingTableSize, 1<<20)), 2000)
	var trailers bytes.Buffer
	for i := range 20_000 {
		trailers.WriteString(frame(frameContinued, 0, 1, block(fmt.Sprintf("x-t-%d", i), strings.Repeat("v", 100))))
	}
	for _, c := range []struct{ name, frames string }{
		{"unknown frames", unknown},
		{"unknown frames within a stream", open + unknown},
		{"trailer flood", open + frame(frameData, 0, 1, "abc") + frame(frameHeaders, flagEndStream, 1, block("x-t", "v")) + trailers.String()},
		{"header flood", frame(frameHeaders, flagEndStream, 1, block(http2Request("GET", "/fhir/Patient")...)) + trailers.String()},
		{"empty continuations", frame(frameHeaders, flagEndStream, 1, block(http2Request("GET", "/fhir/x")...)) + strings.Repeat(frame(frameContinued, 0, 1, ""), 100_000)},
		{"window flips", open + flips},
		{"table sizes", tables + open},
		{"windows that overflow", open + strings.Repeat(frame(frameWindow, 0, 1, "\x7f\xff\xff\xff"), 3)},
		{"window of nothing", open + frame(frameWindow, 0, 1, "\x00\x00\x00\x00")},
		{"padding beyond the frame", frame(frameHeaders, flagEndHeaders|flagPadded, 1, "\xff"+block(http2Request("GET", "/fhir/x")...))},
		{"padding only", open + strings.Repeat(frame(frameData, flagPadded, 1, "\xff"+strings.Repeat("\x00", 255)), 250)},
		{"empty data", open + strings.Repeat(frame(frameData, 0, 1, ""), 100_000)},
		{"pings", strings.Repeat(frame(framePing, 0, 0, "12345678"), 20_000)},
		{"settings", strings.Repeat(frame(frameSettings, 0, 0, ""), 20_000)},
		{"rapid resets", resets.String()},
		{"a giant frame", frame(frameData, 0, 1, strings.Repeat("x", 1<<20))},
		{"a giant header list", frame(frameSettings, 0, 0, setting(settingHeaderList, 1<<31-1)) + open},
		{"an even stream", frame(frameHeaders, flagEndHeaders|flagEndStream, 2, block(http2Request("GET", "/fhir/x")...))},
		{"data on no stream", frame(frameData, flagEndStream, 7, "abc")},
		{"HTTP/1.1 after the preface", "GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run("E23 "+c.name, func(t *testing.T) {
			attacker := w.dialHTTP2(t, "")
			go func() { _, _ = io.Copy(io.Discard, attacker.r) }()
			_ = attacker.SetWriteDeadline(time.Now().Add(2 * time.Second))
			_, _ = io.WriteString(attacker, c.frames)
			other := w.dialHTTP2(t, "")
			_, _ = io.WriteString(other, frame(frameHeaders, flagEndHeaders|flagEndStream, 1, block(http2Request("GET", "/fhir/Patient")...)))
			if got := other.outcome(); got != "200" {
				t.Errorf("another client got %s, want 200", got)
			}
			_ = attacker.Close()
		})
	}
	if peak := w.residentKiB(t, "VmHWM"); peak > 256<<10 {
		t.Errorf("memory grew to %d KiB, want at most %d", peak, 256<<10)
	}
}
