package transport

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// junk is how many tokens each hostile server gets. The figure of
// docs/decisions/0012-one-exchange-a-connection.md is for -junk 5000, 100,000 in all.
var junk = flag.Int("junk", 100, "tokens that each hostile server is asked about")

const (
	inactive = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + `{"active":false}`
	active   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + `{"active":true}`
)

// serveRaw answers each connection with handle, which owns it.
func serveRaw(t *testing.T, conf *tls.Config, handle func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	address = listener.Addr().String()
	if conf != nil {
		listener = tls.NewListener(listener, conf)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				handle(conn)
			})
		}
	})
	return address
}

// readRequest returns the body of the next request.
func readRequest(in *bufio.Reader) (string, error) {
	req, err := http.ReadRequest(in)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(req.Body)
	return string(body), err
}

// surplus answers every request with inactive, and with active behind it, which a
// gateway does that relays a late response.
func surplus(delay time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		for in := bufio.NewReader(conn); ; {
			if _, err := readRequest(in); err != nil {
				return
			}
			answer := inactive
			if delay == 0 {
				answer += active
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
			if delay > 0 {
				for until := time.Now().Add(delay); time.Now().Before(until); { // sleep is not that short
				}
				_, _ = io.WriteString(conn, active)
			}
		}
	}
}

// TestSurplusIsNobodysVerdict: whatever a server sends besides its response, and
// whenever, no other token is answered by it.
func TestSurplusIsNobodysVerdict(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	ca := introspectiontest.NewAuthority(t, "ca")
	secure := &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", nil)}, NextProtos: []string{"http/1.1"}}
	for scheme, conf := range map[string]*tls.Config{"http": nil, "https": secure} {
		for _, delay := range []time.Duration{0, 20 * time.Microsecond, 200 * time.Microsecond, time.Millisecond, 3 * time.Millisecond} {
			for _, workers := range []int{1, 8} {
				t.Run(fmt.Sprintf("%s, %v, %d at a time", scheme, delay, workers), func(t *testing.T) {
					client := mustClient(t, Config{CA: fixed(ca.PEM())})
					location := scheme + "://" + serveRaw(t, conf, surplus(delay))
					var passed, answered, asked atomic.Int64
					var calls sync.WaitGroup
					for range workers {
						calls.Go(func() {
							for n := asked.Add(1); n <= int64(*junk); n = asked.Add(1) {
								body, err := postToken(client, location, fmt.Sprint("junk", n))
								if strings.Contains(body, "true") {
									passed.Add(1)
								}
								if err == nil {
									answered.Add(1)
								}
							}
						})
					}
					calls.Wait()
					if passed.Load() != 0 {
						t.Errorf("%d of %d junk tokens got another response, want 0", passed.Load(), *junk)
					}
					if delay == 0 && answered.Load() != 0 {
						t.Errorf("%d responses with surplus behind them were believed, want 0", answered.Load())
					}
				})
			}
		}
	}
}

func postToken(client *http.Client, location, token string) (string, error) {
	res, err := client.Post(location, "application/x-www-form-urlencoded", strings.NewReader("token="+token))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// TestNothingBeforeTheRequest: a response that is there before it was asked for is
// about nothing that was asked.
func TestNothingBeforeTheRequest(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	for scheme, conf := range map[string]*tls.Config{
		"http":  nil,
		"https": {Certificates: []tls.Certificate{ca.Pair("localhost", nil)}},
	} {
		t.Run(scheme, func(t *testing.T) {
			ready := make(chan struct{})
			address := serveRaw(t, conf, func(conn net.Conn) {
				if secured, ok := conn.(*tls.Conn); ok && secured.Handshake() != nil {
					return
				}
				_, _ = io.WriteString(conn, active)
				close(ready)
				_, _ = io.Copy(io.Discard, conn)
			})
			client := mustClient(t, Config{CA: fixed(ca.PEM())})
			d := client.Transport.(*reloadingTransport).current().dialer
			conn, err := d.dial(t.Context(), address, scheme == "https")
			if err != nil {
				t.Fatalf("d.dial: got error %v, want none", err)
			}
			<-ready // on loopback what was written has arrived
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+address, strings.NewReader("token=junk"))
			if err != nil {
				t.Fatalf("http.NewRequestWithContext: got error %v, want none", err)
			}
			if res, err := send(conn, req); err == nil || Redact(err) != error(errUnasked) { //nolint:errorlint // the very text
				t.Errorf("response %v, error %v, want %v", res, err, errUnasked)
			}
		})
	}
}

// TestResponsesWithOneReading: what can be read in two ways, or isn't HTTP any
// more, is no response.
func TestResponsesWithOneReading(t *testing.T) {
	const body = "Content-Length: 15\r\n\r\n" + `{"active":true}`
	const good = "HTTP/1.1 200 OK\r\n" + body
	for _, tt := range []struct {
		name, response string
		want           error // nil: the body of good
	}{
		{"plain", good, nil},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\n" + `{"active":true}`, nil},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n" + body, nil},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + `{"active":true}` + "\r\n0\r\n\r\n", nil},
		{"100", "HTTP/1.1 100 Continue\r\n\r\n" + good, nil},
		{"102, 103, 103, 199", "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: <x>\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + good, nil},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + good, errSwitched},
		{"103 with a length", "HTTP/1.1 103 E\r\nContent-Length: 0\r\n\r\n" + good, errAmbiguous},
		{"bare line feeds", strings.ReplaceAll(good, "\r\n", "\n"), errAmbiguous},
		{"one bare line feed", "HTTP/1.1 200 OK\nX: y\r\n" + body, errAmbiguous},
		{"folded", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n" + body, errAmbiguous},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 15\r\n\r\n" + `{"active":true}`, errAmbiguous},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n" + body, errAmbiguous},
		{"length and chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\nf\r\n" + `{"active":true}` + "\r\n0\r\n\r\n", errAmbiguous},
		{"surplus", good + "x", errSurplus},
		{"surplus behind chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + `{"active":true}` + "\r\n0\r\n\r\n" + good, errSurplus},
		{"surplus behind no body", "HTTP/1.1 204 No Content\r\n\r\n" + good, errSurplus},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := serveRaw(t, nil, func(conn net.Conn) {
				if _, err := readRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, tt.response)
				}
			})
			got, err := postToken(mustClient(t, Config{}), "http://"+address, "t")
			if tt.want == nil && (err != nil || got != `{"active":true}`) || tt.want != nil && Redact(err) != tt.want { //nolint:errorlint // the very text
				t.Errorf("body %q, error %v, want error %v", got, Redact(err), tt.want)
			}
		})
	}
}

// TestEndlessInformational: informational responses count against the bound of the
// one that is waited for.
func TestEndlessInformational(t *testing.T) {
	address := serveRaw(t, nil, func(conn net.Conn) {
		if _, err := readRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		for {
			if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"); err != nil {
				return
			}
		}
	})
	began := time.Now()
	if body, err := postToken(mustClient(t, Config{}), "http://"+address, "t"); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("body %q after %v, want an error at once", body, time.Since(began))
	}
}

// TestSwitchedProtocolEnds: a server that answers 101 and keeps the connection open
// gets no more time than others, and the next call is none the worse for it.
func TestSwitchedProtocolEnds(t *testing.T) {
	var calls atomic.Int64
	address := serveRaw(t, nil, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if _, err := readRequest(in); err != nil {
			return
		}
		if calls.Add(1) == 1 {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, in)
			return
		}
		_, _ = io.WriteString(conn, active)
	})
	client := mustClient(t, Config{Timeout: 10 * time.Second})
	began := time.Now()
	if _, err := postToken(client, "http://"+address, "t"); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("error %v after %v, want one at once", err, time.Since(began))
	}
	if body, err := postToken(client, "http://"+address, "t"); err != nil || body != `{"active":true}` {
		t.Errorf("body %q, error %v after the 101, want the next response", body, err)
	}
}
