package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// echoed is what the FHIR server of TestPropertyPipelines says about a request: whose it
// was, which one, and what was in it.
func echoed(patient, id, method, body string) string {
	return strings.Join([]string{patient, id, method, body}, " ")
}

// smuggled is a body that would be another patient's request.
const smuggled = "GET /fhir/Patient/0 HTTP/1.1\r\nHost: f\r\nAuthorization: Bearer T0\r\nX-Request-Id: smuggled\r\n\r\n"

// pipelined makes up a request of a token, and says what the response to it is.
func (c chance) pipelined(token int, id string) (raw, want string) {
	method := pick(c, []string{"GET", "POST", "PUT", "PATCH", "DELETE", "POST"})
	body := pick(c, []string{"", smuggled, strings.Repeat(smuggled, 1+c.IntN(10)), strings.Repeat("x", c.IntN(70_000)), "0\r\n\r\n" + smuggled})
	fields := []string{fmt.Sprint("Authorization: Bearer T", token), "X-Request-Id: " + id}
	if c.IntN(4) == 0 {
		fields = append(fields, pick(c, []string{"Connection: Keep-Alive", "Connection: Upgrade, HTTP2-Settings", "X-Launch-Patient: P0", "X-A: b\tc"}))
	}
	head := method + " /fhir/Patient/1 HTTP/1.1\r\nHost: fhir.test\r\n" + strings.Join(fields, "\r\n") + "\r\n"
	switch {
	case body == "":
		raw = head + "\r\n"
	case c.IntN(2) == 0:
		raw = fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	default:
		raw = head + "Transfer-Encoding: chunked\r\n\r\n"
		for rest := body; rest != ""; {
			n := 1 + c.IntN(len(rest))
			raw += fmt.Sprintf("%x%s\r\n%s\r\n", n, pick(c, []string{"", "", ";a=b"}), rest[:n])
			rest = rest[n:]
		}
		raw += pick(c, []string{"0\r\n\r\n", "0\r\nX-Launch-Patient: P0\r\n\r\n"})
	}
	return raw, echoed(fmt.Sprint("P", token), id, method, body)
}

// TestPropertyPipelines: of many clients who send requests with bodies one after the
// other without waiting, in parts of any size, some of whom leave, each gets the
// responses to its own, in their order, and each request arrives whole with its own
// token's patient.
func TestPropertyPipelines(t *testing.T) {
	introspect := introspectorFunc(func(_ context.Context, token string) (*introspection.Response, error) {
		return decode(t, fmt.Sprintf(`{"active":true,"exp":%d,"patient":"P%s"}`, farExp, strings.TrimPrefix(token, "T"))), nil
	})
	s := newStack(t, func(config *Config) { config.Introspector, config.Logger = introspect, slog.New(slog.DiscardHandler) })
	s.discardReceived()
	s.discardDone()
	s.upstream.answer = func(conn net.Conn, r *received) bool {
		method, _, _ := strings.Cut(r.line, " ")
		body := echoed(r.one(t, "X-Launch-Patient"), r.one(t, "X-Request-Id"), method, r.body)
		half := len(body) / 2
		var err error
		switch rand.IntN(3) {
		case 0:
			_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		case 1:
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", half, body[:half])
			_, err = fmt.Fprintf(conn, "%x;x\r\n%s\r\n0\r\n\r\n", len(body)-half, body[half:])
		case 2:
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:half])
			_, err = io.WriteString(conn, body[half:])
		}
		return err == nil && rand.IntN(20) > 0 // it may close unannounced
	}
	var clients sync.WaitGroup
	var whole atomic.Int64
	rounds := inputs(t, 40)
	for client := range 16 {
		clients.Go(func() {
			c := newChance(uint64(client))
			for round := range rounds {
				n, err := s.pipeline(c, 1+client, fmt.Sprint(client, "-", round, "-"))
				if whole.Add(int64(n)); err != nil {
					t.Errorf("client %d, round %d: %v", client, round, err)
				}
			}
		})
	}
	clients.Wait()
	if n := whole.Load(); n < int64(16*rounds) {
		t.Errorf("got %d whole responses, want one a round at least", n)
	}
}

// pipeline sends a few requests over a connection of its own, reads the responses, and
// returns how many were whole.
func (s *stack) pipeline(c chance, token int, ids string) (whole int, err error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	var raw strings.Builder
	var wants []string
	for i := range 1 + c.IntN(5) {
		request, want := c.pipelined(token, fmt.Sprint(ids, i))
		raw.WriteString(request)
		wants = append(wants, want)
	}
	sent := raw.String()
	leaves := c.IntN(8) == 0
	if leaves {
		sent = sent[:c.IntN(len(sent))]
	}
	parts := chance{rand.New(rand.NewPCG(c.Uint64(), 1))} // for a goroutine of its own
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for sent != "" {
			n := 1 + parts.IntN(len(sent))
			if _, err := io.WriteString(conn, sent[:n]); err != nil {
				return
			}
			sent = sent[n:]
			if parts.IntN(3) == 0 {
				time.Sleep(time.Duration(parts.IntN(15)) * time.Millisecond)
			}
		}
		if leaves {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	})
	r := bufio.NewReader(conn)
	for i, want := range wants {
		if err := readWhole(r, want); err != nil {
			var closed *closedError
			if leaves || errors.As(err, &closed) && closed.may {
				return i, nil
			}
			return i, fmt.Errorf("response %d: %w", i, err)
		}
	}
	return len(wants), nil
}

// closedError says that a response was the last one, or broke off.
type closedError struct {
	error
	may bool // as the FHIR server may have closed its connection
}

// readWhole reads a response and compares it.
func readWhole(r *bufio.Reader, want string) error {
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return &closedError{err, false}
	}
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return &closedError{err, false}
	case response.StatusCode == http.StatusBadGateway:
		return &closedError{errors.New("502"), true} // what may have been carried out isn't sent again
	case response.StatusCode != http.StatusOK || string(body) != want:
		return fmt.Errorf("got %s %.80q (%d bytes), want 200 %.80q (%d)", response.Status, body, len(body), want, len(want))
	case response.Close:
		return &closedError{errors.New("closed"), true} // net/http has read a chunked body
	}
	return nil
}
