package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// wire is an endpoint that speaks TCP, for what no HTTP library would do.
type wire struct {
	url string

	mu       sync.Mutex
	conns    int
	requests []string
}

// newWire gives every connection to serve, and closes it when serve returns.
func newWire(t *testing.T, conf *tls.Config, serve func(w *wire, conn net.Conn, in *bufio.Reader)) *wire {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	w := &wire{url: "http://" + listener.Addr().String() + "/introspect"}
	if conf != nil {
		listener = tls.NewListener(listener, conf)
		w.url = "https" + strings.TrimPrefix(w.url, "http")
	}
	var open sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns++
			w.mu.Unlock()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			open.Go(func() {
				defer stop()
				defer conn.Close()
				serve(w, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() { cancel(); _ = listener.Close(); open.Wait() })
	return w
}

// read returns the bytes of one request.
func (w *wire) read(in *bufio.Reader) (string, error) {
	var raw strings.Builder
	length := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		raw.WriteString(line)
		if name, value, _ := strings.Cut(line, ":"); textproto.CanonicalMIMEHeaderKey(name) == "Content-Length" {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
		if line == "\r\n" {
			break
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(in, body)
	raw.Write(body)
	w.note(raw.String())
	return raw.String(), err
}

func (w *wire) note(request string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, request)
}

// seen returns the requests so far, and how many connections brought them.
func (w *wire) seen() ([]string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.requests), w.conns
}

func httpAnswer(header, body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", len(body), header, body)
}

// noLeaks checks at the end of the test, after what was set up later is gone.
func noLeaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

// TestRequestOnTheWire: these bytes and no others.
func TestRequestOnTheWire(t *testing.T) {
	noLeaks(t)
	w := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
		for {
			if _, err := w.read(in); err != nil {
				return
			}
			_, _ = io.WriteString(conn, httpAnswer("", `{"active":true}`))
		}
	})
	const own = "23410913-abewfq.123483"
	client := newTestClient(t, w.url+"?realm=a%20b", func(c *Config) {
		c.Credential = mustCredential(t, credential.Config{Auth: credential.AuthBearer, BearerToken: fixed(own + "\n")})
	})
	for _, token := range []string{
		"2YotnFZFEjr1zCsicMWpAA", "a+b/c==", "100%&token=x", "%2B+ ", "ünï😀\u2028", "a;b=c", "\x00\r\n", "\xff\xfe",
	} {
		if _, err := introspect(t.Context(), client, token); err != nil {
			t.Fatalf("%q: got error %v, want none", token, err)
		}
		requests, _ := w.seen()
		head, body, _ := strings.Cut(requests[len(requests)-1], "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		requestID := regexp.MustCompile(`^(X-Request-Id: )[0-9a-f-]{36}$`)
		for i := range lines {
			lines[i] = requestID.ReplaceAllString(lines[i], "${1}UUID")
		}
		slices.Sort(lines[1:])
		want := []string{
			"POST /introspect?realm=a%20b HTTP/1.1",
			"Accept-Encoding: gzip",
			"Accept: application/json",
			"Authorization: Bearer " + own,
			"Connection: close",
			fmt.Sprintf("Content-Length: %d", len("token="+url.QueryEscape(token))),
			"Content-Type: application/x-www-form-urlencoded",
			"Host: " + must(url.Parse(w.url)).Host,
			"User-Agent: test",
			"X-Request-Id: UUID",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("%q: got\n%s\nwant\n%s", token, strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
		if want := "token=" + url.QueryEscape(token); body != want {
			t.Errorf("body %q, want %q", body, want)
		}
		if form, err := url.ParseQuery(body); err != nil || len(form) != 1 || !slices.Equal(form["token"], []string{token}) {
			t.Errorf("%q arrived as %q (%v), want the token only", token, form, err)
		}
	}
	if requests, conns := w.seen(); conns != len(requests) {
		t.Errorf("%d connections, want one for each of %d requests", conns, len(requests))
	}
}

// TestTokenIsSentOnce (G04): a server may have consumed the token by the time its
// connection breaks, so that asking again would log the user out.
func TestTokenIsSentOnce(t *testing.T) {
	const whole = `{"active":true}`
	reset := func(conn net.Conn) {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	for _, tt := range []struct {
		name string
		end  func(conn net.Conn) // after the request was read
	}{
		{"closed without a response", func(net.Conn) {}},
		{"reset without a response", reset},
		{"closed in the status line", func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 20") }},
		{"closed in the header", func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Ty") }},
		{"closed in the body", func(c net.Conn) {
			_, _ = io.WriteString(c, httpAnswer("", whole+"    ")[:len(httpAnswer("", whole+"    "))-4])
		}},
		{"reset in the body", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"+whole)
			reset(c)
		}},
		{"closed in a chunk", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n"+whole+"\r\n")
		}},
		{"no HTTP", func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n") }},
		{"no length that can be", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Length: 16\r\n\r\n"+whole)
		}},
		{"a refused upgrade", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"+whole)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			w := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
				for {
					request, err := w.read(in)
					if err != nil {
						return
					}
					if !strings.Contains(request, "token=first") {
						tt.end(conn)
						return
					}
					_, _ = io.WriteString(conn, httpAnswer("", whole))
				}
			})
			client := newTestClient(t, w.url, nil)
			ask := func(token string) {
				t.Helper()
				resp, err := introspect(t.Context(), client, token)
				expectVerdict(t, resp, err, introspection.ErrUnavailable)
			}
			ask("fresh")
			if resp, err := introspect(t.Context(), client, "first"); err != nil || resp == nil {
				t.Fatalf("got %v (%v), want a response", resp, err)
			}
			ask("later")
			requests, conns := w.seen()
			if len(requests) != 3 || conns != 3 {
				t.Errorf("%d requests over %d connections, want 3 over 3: %q", len(requests), conns, requests)
			}
		})
	}
}

// TestServerClosesConnections is G27: with a server that closes each connection
// behind its response, every token is sent once and gets its verdict.
func TestServerClosesConnections(t *testing.T) {
	noLeaks(t)
	w := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
		if _, err := w.read(in); err == nil {
			_, _ = io.WriteString(conn, httpAnswer("", `{"active":true}`))
		}
	})
	client := newTestClient(t, w.url, nil)
	const tokens = 200
	for i := range tokens {
		resp, err := introspect(t.Context(), client, fmt.Sprintf("t%d.", i))
		expectVerdict(t, resp, err, nil)
	}
	requests, _ := w.seen()
	for i := range tokens {
		count := 0
		for _, request := range requests {
			if strings.HasSuffix(request, fmt.Sprintf("token=t%d.", i)) {
				count++
			}
		}
		if count != 1 {
			t.Errorf("token %d was sent %d times, want once", i, count)
		}
	}
}

// frame is one of HTTP/2 (RFC 9113 §4.1).
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f frame) write(to io.Writer) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(f.payload)))
	head = append(head[1:], f.kind, f.flags)
	_, err := to.Write(append(binary.BigEndian.AppendUint32(head, f.stream), f.payload...))
	return err
}

func readFrame(in io.Reader) (f frame, err error) {
	var head [9]byte
	if _, err = io.ReadFull(in, head[:]); err != nil {
		return f, err
	}
	f.kind, f.flags, f.stream = head[3], head[4], binary.BigEndian.Uint32(head[5:])
	f.payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(in, f.payload)
	return f, err
}

// The frames of HTTP/2 that the tests use (RFC 9113 §6), and their flags.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway, frameContinuation = 0, 1, 3, 4, 6, 7, 9

	flagEndStream, flagAck, flagEndHeaders = 1, 1, 4
)

// newHTTP2Wire calls begin when a connection is made and answer when a whole
// request is there, which it notes.
func newHTTP2Wire(t *testing.T, conf *tls.Config, begin func(io.Writer) error, answer func(to io.Writer, stream uint32) error) *wire {
	t.Helper()
	return newWire(t, conf, func(w *wire, conn net.Conn, in *bufio.Reader) {
		preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		if _, err := io.ReadFull(in, preface); err != nil || begin(conn) != nil {
			return
		}
		var body bytes.Buffer
		for {
			f, err := readFrame(in)
			switch {
			case err != nil:
				return
			case f.kind == frameSettings && f.flags&flagAck == 0:
				_ = frame{kind: frameSettings, flags: flagAck}.write(conn)
			case f.kind == frameData:
				body.Write(f.payload)
				if f.flags&flagEndStream == 0 {
					continue
				}
				w.note(body.String())
				body.Reset()
				if answer(conn, f.stream) != nil {
					return
				}
			}
		}
	})
}

// all writes frames.
func all(to io.Writer, frames ...frame) (err error) {
	for _, f := range frames {
		err = errors.Join(err, f.write(to))
	}
	return err
}

// endless writes frames for as long as somebody takes them.
func endless(to io.Writer, frames ...frame) (err error) {
	for err == nil {
		err = all(to, frames...)
	}
	return err
}

// HTTP/2 in few words.
var (
	plainSettings = []frame{{kind: frameSettings}}

	ok, hints = "\x88", "\x08\x03103" // blocks of HPACK (RFC 7541)
)

func goAway(last uint32) frame {
	return frame{kind: frameGoAway, payload: binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), 0)}
}

func reset(s uint32, code byte) frame {
	return frame{kind: frameReset, stream: s, payload: []byte{0, 0, 0, code}}
}

func head(s uint32, block string) frame {
	return frame{kind: frameHeaders, flags: flagEndHeaders, stream: s, payload: []byte(block)}
}

func body(s uint32, flags byte) frame {
	return frame{kind: frameData, flags: flags, stream: s, payload: []byte(`{"active":true}`)}
}

// TestTokenIsSentOnceOverHTTP2 is G26: whatever an endpoint does over HTTP/2, the
// token goes out once at most, unless the endpoint says that it wasn't looked at,
// and the call ends in time. Left alone, net/http sends it again hundreds of times
// before the deadline.
func TestTokenIsSentOnceOverHTTP2(t *testing.T) {
	if testing.Short() {
		t.Skip("waits seconds")
	}
	settings := func(id, value byte) []frame {
		return []frame{{kind: frameSettings, payload: []byte{0, id, 0, 0, 0, value}}}
	}
	plain := plainSettings
	notLookedAt := map[string]bool{"GOAWAY": true, "GOAWAY at once": true, "REFUSED_STREAM": true}
	long := "\x00\x01x\x7f\x80\x7e" + strings.Repeat("x", 127+126*128) // a field of 16 KiB
	for _, tt := range []struct {
		name   string
		begin  []frame
		flood  []frame // without end, when the connection was made
		answer func(to io.Writer, s uint32) error
		want   error
	}{
		{"a response", plain, nil, func(to io.Writer, s uint32) error { return all(to, head(s, ok), body(s, flagEndStream)) }, nil},
		{"GOAWAY", plain, nil, func(to io.Writer, _ uint32) error { return goAway(0).write(to) }, introspection.ErrUnavailable},
		{"GOAWAY at once", append(slices.Clone(plain), goAway(0)), nil, func(io.Writer, uint32) error { return nil }, introspection.ErrUnavailable},
		{"GOAWAY within the response", plain, nil, func(to io.Writer, s uint32) error { return all(to, head(s, ok), goAway(s), body(s, flagEndStream)) }, nil},
		{"GOAWAY within an answer to nobody", plain, nil, func(to io.Writer, s uint32) error { return all(to, head(s, ok), goAway(0)) }, introspection.ErrUnavailable},
		{"PROTOCOL_ERROR", plain, nil, func(to io.Writer, s uint32) error { return reset(s, 1).write(to) }, introspection.ErrUnavailable},
		{"INTERNAL_ERROR", plain, nil, func(to io.Writer, s uint32) error { return reset(s, 2).write(to) }, introspection.ErrUnavailable},
		{"REFUSED_STREAM", plain, nil, func(to io.Writer, s uint32) error { return reset(s, 7).write(to) }, introspection.ErrUnavailable},
		{"ENHANCE_YOUR_CALM", plain, nil, func(to io.Writer, s uint32) error { return reset(s, 11).write(to) }, introspection.ErrUnavailable},
		{"HTTP_1_1_REQUIRED", plain, nil, func(to io.Writer, s uint32) error { return reset(s, 13).write(to) }, introspection.ErrUnavailable},
		{"reset within the response", plain, nil, func(to io.Writer, s uint32) error { return all(to, head(s, ok), body(s, 0), reset(s, 2)) }, introspection.ErrUnavailable},
		{"NO_ERROR before the end", plain, nil, func(to io.Writer, s uint32) error { return all(to, head(s, ok), body(s, 0), reset(s, 0)) }, introspection.ErrUnavailable},
		{"connection ends within the response", plain, nil, func(to io.Writer, s uint32) error { return errors.Join(all(to, head(s, ok), body(s, 0)), io.EOF) }, introspection.ErrUnavailable},
		{"silence", plain, nil, func(io.Writer, uint32) error { return nil }, introspection.ErrUnavailable},
		{"no settings", nil, nil, func(io.Writer, uint32) error { return nil }, introspection.ErrUnavailable},
		{"frames of no size", settings(5, 0), nil, func(io.Writer, uint32) error { return nil }, introspection.ErrUnavailable},
		{"a window of no size", settings(4, 0), nil, func(io.Writer, uint32) error { return nil }, introspection.ErrUnavailable},
		{"no streams", settings(3, 0), nil, func(io.Writer, uint32) error { return nil }, introspection.ErrUnavailable},
		{"endless informational responses", plain, nil, func(to io.Writer, s uint32) error { return endless(to, head(s, hints)) }, introspection.ErrUnavailable},
		{"endless headers", plain, nil, func(to io.Writer, s uint32) error {
			return errors.Join(frame{kind: frameHeaders, stream: s, payload: []byte(ok)}.write(to),
				endless(to, frame{kind: frameContinuation, stream: s, payload: []byte(long)}))
		}, introspection.ErrUnavailable},
		{"endless empty data", plain, nil, func(to io.Writer, s uint32) error {
			return errors.Join(head(s, ok).write(to), endless(to, frame{kind: frameData, stream: s}))
		}, introspection.ErrUnavailable},
		{"endless pings", plain, []frame{{kind: framePing, payload: make([]byte, 8)}}, nil, introspection.ErrUnavailable},
		{"endless settings", plain, plain, nil, introspection.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			ca := introspectiontest.NewAuthority(t, "ca")
			conf := &tls.Config{Certificates: []tls.Certificate{ca.Pair("as", nil)}, NextProtos: []string{"h2"}}
			begin := func(to io.Writer) error {
				err := all(to, tt.begin...)
				if err == nil && tt.flood != nil {
					err = endless(to, tt.flood...)
				}
				return err
			}
			w := newHTTP2Wire(t, conf, begin, tt.answer)
			client := newTestClient(t, w.url, func(c *Config) {
				if tt.want != nil { // some of these last until then
					c.Timeout = 500 * time.Millisecond
				}
				c.HTTPClient = mustClient(t, transport.Config{CA: fixed(ca.PEM()), Timeout: c.Timeout})
			})
			began := time.Now()
			resp, err := introspect(t.Context(), client, "once")
			expectVerdict(t, resp, err, tt.want)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v, want at most 10s", took)
			}
			most := 1
			if notLookedAt[tt.name] {
				most = 3
			}
			requests, conns := w.seen()
			if len(requests) > most || len(requests) > 0 && requests[0] != "token=once" || tt.want == nil && len(requests) == 0 || conns > 10 {
				t.Errorf("%d requests over %d connections, want %d at most", len(requests), conns, most)
			}
		})
	}
}

// TestUnseenTokenIsSentAgain (G26): what the endpoint says it hasn't looked at is sent
// again at once (RFC 9113 §6.8, §8.7), and nothing else is.
func TestUnseenTokenIsSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refuse func(stream uint32) []frame
		close  bool
		want   error
	}{
		{"REFUSED_STREAM", func(s uint32) []frame { return []frame{reset(s, 7)} }, false, nil},
		{"GOAWAY", func(uint32) []frame { return []frame{goAway(0)} }, false, nil},
		{"GOAWAY and the end", func(uint32) []frame { return []frame{goAway(0)} }, true, nil},
		{"GOAWAY with this stream, and the end", func(s uint32) []frame { return []frame{goAway(s)} }, true, introspection.ErrUnavailable},
		{"the end alone", func(uint32) []frame { return nil }, true, introspection.ErrUnavailable},
		{"CANCEL", func(s uint32) []frame { return []frame{reset(s, 8)} }, false, introspection.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			ca := introspectiontest.NewAuthority(t, "ca")
			conf := &tls.Config{Certificates: []tls.Certificate{ca.Pair("as", nil)}, NextProtos: []string{"h2"}}
			var refused atomic.Bool
			w := newHTTP2Wire(t, conf, func(to io.Writer) error { return all(to, plainSettings...) }, func(to io.Writer, s uint32) error {
				if refused.Swap(true) {
					return all(to, head(s, ok), body(s, flagEndStream))
				}
				err := all(to, tt.refuse(s)...)
				if tt.close {
					err = errors.Join(err, io.EOF)
				}
				return err
			})
			client := newTestClient(t, w.url, func(c *Config) {
				c.HTTPClient = mustClient(t, transport.Config{CA: fixed(ca.PEM()), Timeout: c.Timeout})
			})
			began := time.Now()
			resp, err := introspect(t.Context(), client, "once")
			expectVerdict(t, resp, err, tt.want)
			if took := time.Since(began); took > 900*time.Millisecond {
				t.Errorf("took %v, want an end at once", took)
			}
			want := 2
			if tt.want != nil {
				want = 1
			}
			if requests, _ := w.seen(); len(requests) != want {
				t.Errorf("%d requests, want %d", len(requests), want)
			}
		})
	}
}

// TestStreamsDontMix: frames for a stream that is over, or that nobody asked for,
// are no response to another request.
func TestStreamsDontMix(t *testing.T) {
	inactive := func(s uint32) frame {
		return frame{kind: frameData, flags: flagEndStream, stream: s, payload: []byte(`{"active":false}`)}
	}
	for _, tt := range []struct {
		name    string
		surplus func(s uint32) []frame
	}{
		{"the same stream", func(s uint32) []frame { return []frame{head(s, ok), body(s, flagEndStream)} }},
		{"a pushed stream", func(uint32) []frame { return []frame{head(2, ok), body(2, flagEndStream)} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			ca := introspectiontest.NewAuthority(t, "ca")
			conf := &tls.Config{Certificates: []tls.Certificate{ca.Pair("as", nil)}, NextProtos: []string{"h2"}}
			w := newHTTP2Wire(t, conf, func(to io.Writer) error { return all(to, plainSettings...) }, func(to io.Writer, s uint32) error {
				return all(to, append([]frame{head(s, ok), inactive(s)}, tt.surplus(s)...)...)
			})
			client := newTestClient(t, w.url, func(c *Config) {
				c.HTTPClient = mustClient(t, transport.Config{CA: fixed(ca.PEM()), Timeout: c.Timeout})
			})
			for i := range 50 {
				if resp, err := introspect(t.Context(), client, fmt.Sprint("junk", i)); err == nil {
					t.Fatalf("token %d got %v, want no verdict but inactive", i, resp)
				}
			}
		})
	}
}

// TestRedirectsAreNotFollowed is G25 and L06: the token goes to nobody else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	noLeaks(t)
	elsewhere := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
		_, _ = w.read(in)
		_, _ = io.WriteString(conn, httpAnswer("", `{"active":true}`))
	})
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		for _, location := range []string{elsewhere.url, "/introspect2", "", "file:///etc/passwd", "http://%zz", "https://169.254.169.254/"} {
			w := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
				for {
					if _, err := w.read(in); err != nil {
						return
					}
					body := `{"active":true}`
					if status == http.StatusNotModified {
						body = "" // net/http logs a body that can't be
					}
					answer := httpAnswer("Location: "+location+"\r\n", body)
					_, _ = io.WriteString(conn, strings.Replace(answer, "200 OK", strconv.Itoa(status)+" X", 1))
				}
			})
			resp, err := introspect(t.Context(), newTestClient(t, w.url, nil), "t")
			expectVerdict(t, resp, err, introspection.ErrUnavailable)
			if requests, _ := w.seen(); len(requests) != 1 {
				t.Errorf("%d to %q: got %q, want one request", status, location, requests)
			}
		}
	}
	if requests, conns := elsewhere.seen(); conns != 0 {
		t.Errorf("the other server saw %d connections and %q, want none", conns, requests)
	}
}

// TestDeadline: whatever the server keeps us waiting with, the response is there
// when the time is up, and the connection is gone.
func TestDeadline(t *testing.T) {
	const patience = 100 * time.Millisecond
	for name, start := range map[string]string{
		"nothing":                  "",
		"interim answers only":     "HTTP/1.1 102 Processing\r\n\r\n",
		"a part of the header":     "HTTP/1.1 200 OK\r\nContent-Type: app",
		"a header":                 "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n",
		"nearly all of the body":   "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + `{"active":true}`,
		"all but the last chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + `{"active":true}` + "\r\n",
		"a refusal without an end": "HTTP/1.1 503 X\r\nContent-Length: 16\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			gone := make(chan error, 1)
			w := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
				_, _ = w.read(in)
				_, _ = io.WriteString(conn, start)
				_, err := in.ReadByte()
				gone <- err
			})
			client := newTestClient(t, w.url, func(c *Config) { c.Timeout = patience })
			began := time.Now()
			resp, err := introspect(t.Context(), client, "t")
			if took := time.Since(began); took < patience || took > 50*patience {
				t.Errorf("took %v, want about %v", took, patience)
			}
			expectVerdict(t, resp, err, introspection.ErrUnavailable)
			if err := <-gone; err == nil {
				t.Error("the connection stayed, want its end")
			}
			if requests, _ := w.seen(); len(requests) != 1 {
				t.Errorf("got %d requests, want 1", len(requests))
			}
		})
	}
}

// TestEndlessAnswers is G08: what is read is bounded, in time and in memory.
func TestEndlessAnswers(t *testing.T) {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 4096, strings.Repeat(" ", 4096))
	for name, tt := range map[string]struct {
		start, more string
		want        error
	}{
		"chunks":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + `{"active":true}` + "\r\n", chunk, introspection.ErrMalformed},
		"until close":       {"HTTP/1.1 200 OK\r\n\r\n" + `{"active":true}`, strings.Repeat(" ", 4096), introspection.ErrMalformed},
		"ten gigabytes":     {"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n" + `{"active":true}`, strings.Repeat(" ", 4096), introspection.ErrMalformed},
		"refusal":           {"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, introspection.ErrUnavailable},
		"header":            {"HTTP/1.1 200 OK\r\n", "X-Long: " + strings.Repeat("x", 4096) + "\r\n", introspection.ErrUnavailable},
		"interim responses": {"", "HTTP/1.1 102 Processing\r\nX-Long: " + strings.Repeat("x", 4096) + "\r\n\r\n", introspection.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			written := make(chan int, 1)
			w := newWire(t, nil, func(w *wire, conn net.Conn, in *bufio.Reader) {
				_, _ = w.read(in)
				n, err := io.WriteString(conn, tt.start)
				for err == nil && n < 128<<20 {
					var more int
					more, err = io.WriteString(conn, tt.more)
					n += more
				}
				written <- n
			})
			client := newTestClient(t, w.url, func(c *Config) { c.Timeout = time.Minute })
			resp, err := introspect(t.Context(), client, "t")
			expectVerdict(t, resp, err, tt.want)
			if n := <-written; n > 64<<20 { // socket buffers of both sides included
				t.Errorf("%d bytes went out before the connection was dropped, want at most %d", n, 64<<20)
			}
		})
	}
}

// TestConnectionRefused is G01.
func TestConnectionRefused(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	_ = listener.Close()
	resp, err := introspect(t.Context(), newTestClient(t, "http://"+listener.Addr().String(), nil), "t")
	expectVerdict(t, resp, err, introspection.ErrUnavailable)
	var failure *introspection.Failure
	if !errors.As(err, &failure) || failure.Reason != "connect: connection refused" && !strings.Contains(failure.Reason, "refused") {
		t.Errorf("got error %v, want a refused connection", err)
	}
}
