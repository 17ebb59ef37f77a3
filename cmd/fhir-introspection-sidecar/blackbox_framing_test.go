package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// victim is another client, on another connection, whose response must be its own.
func (w *world) victim(t *testing.T, id string) {
	t.Helper()
	// GET and POST go over connections of their own.
	for _, line := range []string{"GET /fhir/victim-" + id, "GET /fhir/victim-" + id, "POST /fhir/victim-" + id, "POST /fhir/victim-" + id} {
		a := w.ask(t, line, good)
		if want := `{"line":"` + line + `"}`; a.status != 200 || a.body != want {
			t.Errorf("victim got %d %s, want 200 %s", a.status, a.body, want)
		}
	}
	for _, r := range w.up.all() {
		if strings.Contains(r.line, "smuggled") {
			t.Errorf("FHIR server got %q, want nothing smuggled", r.line)
		}
	}
}

// smuggled is a request inside a request.
const smuggled = "GET /fhir/smuggled HTTP/1.1\r\nHost: x\r\nX-Launch-Patient: EVIL\r\n\r\n"

func TestBlackboxFramingConnect(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	// The server waits half a second with each of these, so that the client sees its response.
	for _, target := range []string{"/fhir/a", "fhir.test:80"} {
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)), "\r\n"} {
			c := dial(t, w.data)
			before := w.up.count()
			a, err := c.do("CONNECT " + target + " HTTP/1.1\r\nHost: f\r\n" + good + "\r\n" + framing + smuggled)
			if err != nil {
				t.Fatalf("c.do: got error %v, want none", err)
			}
			a.refused(t, 405, "not-supported", "")
			if rest, _ := io.ReadAll(c); len(rest) > 0 { // E02
				t.Errorf("got %q after the refusal, want nothing", rest)
			}
			if w.up.count() != before {
				t.Errorf("E01: FHIR server got %q, want nothing", w.up.last(t).head)
			}
			w.victim(t, "E01")
		}
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
			t.Fatalf("I09: got %v (%v), want 413", a, err)
		}
		_ = c.Close()
		w.victim(t, "E16")
	}
}

// D17, E17: Expect is handled, and a refusal doesn't wait for the body.
func TestBlackboxFramingExpect(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	c := dial(t, w.data)
	if _, err := io.WriteString(c, request("POST /fhir/Patient", good, "Expect: 100-continue", "Content-Length: 3")); err != nil {
		t.Fatalf("io.WriteString: got error %v, want none", err)
	}
	line, err := c.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("got %q (%v), want 100 Continue", line, err)
	}
	_, _ = c.ReadString('\n')
	if a, err := c.do("abc"); err != nil || a.status != 200 {
		t.Fatalf("got %v (%v), want 200", a, err)
	}
	if r := w.up.last(t); r.body != "abc" {
		t.Errorf("FHIR server got body %q, want abc", r.body)
	}
	c = dial(t, w.data)
	a, err := c.do(request("POST /fhir/Patient", "Expect: 100-continue", "Content-Length: 1000000000"))
	if err != nil {
		t.Fatalf("c.do: got error %v, want none", err)
	}
	a.refused(t, 401, "login", "none")
	if !a.closed {
		t.Error("got a refused upload's connection that lives on, want its end")
	}
	// Unfinished bodies don't hold up the refusal either.
	for _, framing := range []string{"Content-Length: 1000000000", "Transfer-Encoding: chunked"} {
		began := time.Now()
		w.send(t, request("POST /fhir/Patient", framing)).refused(t, 401, "login", "none")
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("refusal took %v, want at most 3s", d)
		}
	}
	if a := w.ask(t, "POST /fhir/Patient", good, "Expect: 200-ok", "Content-Length: 0"); a.status != 417 && a.status != 400 {
		t.Errorf("got status %d, want 417 or 400", a.status)
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
			t.Fatalf("io.WriteString: got error %v, want none", err)
		}
		slow = append(slow, c)
	}
	w.victim(t, "E19")
	for i, c := range slow {
		_ = c.SetDeadline(time.Now().Add(25 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("connection %d: got error %v, want its end", i, err)
		}
	}
}

// E20, L12: labels stay few, whatever the FHIR server's status.
func TestBlackboxFramingStatus(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.up.bytesOn("/fhir/odd", "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", true)
	for _, method := range []string{"GET", "PUT"} {
		if a := w.ask(t, method+" /fhir/odd", good); a.status != 999 && a.status != 502 {
			t.Errorf("got status %d, want 999 or 502", a.status)
		}
	}
	if text := w.get(t, "/metrics").body; strings.Contains(text, `code="9`) {
		t.Error("got a label for status 999, want none")
	}
}
