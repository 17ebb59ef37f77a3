package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// victim is another client, on another connection, whose answer must be its own.
func (w *world) victim(t *testing.T, id string) {
	t.Helper()
	// GET and POST go over connections of their own.
	for _, line := range []string{"GET /fhir/victim-" + id, "GET /fhir/victim-" + id, "POST /fhir/victim-" + id, "POST /fhir/victim-" + id} {
		a := w.ask(t, line, good)
		if want := `{"line":"` + line + `"}`; a.status != 200 || a.body != want {
			t.Errorf("victim got %d %s", a.status, a.body)
		}
	}
	for _, r := range w.up.all() {
		if strings.Contains(r.line, "smuggled") {
			t.Errorf("FHIR server got %q", r.line)
		}
	}
}

// smuggled is a request inside a request.
const smuggled = "GET /fhir/smuggled HTTP/1.1\r\nHost: x\r\nX-Launch-Patient: EVIL\r\n\r\n"

func TestBlackboxFramingConnect(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	// The server waits half a second with each of these, so that the client sees its answer.
	for _, target := range []string{"/fhir/a", "fhir.test:80"} {
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)), "\r\n"} {
			c := dial(t, w.data)
			before := w.up.count()
			a, err := c.do("CONNECT " + target + " HTTP/1.1\r\nHost: f\r\n" + good + "\r\n" + framing + smuggled)
			if err != nil {
				t.Fatal(err)
			}
			a.refused(t, 405, "not-supported", "")
			if rest, _ := io.ReadAll(c); len(rest) > 0 { // E02
				t.Errorf("after the refusal came %q", rest)
			}
			if w.up.count() != before {
				t.Errorf("E01: FHIR server got %q", w.up.last(t).head)
			}
			w.victim(t, "E01")
		}
	}
}

func TestBlackboxFramingRequests(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	long := strings.Repeat("x", 64<<10)
	for _, c := range []struct{ id, head, body, want string }{
		{"E03 CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG", "400|200"},
		{"E03 CL.TE request", fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked", len(smuggled)+5), "0\r\n\r\n" + smuggled, "400|200"},
		{"E04 TE.CL", "Content-Length: 3\r\nTransfer-Encoding: chunked", "8\r\nSMUGGLED\r\n0\r\n\r\n", "400|200"},
		{"E05 CL twice differing", "Content-Length: 3\r\nContent-Length: 5", "abcde", "400"},
		{"E05 CL list", "Content-Length: 3, 3", "abc", "400"},
		{"E05 CL plus", "Content-Length: +3", "abc", "400"},
		{"E05 CL negative", "Content-Length: -1", "abc", "400"},
		{"E05 CL hex", "Content-Length: 0x3", "abc", "400"},
		{"E05 CL huge", "Content-Length: 99999999999999999999", "abc", "400"},
		{"E06 xchunked", "Transfer-Encoding: xchunked", "0\r\n\r\n", "400|501"},
		{"E06 chunked, identity", "Transfer-Encoding: chunked, identity", "0\r\n\r\n", "400|501"},
		{"E06 gzip, chunked", "Transfer-Encoding: gzip, chunked", "0\r\n\r\n", "400|501"},
		{"E06 ,chunked", "Transfer-Encoding: ,chunked", "0\r\n\r\n", "400|501"},
		{"E06 twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n", "400|501"},
		{"E06 VT", "Transfer-Encoding: \x0bchunked", "0\r\n\r\n", "400|501"},
		{"E06 NBSP", "Transfer-Encoding: \xa0chunked", "0\r\n\r\n", "400|501"},
		{"E06 split name", "Transfer-\r\nEncoding: chunked", "0\r\n\r\n", "400"},
		{"E06 quoted", "Transfer-Encoding: \"chunked\"", "0\r\n\r\n", "400|501"},
		{"E06 parameter", "Transfer-Encoding: chunked;x=1", "0\r\n\r\n", "400|501"},
		{"E06 underscore", "Transfer_Encoding: chunked\r\nContent-Length: 3", "abc", "200"},
		{"E07 CHUNKED", "Transfer-Encoding: CHUNKED", "3\r\nabc\r\n0\r\n\r\n", "200"},
		{"E08 blank before colon", "Content-Length : 3", "abc", "400"},
		{"E08 tab", "Transfer-Encoding\t: chunked", "0\r\n\r\n", "400"},
		{"E12 bare LF after size", "Transfer-Encoding: chunked", "2;a\nab\r\n0\r\n\r\n", "400"},
		{"E12 bare LF", "Transfer-Encoding: chunked", "2\nab\n0\n\n", "400"},
		{"E12 0x2", "Transfer-Encoding: chunked", "0x2\r\nab\r\n0\r\n\r\n", "400"},
		{"E12 overflow", "Transfer-Encoding: chunked", "ffffffffffffffff2\r\nab\r\n0\r\n\r\n", "400"},
		{"E12 underscore", "Transfer-Encoding: chunked", "0_2e\r\nab\r\n0\r\n\r\n", "400"},
		{"E12 minus", "Transfer-Encoding: chunked", "-0x0\r\n\r\n", "400"},
		{"E12 empty size", "Transfer-Encoding: chunked", "\r\nab\r\n0\r\n\r\n", "400"},
		{"E12 data longer than size", "Transfer-Encoding: chunked", "2\r\nabc\r\n0\r\n\r\n", "400"},
		{"E13 long extension", "Transfer-Encoding: chunked", "2;" + long + "\r\nab\r\n0\r\n\r\n", "400|200"},
		{"E14 extension", "Transfer-Encoding: chunked", "3;a=\"b\"\r\nabc\r\n0\r\n\r\n", "200"},
		{"E15 CL and smuggled", "Content-Length: 3", "abc" + smuggled, "200"},
		{"E16 CL.0", fmt.Sprintf("Content-Length: %d", len(smuggled)), smuggled, "200"},
	} {
		t.Run(c.id, func(t *testing.T) {
			conn := dial(t, w.data)
			a, err := conn.do(request("POST /fhir/attack", good, c.head) + c.body)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(c.want, fmt.Sprint(a.status)) {
				t.Errorf("status %d, want %s: %v %s", a.status, c.want, a.header, a.body)
			}
			w.victim(t, strings.Fields(c.id)[0])
			if a.status == 200 && c.head == "Transfer-Encoding: CHUNKED" {
				w.up.last(t)
			}
		})
	}
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="upstream_error"`); n > 0 {
		t.Errorf("%v clients' faults were counted as the FHIR server's", n)
	}
}

// E16: the FHIR server ignores bodies and answers at once.
func TestBlackboxFramingUnreadBody(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.up.on("/fhir/early", func(c *upstreamConn, _ *arrival) bool {
		_, err := io.WriteString(c.Conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
		return err == nil
	})
	for _, head := range []string{fmt.Sprintf("Content-Length: %d", len(smuggled)), "Content-Length: 200000", "Content-Length: 200000\r\nExpect: 100-continue"} {
		c := dial(t, w.data)
		body := smuggled
		if !strings.HasSuffix(head, fmt.Sprint(len(smuggled))) {
			body = "" // the rest never comes
		}
		a, err := c.do(request("POST /fhir/early", good, head) + body)
		if err != nil || a.status != 413 || a.body != "no" {
			t.Fatalf("I09: %v %v", err, a)
		}
		_ = c.Close()
		w.victim(t, "E16")
	}
}

// E17: Expect is handled, and a refusal doesn't wait for the body.
func TestBlackboxFramingExpect(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := dial(t, w.data)
	if _, err := io.WriteString(c, request("POST /fhir/Patient", good, "Expect: 100-continue", "Content-Length: 3")); err != nil {
		t.Fatal(err)
	}
	line, err := c.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatal(err, line)
	}
	_, _ = c.ReadString('\n')
	if a, err := c.do("abc"); err != nil || a.status != 200 {
		t.Fatal(err, a)
	}
	if r := w.up.last(t); r.body != "abc" {
		t.Errorf("body %q", r.body)
	}
	c = dial(t, w.data)
	a, err := c.do(request("POST /fhir/Patient", "Expect: 100-continue", "Content-Length: 1000000000"))
	if err != nil {
		t.Fatal(err)
	}
	a.refused(t, 401, "login", "none")
	if !a.closed {
		t.Error("the connection of a refused upload lives on")
	}
	// Unfinished bodies don't hold up the refusal either.
	for _, framing := range []string{"Content-Length: 1000000000", "Transfer-Encoding: chunked"} {
		began := time.Now()
		w.send(t, request("POST /fhir/Patient", framing)).refused(t, 401, "login", "none")
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("refusal took %v", d)
		}
	}
	if a := w.ask(t, "POST /fhir/Patient", good, "Expect: 200-ok", "Content-Length: 0"); a.status != 417 && a.status != 400 {
		t.Errorf("status %d", a.status)
	}
}

// E20: whatever the FHIR server says wrongly stays between it and one client.
func TestBlackboxFramingResponses(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for _, c := range []struct{ id, response, want string }{
		{"CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "502|200"},
		{"two CL", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", "502"},
		{"CL junk", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc", "502"},
		{"CL negative", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", "502"},
		{"TE unknown", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", "502"},
		{"extra bytes", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison, "200"},
		{"extra bytes after 204", "HTTP/1.1 204 No Content\r\n\r\n" + poison, "204"},
		{"extra bytes after 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n" + poison, "304"},
		{"HTTP/0.9", "<html>old</html>", "502"},
		{"status 099", "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", "502"},
		{"status 1000", "HTTP/1.1 1000 Odd\r\nContent-Length: 0\r\n\r\n", "502"},
		{"status 999", "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "999|502"},
		{"header fold", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", "200|502"},
		{"header NUL", "HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\nok", "502|200"},
		{"header without colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok", "502"},
		{"many 1xx", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 4000) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "502|200"},
		{"huge header", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 400<<10) + "\r\nContent-Length: 2\r\n\r\nok", "502"},
		{"empty", "", "502"},
		{"cut off head", "HTTP/1.1 200 OK\r\nContent-Le", "502"},
	} {
		t.Run("E20 "+c.id, func(t *testing.T) {
			w.up.on("/fhir/odd", func(conn *upstreamConn, r *arrival) bool {
				conn.readBody(r)
				_, _ = io.WriteString(conn.Conn, c.response)
				return strings.Contains(c.response, "poison") // stays open
			})
			a := w.ask(t, "GET /fhir/odd", good)
			if !strings.Contains(c.want, fmt.Sprint(a.status)) {
				t.Errorf("status %d, want %s", a.status, c.want)
			}
			if a.status == 502 {
				a.refused(t, 502, "transient", "")
			}
			if strings.Contains(a.body, "poison") {
				t.Errorf("body %q", a.body)
			}
			w.victim(t, "E20")
		})
	}
	// L12: labels stay few, whatever the status.
	if text := w.get(t, "/metrics").body; strings.Contains(text, `code="9`) {
		t.Error("status 999 has a label of its own")
	}
}

// Pipelined requests are judged one by one.
func TestBlackboxFramingPipeline(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := dial(t, w.data)
	if _, err := io.WriteString(c, request("GET /fhir/one", good)+request("GET /fhir/two")+request("GET /fhir/metadata")+request("GET /fhir/three", good, "X-Launch-Patient: EVIL")); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 401, 200, 200} {
		a, err := c.answer("GET")
		if err != nil || a.status != want {
			t.Fatalf("answer %d: %v %v", i, err, a)
		}
	}
	w.up.last(t).has(t, "X-Launch-Patient", "123")
	if w.up.count() != 3 {
		t.Errorf("FHIR server got %d requests", w.up.count())
	}
}

// E19, J09: slow heads are cut off while others are served.
func TestBlackboxFramingSlowHead(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	w := start(t, nil)
	var slow []*conn
	for _, begin := range []string{"", "P", "GET /fhir/Patient HTTP/1.1\r\nHost: f\r\nX-A: b"} {
		c := dial(t, w.data)
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	w.victim(t, "E19")
	for i, c := range slow {
		_ = c.SetDeadline(time.Now().Add(25 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}
