package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests of this file send bytes that were made up to a proxy as it is in the
// program and to one of net/http's parts only: http.Server without a fast path, and
// the oracle instead of the forwarder.

// twins are these two.
type twins struct {
	plain, usual *stack
	answer       string // of the FHIR servers
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	w := &twins{plain: newStack(t), usual: newStackBehind(t, withOracle)}
	w.usual.proxy.forwarder.hop, w.usual.proxy.router.hop = w.plain.proxy.forwarder.hop, w.plain.proxy.router.hop
	for _, s := range []*stack{w.plain, w.usual} {
		s.discardDone()
	}
	return w
}

// discardDone is for tests with more requests than a stack counts, whose end
// nobody waits for.
func (s *stack) discardDone() {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-s.served.done:
			case <-s.upstream.gone:
			case <-stop:
				return
			}
		}
	})
	s.Cleanup(func() {
		close(stop)
		ended.Wait()
	})
}

// answerWith makes both FHIR servers give this answer and end the connection, but
// answer well what comes last.
func (w *twins) answerWith(raw string) {
	w.answer = raw
	for _, s := range []*stack{w.plain, w.usual} {
		s.upstream.answerWith(func(conn net.Conn, r *received) bool {
			if strings.Contains(r.line, " /fhir/last ") {
				_, err := io.WriteString(conn, emptyAnswer)
				return err == nil
			}
			_, err := io.WriteString(conn, raw)
			return err == nil && raw == emptyAnswer
		})
	}
}

const emptyAnswer = "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 0\r\n\r\n"

// lastRequest follows whatever was made up: what is left of that when it should
// be over becomes a part of it.
var lastRequest = get("/fhir/last", bearerTOK, "Connection: close")

// compare sends the same to both, and fails unless what says comes of it is the
// same. What a client gets that says it won't send more can depend on when it says
// so, and what a FHIR server gets that breaks off, too: then both have more time.
func (w *twins) compare(t *testing.T, raw string, says func(client string, requests []*received) string) {
	t.Helper()
	var got, want string
	for pause := 100 * time.Millisecond; pause < deadline/2; pause *= 3 {
		var both sync.WaitGroup
		both.Go(func() { got = w.plain.madeOf(raw, pause, says) })
		both.Go(func() { want = w.usual.madeOf(raw, pause, says) })
		if both.Wait(); got == want {
			return
		}
	}
	t.Fatalf("%q\nanswered with %q\nas it is:\n%s\nof net/http:\n%s", raw, w.answer, got, want)
}

func (s *stack) madeOf(raw string, pause time.Duration, says func(string, []*received) string) string {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	_, _ = io.WriteString(conn, raw+lastRequest) // the proxy may have had enough before the end
	end := time.AfterFunc(pause, func() { _ = conn.(*net.TCPConn).CloseWrite() })
	defer end.Stop()
	client, err := io.ReadAll(conn)
	if isTimeout(err) {
		s.Errorf("connection stays open after %q", raw)
	}
	var requests []*received
	for len(s.upstream.requests) > 0 {
		requests = append(requests, <-s.upstream.requests)
	}
	text := strings.ReplaceAll(says(dates.ReplaceAllString(string(client), ""), requests), s.upstream.Addr().String(), "upstream")
	return madeIDs.ReplaceAllString(text, "$1 made")
}

// madeIDs are X-Request-Ids that the proxy made.
var madeIDs = regexp.MustCompile(`(X-Request-Id\W+)[0-9a-f-]{32,}`)

// oddParts are what turns a well-formed head into another one.
var oddParts = []string{
	"\r", "\n", "\r\n", "\r\n\r\n", "\r\n ", "\x00", "\t", " ", ":", ";", ",", "%", "/", "?", "#", "\x7f", "\x80", "\v", "a", "_", "-", "HTTP/1.1",
}

// damaged changes a few bytes of a text, or none.
func (c chance) damaged(text string) string {
	for range c.IntN(3) {
		from := c.IntN(len(text) + 1)
		to := min(len(text), from+c.IntN(2))
		text = text[:from] + pick(c, append(oddParts, "")) + text[to:]
	}
	return text
}

// oddFields are what a request may have, or should not have. None frames a body that
// net/http would read, as what comes of half a body depends on the moment.
var oddFields = append(spoofed(), "Host: b", "host: a", "Connection: keep-alive", "Connection: Keep-Alive", "Connection: close",
	"Connection: X-A, X-Launch-Patient", "Content-Length: 0", "Content-Length: +0", "Content_Length: 5", "Transfer-Encoding: identity",
	"Transfer-Encoding : chunked", "Transfer_Encoding: chunked", "TE: trailers", "Trailer: X-A", "Upgrade: h2c", "HTTP2-Settings: x", "Expect: x",
	"Pragma: no-cache", "X-A: 1", "x-a: 2", "X_A: 3", " folded", "X-A:", "X-A:b", "X-A:  b ", "X-A: b\tc", "no colon", ": no name", "X(A: b",
	"User-Agent: a", "User-Agent:", "Cookie: a=b", "Range: bytes=0-1", "Keep-Alive: 5", "Proxy-Connection: x", "Idempotency-Key: 1",
	"X-Request-Id: 1", "Cdn-Loop: x", "X-Forwarded-For: 1.2.3.4", "Authorization: Basic x", bearerTOK, "X-Long: "+strings.Repeat("x", 9000))

// request makes up a request.
func (c chance) message() string {
	raw := pick(c, []string{"GET", "GET", "GET", "HEAD", "HEAD", "OPTIONS", "DELETE", "get", "TRACE"}) + " " +
		pick(c, []string{
			c.target(), "/fhir/Patient/1", "/fhir/metadata", "/livez", "http://a/fhir/Patient", "/fhir/../x", "//fhir/x", "*", "/fhir/%zz",
		}) + " " + pick(c, []string{"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", ""}) + "\r\nHost: fhir.test\r\n" + bearerTOK + "\r\n"
	for range c.IntN(4) {
		raw += pick(c, oddFields) + "\r\n"
	}
	return raw + "\r\n"
}

// TestPropertyRequestIsAsUsual: the FHIR server gets the same requests, and the
// client the same answers.
func TestPropertyRequestIsAsUsual(t *testing.T) {
	c, w := newChance(6), newTwins(t)
	w.answerWith(emptyAnswer)
	for range inputs(t, 250) {
		var raw strings.Builder
		for range 1 + c.IntN(3) {
			raw.WriteString(c.message())
		}
		w.compare(t, c.damaged(raw.String()), func(client string, requests []*received) string {
			heads := strings.Split(client, "\r\n\r\n")
			for i, head := range heads {
				lines := strings.Split(head, "\r\n")
				for j, line := range lines {
					if name, value, ok := strings.Cut(line, ": "); ok {
						lines[j] = http.CanonicalHeaderKey(name) + ": " + value
					}
				}
				heads[i] = fmt.Sprintf("%q", slices.Sorted(slices.Values(lines)))
			}
			for _, r := range requests {
				for i := range r.fields {
					r.fields[i][0] = http.CanonicalHeaderKey(r.fields[i][0])
				}
				slices.SortFunc(r.fields, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
				heads = append(heads, fmt.Sprintf("%s %q", r.line, r.fields))
			}
			return strings.Join(heads, "\n")
		})
	}
}

// answerFields are what a response may have, or should not have.
var answerFields = []string{
	"Content-Length: 5", "Content-Length: 5", "content-length: 6", "Content-Length: 0", "Content-Length: 05", "Content-Length: +5", "Content-Length: 5,5",
	"Content-Length:", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding : chunked",
	"Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Connection: close", "Connection: keep-alive, X-A", "Connection: Content-Length",
	"Trailer: X-T", "Trailer: X-T, X-Launch-Patient", "Trailer: Content-Length", "X-A: 1", "x-a: 2", "X-Launch-Patient: 1", "x_launch_patient: 1",
	"X-Launch-Patient : 1", "Content-Type: text/event-stream", "Content-Type: a", "Set-Cookie: a", "Date: x", "Upgrade: h2c", "X-A: b\x01c", "X A: b", "X-A:",
	" folded", "no colon", ": no name", "Keep-Alive: 5", "Proxy-Authenticate: x", "Content-Encoding: gzip", "ETag: \"1\"",
}

// answer makes up a response, which is short enough to come at once.
func (c chance) answer() string {
	raw := pick(c, []string{
		"", "", "", "", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1  100 Continue\r\n\r\n", "HTTP/1.1 103 Hints\r\nX-Launch-Patient: 1\r\n\r\n",
		"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n",
	}) + pick(c, []string{"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"}) + " " +
		pick(c, []string{
			"200 OK", "200 OK", "200 OK", "200", " 200 OK", "204 No", "205 Reset", "206 Part", "304 Not", "401 No", "500 No", "999 Odd", "099 Odd", "20 x",
			"2000 x", "x", "101 Switch", "199 x",
		}) + "\r\n"
	for range c.IntN(4) {
		raw += pick(c, answerFields) + "\r\n"
	}
	return raw + "\r\n" + pick(c, []string{
		"", "hello", "hello", "hel", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;x=y\r\nhello\r\n0\r\nX-T: 1\r\nX-Launch-Patient: 1\r\n\r\n", "5\r\nhel",
		"5\nhello\n0\n\n", "0\r\n\r\n", "-1\r\nh\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "0\r\nContent-Length: 7\r\n\r\n", "hello" + emptyAnswer,
	})
}

// TestPropertyAnswerIsAsUsual: the client gets the same answers, and the next one
// begins where it should.
func TestPropertyAnswerIsAsUsual(t *testing.T) {
	quietLog(t)
	c, w := newChance(7), newTwins(t)
	for range inputs(t, 250) {
		w.answerWith(c.damaged(c.answer()))
		method := pick(c, []string{"GET", "GET", "HEAD"})
		w.compare(t, message(method, "/fhir/Patient/1", "", bearerTOK), func(client string, _ []*received) string {
			return read(client, method) // http.Transport may ask again
		})
	}
}

// read tells what a client understands. Of what breaks off it only tells that it does:
// ReverseProxy sends the head from a goroutine of its own, which may be too late.
func read(client, method string) string {
	r := bufio.NewReader(strings.NewReader(client))
	var out strings.Builder
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return out.String()
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return out.String()
		}
		res.Header.Del("Content-Length") // net/http gives a short stream one
		fmt.Fprintf(&out, "%s %q %q %q %t\n", res.Status, res.Header, body, res.Trailer, res.Close)
		method = http.MethodGet
	}
}
