package proxy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// The tests of this file hold for every input, so they make up as many as there
// is time for.
var properties = flag.Int("properties", 1, "how many times as many inputs the property tests make up")

// inputs returns how many inputs a property test makes up when its usual number is n.
func inputs(t *testing.T, n int) int {
	t.Helper()
	if testing.Short() {
		t.Skip("making up many inputs takes more than two seconds")
	}
	return *properties * n
}

// chance makes up inputs, the same ones on every run.
type chance struct{ *rand.Rand }

func newChance(seed uint64) chance { return chance{rand.New(rand.NewPCG(seed, 2026))} }

func pick[T any](c chance, from []T) T { return from[c.IntN(len(from))] }

// text makes a text of n parts, each a string of the list.
func (c chance) text(n int, parts []string) string {
	var b strings.Builder
	for range n {
		b.WriteString(pick(c, parts))
	}
	return b.String()
}

// mutated spells a name as no client should: other cases, other separators, and
// now and then a letter more, less or other.
func (c chance) mutated(name string) string {
	b := []byte(name)
	for i := range b {
		switch {
		case b[i] == '-':
			b[i] = tokenSeparators[c.IntN(len(tokenSeparators))]
		case c.IntN(2) == 0 && b[i]|0x20 >= 'a' && b[i]|0x20 <= 'z':
			b[i] ^= 0x20
		}
	}
	if c.IntN(8) == 0 {
		at := c.IntN(len(b))
		switch odd := tokenSeparators[c.IntN(len(tokenSeparators))]; c.IntN(3) {
		case 0:
			b = append(b[:at], b[at+1:]...)
		case 1:
			b[at] = odd
		case 2:
			b = append(b[:at], append([]byte{odd}, b[at:]...)...)
		}
	}
	return string(b)
}

// forgedName is a name that could be read as a context header, or nearly.
func (c chance) forgedName() string {
	suffixes := []string{"", "Patient", "Other", "X-Launch-Patient"}
	for _, header := range ContextHeaders() {
		suffixes = append(suffixes, header.Suffix)
	}
	return c.mutated("X-Launch-" + pick(c, suffixes))
}

// keptClient is a client that dials again when its connection was closed.
type keptClient struct {
	*stack
	c *client
}

func (k *keptClient) do(raw string) answer {
	k.Helper()
	if k.c == nil {
		k.c = k.dial()
	}
	k.c.send(raw)
	method, _, _ := strings.Cut(raw, " ")
	a := k.c.receive(method)
	if a.Close {
		_ = k.c.Close()
		k.c = nil
	}
	k.wait(1)
	return a
}

// forgedFields is how many headers each request of TestPropertyContext forges.
const forgedFields = 100

// TestPropertyContext: whatever a client calls its headers and trailers, and
// whatever it nominates in Connection, each context header that arrives stands
// there once and has the value from the verdict.
func TestPropertyContext(t *testing.T) {
	c, s := newChance(1), newStack(t)
	s.verdicts.answers["BARE"] = decode(t, `{"active":true}`)
	k := &keptClient{stack: s}
	for range inputs(t, 500) {
		var fields, trailers, nominated strings.Builder
		for range forgedFields {
			name := c.forgedName()
			switch c.IntN(4) {
			case 0:
				nominated.WriteString(pick(c, []string{",", ", ", " ,\t"}) + name)
			case 1:
				trailers.WriteString(name + ": evil\r\n")
			}
			fields.WriteString(name + pick(c, []string{":", ": ", ":\t "}) + "evil\r\n")
		}
		fields.WriteString("Connection: keep-alive" + nominated.String() + "\r\n")
		line, token := "POST /fhir/Patient", pick(c, []string{"TOK", "BARE"})
		switch c.IntN(6) {
		case 0:
			line, token = "GET /fhir/metadata", ""
		case 1:
			line, token = "OPTIONS /fhir/Patient", ""
			fields.WriteString("Origin: https://app.test\r\nAccess-Control-Request-Method: PUT\r\n")
		default:
			fields.WriteString("Authorization: Bearer " + token + "\r\n")
		}
		body := "\r\n"
		if strings.HasPrefix(line, "POST") && c.IntN(2) == 0 {
			if c.IntN(2) == 0 {
				fields.WriteString("Trailer: " + strings.TrimPrefix(nominated.String(), ",") + "\r\n")
			}
			body = "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + trailers.String() + "\r\n"
		}
		raw := line + " HTTP/1.1\r\nHost: fhir.test\r\n" + fields.String() + body
		// A Trailer field that names what can't be a trailer is net/http's to refuse.
		if a := k.do(raw); a.StatusCode != http.StatusOK {
			t.Fatalf("got status %d for %q, want 200", a.StatusCode, raw)
		}
		if s.upstream.got().checkContext(t, token); t.Failed() {
			t.Fatalf("got another context for %q, want that of the token", raw)
		}
	}
}

// checkContext: the token's context headers, once each, and nothing like them.
func (r *received) checkContext(t *testing.T, token string) {
	t.Helper()
	if token == "TOK" {
		r.checkSeed(t)
	} else if names := r.family(); len(names) > 0 {
		t.Errorf("FHIR server got %q, want no context headers", names)
	}
	if len(r.trailer) > 0 || len(r.all("Trailer")) > 0 || len(r.all("Connection")) > 0 {
		t.Errorf("FHIR server got trailers %q and %q, want none, and no Connection", r.trailer, r.fields)
	}
}

// TestPropertyContextHTTP2 is the same over HTTP/2, where names are in lower
// case and Connection can't be sent.
func TestPropertyContextHTTP2(t *testing.T) {
	c, s := newChance(2), newStack(t)
	client, address := s.startHTTP2()
	for range inputs(t, 50) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", address+"/fhir/Patient", io.MultiReader(strings.NewReader("{}")))
		if err != nil {
			t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
		}
		r.Trailer = http.Header{}
		for range forgedFields {
			name := strings.ToLower(c.forgedName())
			if r.Header[name] = []string{"evil", "evil"}; c.IntN(4) == 0 {
				r.Trailer[http.CanonicalHeaderKey(name)] = []string{"evil"}
			}
		}
		r.Header.Set("Authorization", "Bearer TOK")
		if status, _ := fetchHTTP2(t, client, r); status != http.StatusOK {
			t.Fatalf("got status %d for %q, want 200", status, r.Header)
		}
		if s.upstream.got().checkContext(t, "TOK"); t.Failed() {
			t.Fatalf("got another context for %q with trailers %q, want that of the token", r.Header, r.Trailer)
		}
	}
}

// startHTTP2 serves the proxy over TLS as well.
func (s *stack) startHTTP2() (*http.Client, string) {
	s.Helper()
	server := httptest.NewUnstartedServer(s.proxy)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	s.Cleanup(server.Close)
	return server.Client(), server.URL
}

func fetchHTTP2(t *testing.T, client *http.Client, r *http.Request) (status int, body string) {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatalf("client.Do: got error %v, want none", err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || response.ProtoMajor != 2 {
		t.Fatalf("got %s (%v), want HTTP/2", response.Proto, err)
	}
	return response.StatusCode, string(b)
}

// pathParts are what may stand in a path segment, raw and encoded.
var pathParts = append(strings.Split("a Z 0 - _ . ~ ! $ & ' ( ) * + , = : @ | \" < > [ ] ^ ` { } é 日 😀", " "),
	"%20", "%25", "%3B", "%3f", "%23", "%c3%A9", "%E6%97%A5", "%7C", "%24", "%252e", "%252F")

// target makes up a request target below the base: a path that has one reading,
// and a query with any byte that net/http takes.
func (c chance) target() string {
	target := "/fhir"
	for range c.IntN(4) {
		target += "/" + pick(c, []string{"Patient", "x", "~", ".x"}) + c.text(c.IntN(12), pathParts)
	}
	if c.IntN(5) == 0 {
		target += "/"
	}
	if c.IntN(3) > 0 {
		query := make([]byte, c.IntN(64))
		for i := range query {
			for query[i] <= ' ' || query[i] == 0x7f {
				query[i] = byte(c.Uint32())
			}
		}
		target += "?" + string(query)
	}
	return target
}

// bytes makes up n bytes.
func (c chance) bytes(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return string(b)
}

func (c chance) bodySize() int {
	return pick(c, []int{0, 1, 2, c.IntN(100), c.IntN(5000), c.IntN(100_000)})
}

var bodyMethods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// TestPropertyBytes: method, path, query and body arrive byte for byte, and
// so does the response, whatever its framing.
func TestPropertyBytes(t *testing.T) {
	c, s := newChance(3), newStack(t)
	answers := newAnswers(s)
	k := &keptClient{stack: s}
	for range inputs(t, 375) {
		method, target, body := pick(c, bodyMethods), c.target(), c.bytes(c.bodySize())
		want := c.bytes(c.bodySize())
		answers <- c.framed(want)
		raw := message(method, target, body, bearerTOK)
		if c.IntN(2) == 0 {
			raw = fmt.Sprintf("%s %s HTTP/1.1\r\nHost: fhir.test\r\n%s\r\nTransfer-Encoding: chunked\r\n\r\n%s", method, target, bearerTOK, c.chunks(body))
		}
		a := k.do(raw)
		if a.StatusCode != http.StatusOK || a.err != nil || sha256.Sum256([]byte(a.body)) != sha256.Sum256([]byte(want)) {
			t.Fatalf("%s %q: status %d, %v, %d bytes of %d", method, target, a.StatusCode, a.err, len(a.body), len(want))
		}
		s.upstream.got().checkBytes(t, method, target, body)
	}
}

// newAnswers makes the upstream write what is put into the channel.
func newAnswers(s *stack) chan string {
	answers := make(chan string, 1)
	s.upstream.answer = func(conn net.Conn, _ *received) bool {
		_, err := io.WriteString(conn, <-answers)
		return err == nil
	}
	return answers
}

func (r *received) checkBytes(t *testing.T, method, target, body string) {
	t.Helper()
	if want := method + " " + target + " HTTP/1.1"; r.line != want {
		t.Fatalf("FHIR server got %q, want %q", r.line, want)
	}
	if sha256.Sum256([]byte(r.body)) != sha256.Sum256([]byte(body)) {
		t.Fatalf("%s %q: FHIR server got another body of %d bytes, want %d", method, target, len(r.body), len(body))
	}
}

// chunks frames a body in chunks of any size.
func (c chance) chunks(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := 1 + c.IntN(len(body))
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, pick(c, []string{"", ";x=y", `;x="z"`}), body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// framed is a response with this body.
func (c chance) framed(body string) string {
	if c.IntN(2) == 0 {
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + c.chunks(body)
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// TestPropertyBytesHTTP2 is the same for a client that speaks HTTP/2.
func TestPropertyBytesHTTP2(t *testing.T) {
	c, s := newChance(4), newStack(t)
	answers := newAnswers(s)
	client, address := s.startHTTP2()
	host := strings.TrimPrefix(address, "https://")
	for range inputs(t, 125) {
		method, target, body := pick(c, bodyMethods), c.target(), c.bytes(c.bodySize())
		want := c.bytes(c.bodySize())
		answers <- c.framed(want)
		var reader io.Reader = strings.NewReader(body)
		if c.IntN(2) == 0 {
			reader = io.MultiReader(reader) // of unknown length
		}
		r, err := http.NewRequestWithContext(t.Context(), method, address, reader)
		if err != nil {
			t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
		}
		path, query, hasQuery := strings.Cut(target, "?")
		r.URL = &url.URL{Scheme: "https", Host: host, Opaque: path, RawQuery: query, ForceQuery: hasQuery}
		r.Header.Set("Authorization", "Bearer TOK")
		status, got := fetchHTTP2(t, client, r)
		if status != http.StatusOK || sha256.Sum256([]byte(got)) != sha256.Sum256([]byte(want)) {
			t.Fatalf("%s %q: status %d, %d bytes of %d", method, target, status, len(got), len(want))
		}
		s.upstream.got().checkBytes(t, method, target, body)
	}
}

// patients is a world in which token T17 is about patient P17, for a few seconds
// of its own clock.
type patients struct {
	elapsed atomic.Int64
	asked   atomic.Int64
	cache   *cache.Cache
}

func (p *patients) now() time.Time { return time.Unix(1_800_000_000, p.elapsed.Load()) }

func (p *patients) introspect(_ context.Context, token string) (*introspection.Response, error) {
	switch n := p.asked.Add(1); n % 50 {
	case 0:
		return nil, introspection.ErrInactive
	case 1:
		return nil, &introspection.Failure{Kind: introspection.ErrUnavailable}
	default:
		number := strings.TrimPrefix(token, "T")
		return introspectiontest.Decode(fmt.Appendf(nil, `{"active":true,"exp":%d,"patient":"P%s","sub":"S%s","client_id":"C%s"}`,
			p.now().Unix()+1+n%3, number, number, number), introspection.NewClaimSet(introspection.Patient), p.now())
	}
}

// disturb makes time pass, or the cache forget.
func (p *patients) disturb(c chance) {
	number := strconv.Itoa(c.IntN(patientTokens))
	digest := sha256.Sum256([]byte("T" + number))
	switch c.IntN(2000) {
	case 0:
		p.elapsed.Add(int64(time.Second) / 2)
	case 1:
		p.cache.Purge(cache.Filter{})
	case 2:
		p.cache.Purge(cache.Filter{Patient: "P" + number})
	case 3:
		p.cache.Purge(cache.Filter{TokenSHA256: &digest})
	}
}

const (
	patientTokens  = 1000
	patientClients = 32
)

// newPatients has a cache that is too small for all tokens.
func newPatients(t *testing.T) *patients {
	t.Helper()
	p := &patients{}
	c, err := cache.New(cache.Config{
		Source: introspectorFunc(p.introspect), Authority: func() string { return "as" }, Timeout: time.Minute,
		MaxEntries: patientTokens / 3, InactiveAge: time.Second, Now: p.now,
		Elapsed: func() time.Duration { return time.Duration(p.elapsed.Load()) },
	})
	if err != nil {
		t.Fatalf("cache.New: got error %v, want none", err)
	}
	t.Cleanup(c.Close)
	p.cache = c
	return p
}

// load has many clients ask at once. ask sends one request with the token of this
// number and reports whether it was allowed.
func (p *patients) load(t *testing.T, requests int, ask func(c chance, client, number int) bool) {
	t.Helper()
	var left, allowed atomic.Int64
	left.Store(int64(requests))
	var clients sync.WaitGroup
	for i := range patientClients {
		clients.Go(func() {
			c := newChance(uint64(i))
			for left.Add(-1) >= 0 && !t.Failed() {
				p.disturb(c)
				// Some tokens are used more than others.
				if ask(c, i, c.IntN(1+c.IntN(patientTokens))) {
					allowed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	// Of 50 calls two are no verdict, and some clients leave.
	if n := allowed.Load(); n < int64(requests)/2 {
		t.Errorf("got %d allowed requests of %d, want at least half", n, requests)
	}
	t.Logf("%d requests, %d allowed, %d introspections", requests, allowed.Load(), p.asked.Load())
}

// answerFor is the body for a request, if its headers are those of one token.
func answerFor(t *testing.T, one func(name string) string) string {
	t.Helper()
	token, patient := one("Authorization"), one("X-Launch-Patient")
	number, ok := strings.CutPrefix(token, "Bearer T")
	if !ok || patient != "P"+number || one("X-Launch-Subject") != "S"+number || one("X-Launch-Client-Id") != "C"+number {
		t.Errorf("%q arrives with patient %q, want the token's", token, patient)
	}
	return patient + " " + one("X-Request-Id")
}

// TestPropertyPatients: under load, with a cache that is too small, that
// expires and is purged, no request arrives with the patient of another token.
func TestPropertyPatients(t *testing.T) {
	world := newPatients(t)
	config := unitConfig(world.cache)
	config.Now = world.now
	config.Upstream = newMemoryServer(t, func(head string) string {
		body := answerFor(t, func(name string) string {
			values := regexp.MustCompile(`(?m)^`+name+`: (.*)\r$`).FindAllStringSubmatch(head, -1)
			if len(values) != 1 {
				t.Errorf("got %s with values %q, want one", name, values)
				return ""
			}
			return values[0][1]
		})
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	p, err := New(config)
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	t.Cleanup(p.CloseIdleConnections)
	var ids atomic.Int64
	world.load(t, inputs(t, 25_000), func(c chance, _, number int) bool {
		id := fmt.Sprint("id-", ids.Add(1))
		r := httptest.NewRequestWithContext(t.Context(), pick(c, []string{"GET", "DELETE"}), "/fhir/Observation/1", nil)
		r.Header = http.Header{
			"Authorization": {fmt.Sprint("Bearer T", number)}, "X-Request-Id": {id}, "X-Launch-Patient": {"P0"}, "User-Agent": {""},
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if want := fmt.Sprintf("P%d %s", number, id); w.Code == http.StatusOK && w.Body.String() != want {
			t.Errorf("asked for %q and got %q", want, w.Body)
		}
		return w.Code == http.StatusOK
	})
}

// TestPropertyAnswers is the same over connections that are shared, with
// clients that leave before their response: it never goes to the next one.
func TestPropertyAnswers(t *testing.T) {
	world := newPatients(t)
	s := newStack(t, func(config *Config) {
		config.Introspector, config.Now, config.Logger = world.cache, world.now, nil
	})
	s.discardReceived()
	s.upstream.answer = func(conn net.Conn, r *received) bool {
		body := answerFor(t, func(name string) string { return r.one(t, name) })
		if rand.IntN(16) == 0 {
			time.Sleep(10 * time.Millisecond) // when the fast path begins to watch the client
		}
		var err error
		switch rand.IntN(3) {
		case 0:
			_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		case 1:
			_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", body[:1], len(body)-1, body[1:])
		case 2:
			_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Body\r\n\r\n0\r\nX-Body: %s\r\n\r\n", body)
		}
		return err == nil
	}
	stop := make(chan struct{})
	var drain sync.WaitGroup
	drain.Go(func() {
		for {
			select {
			case <-s.served.done:
			case <-stop:
				return
			}
		}
	})
	defer drain.Wait()
	defer close(stop)
	var clients [patientClients]sharingClient
	world.load(t, inputs(t, 2_500), func(c chance, client, number int) bool {
		clients[client].stack = s
		return clients[client].ask(c, number)
	})
	for i := range clients {
		clients[i].hangUp()
	}
}

// sharingClient is one of many, whose requests share the connections to the FHIR
// server. Its methods don't end the test, because it has a goroutine of its own.
type sharingClient struct {
	*stack
	conn  net.Conn
	r     *bufio.Reader
	asked int
}

func (s *sharingClient) hangUp() {
	if s.conn != nil {
		_ = s.conn.(*net.TCPConn).SetLinger(0) // so that the proxy can't send what is left
		_ = s.conn.Close()
		s.conn = nil
	}
}

func (s *sharingClient) ask(c chance, number int) bool {
	if s.conn == nil {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			s.Error(err)
			return false
		}
		s.conn, s.r = conn, bufio.NewReader(conn)
	}
	_ = s.conn.SetDeadline(time.Now().Add(deadline))
	var ids []string
	var raw strings.Builder
	posts := c.IntN(20) == 0
	for range 1 + c.IntN(8)/7 {
		s.asked++
		id := fmt.Sprintf("%p-%d", s, s.asked)
		ids = append(ids, id)
		fields := []string{fmt.Sprint("Authorization: Bearer T", number), "X-Request-Id: " + id, "X-Launch-Patient: P0"}
		if posts {
			raw.WriteString(message("POST", "/fhir/Observation/_search", "code=x", fields...))
		} else {
			raw.WriteString(get("/fhir/Observation", fields...))
		}
	}
	// What doesn't belong to the first request may come with it, or later.
	now, later := raw.String(), ""
	if one := len(now) / len(ids); len(ids) > 1 {
		cut := one + c.IntN(one+1)
		now, later = now[:cut], now[cut:]
	}
	leaves := c.IntN(100) == 0
	if leaves && c.IntN(2) == 0 {
		now += "G"
	}
	if _, err := io.WriteString(s.conn, now); err != nil {
		s.Error(err)
	}
	if leaves {
		s.hangUp()
		return false
	}
	all := true
	for i, id := range ids {
		all = s.answered(fmt.Sprintf("P%d %s", number, id)) && all
		if i == 0 && later != "" && s.conn != nil {
			_, _ = io.WriteString(s.conn, later)
		}
		if s.conn == nil {
			return false
		}
	}
	if posts {
		s.hangUp() // net/http has the connection now
	}
	return all
}

// answered reads a response and reports whether it allowed the request.
func (s *sharingClient) answered(want string) bool {
	response, err := http.ReadResponse(s.r, nil)
	if err != nil {
		s.Error(err)
		s.hangUp()
		return false
	}
	body, err := io.ReadAll(response.Body)
	if len(body) == 0 {
		body = []byte(response.Trailer.Get("X-Body"))
	}
	if response.Close {
		s.hangUp()
	}
	switch {
	case response.StatusCode == http.StatusOK && string(body) == want && err == nil:
		return true
	case response.StatusCode == http.StatusOK || err != nil:
		s.Errorf("asked for %q and got %q, %v", want, body, err)
	case response.StatusCode != http.StatusUnauthorized && response.StatusCode != http.StatusServiceUnavailable:
		s.Errorf("status %d", response.StatusCode)
	}
	return false
}
