package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Requests are written as text, so that the tests decide every byte.

const (
	good = "Authorization: Bearer good"
	host = "Host: fhir.test"
)

// request puts a request together: its method and target, header lines, no body.
func request(methodAndTarget string, header ...string) string {
	return strings.Join(append([]string{methodAndTarget + " HTTP/1.1", host}, header...), "\r\n") + "\r\n\r\n"
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	closed bool // the connection was closed after it
}

// conn is a client's connection.
type conn struct {
	net.Conn
	*bufio.Reader
}

func (c *conn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func dial(t testing.TB, address string) *conn {
	t.Helper()
	c, err := dialPlain(address)
	if err != nil {
		t.Fatalf("dialPlain: got error %v, want none", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialPlain is dial for goroutines of a test; its caller closes.
func dialPlain(address string) (*conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &conn{c, bufio.NewReader(c)}, nil
}

// crowd has n clients ask at the same time, each on a connection of its own, and
// returns what waits for them.
func (c *child) crowd(t *testing.T, n int, ask func(i int, conn *conn)) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			conn, err := dialPlain(c.data)
			if err != nil {
				t.Errorf("dialPlain: got error %v, want none", err)
				return
			}
			defer conn.Close()
			ask(i, conn)
		})
	}
	return wg.Wait
}

// do writes the bytes and reads one response.
func (c *conn) do(raw string) (*answer, error) {
	listenerAt(c.RemoteAddr()).sent(raw)
	// The response may come, and the connection close, before all is written.
	_, writeErr := io.WriteString(c, raw)
	method, _, _ := strings.Cut(raw, " ")
	a, err := c.answer(method)
	if err != nil {
		return nil, errors.Join(err, writeErr)
	}
	return a, nil
}

func (c *conn) answer(method string) (*answer, error) {
	res, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols {
		return c.answer(method)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	a := &answer{res.StatusCode, res.Header, string(body), res.Close}
	listenerAt(c.RemoteAddr()).answered(a)
	return a, err
}

// exchange sends the bytes over a new connection and reads one response.
func exchange(t testing.TB, address, raw string) *answer {
	t.Helper()
	c := dial(t, address)
	defer c.Close()
	a, err := c.do(raw)
	if err != nil {
		t.Fatalf("%.100q: got error %v, want a response", raw, err)
	}
	return a
}

// exchangePlain is exchange for answers that may not come.
func exchangePlain(address, raw string) (*answer, error) {
	c, err := dialPlain(address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.do(raw)
}

// send is exchange with the data listener.
func (c *child) send(t testing.TB, raw string) *answer {
	t.Helper()
	return exchange(t, c.data, raw)
}

// ask sends one request.
func (c *child) ask(t testing.TB, methodAndTarget string, header ...string) *answer {
	t.Helper()
	return c.send(t, request(methodAndTarget, header...))
}

func (a *answer) is(t testing.TB, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %v %.200s", a.status, status, a.header, a.body)
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// refused checks everything that all refusals have in common. oauth is the
// challenge's error: "" for no challenge, "none" for one without an error.
func (a *answer) refused(t testing.TB, status int, code, oauth string) {
	t.Helper()
	a.is(t, status)
	challenge := a.header["Www-Authenticate"]
	switch {
	case oauth == "" && challenge != nil:
		t.Errorf("got WWW-Authenticate %q, want none", challenge)
	case oauth == "":
	case len(challenge) != 1 || !strings.HasPrefix(challenge[0], "Bearer realm="):
		t.Errorf("got WWW-Authenticate %q, want one with a Bearer realm", challenge)
	case oauth == "none" && strings.Contains(challenge[0], "error"):
		t.Errorf("got WWW-Authenticate %q, want one without an error", challenge)
	case oauth != "none" && !strings.Contains(challenge[0], `error="`+oauth+`"`):
		t.Errorf("WWW-Authenticate %q, want error %s", challenge, oauth)
	}
	if after := a.header.Get("Retry-After"); (status == 503) != (after != "") {
		t.Errorf("got Retry-After %q with status %d, want it with 503 only", after, status)
	} else if n, err := strconv.Atoi(after); after != "" && (err != nil || n < 0) {
		t.Errorf("got Retry-After %q, want seconds", after)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header["Location"] != nil || a.header.Get("X-Request-Id") == "" {
		t.Errorf("got header %v, want Cache-Control no-store, no Location and an X-Request-Id", a.header)
	}
	if got := a.issue(t); got != code {
		t.Errorf("issue code %q, want %q: %s", got, code, a.body)
	}
}

// issue reads the OperationOutcome's code in either format.
func (a *answer) issue(t testing.TB) string {
	t.Helper()
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/fhir+xml") {
		var o struct {
			XMLName  xml.Name `xml:"http://hl7.org/fhir OperationOutcome"`
			Severity struct {
				Value string `xml:"value,attr"`
			} `xml:"issue>severity"`
			Code struct {
				Value string `xml:"value,attr"`
			} `xml:"issue>code"`
		}
		if err := xml.Unmarshal([]byte(a.body), &o); err != nil || o.Severity.Value != "error" {
			t.Errorf("got %s (%v), want an OperationOutcome", a.body, err)
		}
		return o.Code.Value
	}
	var o struct {
		ResourceType string
		Issue        []struct{ Severity, Code string }
	}
	err := json.Unmarshal([]byte(a.body), &o)
	if err != nil || o.ResourceType != "OperationOutcome" || len(o.Issue) != 1 || o.Issue[0].Severity != "error" ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "application/fhir+json") {
		t.Errorf("got %v %s (%v), want an OperationOutcome", a.header, a.body, err)
		return ""
	}
	return o.Issue[0].Code
}
