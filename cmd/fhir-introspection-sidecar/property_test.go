package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

var properties = flag.Int("properties", 1, "how many times as many inputs the property tests make up")

// inputs returns how many inputs a property test makes up when its usual number is n.
func inputs(t *testing.T, n int) int {
	t.Helper()
	if testing.Short() {
		t.Skip("making up many inputs takes more than two seconds")
	}
	return *properties * n
}

// stranger makes up requests: pieces of good and of bad ones, in any order.
type stranger struct {
	*rand.Rand
	tokens []string
	odd    int // how many pieces of a hundred are bad
}

func (s *stranger) one(of ...string) string { return of[s.IntN(len(of))] }

// some is the usual text, or now and then one of the others.
func (s *stranger) some(usual string, others ...string) string {
	if s.IntN(100) >= s.odd {
		return usual
	}
	return s.one(others...)
}

// hidden is a request that must never be taken for one where it stands in a body.
// Where it may stand it lacks a token.
const hidden = "GET /fhir/Patient/hidden HTTP/1.1\r\nHost: fhir.test\r\nX-Launch-Patient: evil\r\n\r\n"

func (s *stranger) target() string {
	usual := s.one("/fhir/metadata", "/fhir/.well-known/smart-configuration", "/fhir/Patient/1", "/fhir", "/fhir/Patient?name=x")
	odd := s.one("/fhir", "", "http://other.test/fhir", "//fhir", "*", "fhir.test:80", "/FHIR", "/fhir%2f")
	for range s.IntN(4) {
		odd += s.one("/metadata", "/.well-known/smart-configuration", "/Patient", "/", "/.", "/..", "/%2e%2e", "/..;x", ";x", "%2f", "%2F", "%5c", `\`,
			"%00", "%23", "#", "%3f", "?", "?access_token=x", "%20", "\t", "/metadata/", "/METADATA", "/metadat%61", "metadata", "/livez", "é", "%c0%ae")
	}
	return s.some(usual, odd)
}

func (s *stranger) authorization() string {
	token := s.one("good", s.one(s.tokens...))
	name := s.some(s.one("Authorization", "authorization"), "Authorization ", "Authorization\t", " Authorization", "X-Authorization", "Proxy-Authorization")
	return name + ": " + s.some(s.one("Bearer ", "bearer  ")+token,
		"Bearer", "Bearer\t"+token, "Basic dTpw", "Bearer "+token+", Bearer "+token, "Bearer "+token+" "+token, "Bearer "+token+"\x00", "Bearer "+token+"/", "")
}

func (s *stranger) field() string {
	return s.some(
		s.one("X-Launch-Patient: evil", "x_launch_patient: evil", "X.Launch~User: evil", "Connection: X-Launch-Patient, authorization", "Upgrade: websocket",
			"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", "TE: trailers", "Trailer: X-Launch-Patient", "X-HTTP-Method-Override: GET", "X-Original-URL: /fhir/metadata",
			"X-Forwarded-Uri: /fhir/metadata", "Origin: https://app.test", "Access-Control-Request-Method: PUT", "Cookie: a=b", "Range: bytes=0-1", "X-Request-Id: id"),
		"X-Launch-Patient : evil", "X-Launch-Patient:\r\n evil", "Connection: close", "Connection: Upgrade\r\nUpgrade: h2c", "Expect: 100-continue", "Expect: 100-continue, x",
		"Content-Length: 2", "Content-Length: 0", "Content-Length: +2", "Content-Length: 2, 2", "Content-Length : 2", "Content-Length: -1", fmt.Sprint("Content-Length: ", len(hidden)),
		"Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding : chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding:\tchunked",
		"Host: other.test", "Host: a,b", "Host: fhir.test\r\nHost: fhir.test", "X: a\nY: b", "X: \x00", "X", ": y")
}

// body is how a request may go on after its fields, framing included.
func (s *stranger) body() string {
	return s.some(s.one("\r\n", "Content-Length: 2\r\n\r\n{}", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(hidden), hidden),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Launch-Patient: evil\r\n\r\n", len(hidden), hidden)),
		"\n", "", "\r\n"+hidden, "Content-Length: 3\r\n\r\n{}", "Content-Length: 1\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+hidden,
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+hidden, "Transfer-Encoding: chunked\r\n\r\n2;x\r\n{}\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x0\r\n\r\n")
}

// request is the bytes of one request, or of nearly one.
func (s *stranger) request() string {
	s.odd = []int{0, 1, 5, 20}[s.IntN(4)]
	line := s.some(s.one("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), "TRACE", "CONNECT", "get", "G\x00T", "PRI") +
		s.some(" ", "  ", "\t") + s.target() + s.some(" HTTP/1.1", " HTTP/1.0", " HTTP/2.0", " HTTP/0.9", "", " HTTP/1.1 ")
	fields := []string{s.some("Host: fhir.test", "Host: other.test", "X-No-Host: x")}
	if s.IntN(3) > 0 {
		fields = append(fields, s.authorization())
	}
	if s.some("", "twice") != "" {
		fields = append(fields, s.authorization())
	}
	for range s.IntN(5) {
		fields = append(fields, s.field())
	}
	s.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	var b strings.Builder
	for _, part := range append([]string{line}, fields...) {
		b.WriteString(part + s.some("\r\n", "\n", "\r\n\r\n", "\r"))
	}
	return b.String() + s.body()
}

// closing completes whatever a server may still wait for, and ends the connection.
var closing = strings.Repeat("\r\n0\r\n\r\nGET /fhir/metadata HTTP/1.1\r\nHost: fhir.test\r\nConnection: close\r\n\r\n", 4)

// TestPropertyVerdict sends what strangers could send, with tokens on
// which the authorization server answers in every way it can. Whatever arrives at
// the FHIR server is a request for a public path, a preflight, or has one token
// that was called active in a response that a careful client believes; and its
// context headers are from that answer.
func TestPropertyVerdict(t *testing.T) {
	t.Parallel()
	requests := inputs(t, 4_000)
	w := start(t, env{"INTROSPECTION_TIMEOUT": "1s", "CACHE_INACTIVE_AGE": "100ms", "CACHE_NO_EXP_AGE": "100ms"})
	active, tokens := map[string]bool{"good": true}, []string(nil)
	for i, deviation := range introspectiontest.Deviations() {
		token := fmt.Sprint("deviation-", i)
		w.as.AddToken(token, w.as.Claims())
		w.as.SetAnswerFor(token, deviation.Answer)
		active[token] = deviation.Verdict == introspectiontest.Active
		tokens = append(tokens, token)
	}
	const clients = 8
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			s := &stranger{Rand: rand.New(rand.NewPCG(uint64(i), 7)), tokens: tokens}
			for range requests / clients / 2 { // two at a time
				if err := w.tell(s.request() + s.request() + closing); err != nil {
					t.Errorf("w.tell: got error %v, want none", err)
					return
				}
			}
		})
	}
	wg.Wait()
	verified := 0
	for _, r := range w.up.all() {
		if token := r.entitled(t, active); token != "" {
			verified++
		}
	}
	t.Logf("%d requests arrived, %d of them with a token", w.up.count(), verified)
	if want := requests / 16; verified < want {
		t.Errorf("%d requests with a token arrived, want at least %d, or this proves nothing", verified, want)
	}
}

// tell writes bytes and waits until the sidecar has closed the connection.
func (w *world) tell(raw string) error {
	c, err := dialPlain(w.data)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	// The response may come, and the connection close, before all is written.
	_, _ = io.WriteString(c, raw)
	if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
		return fmt.Errorf("connection stays open after %q", raw)
	}
	return nil
}
