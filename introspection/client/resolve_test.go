package client

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// nameServer answers questions of the DNS (RFC 1035 §4) as a test wants.
type nameServer struct {
	address string

	mu     sync.Mutex
	answer func(kind uint16, overTCP bool) reply
	asking []net.Conn // of those who ask
}

// reply is what becomes of a question.
type reply struct {
	silent, truncated bool
	code              byte
	records           []record
}

type record struct {
	kind uint16
	data []byte
}

const typeA, typeCNAME, typeAAAA = 1, 5, 28

// newNameServer answers until the test ends.
func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	packets := must(net.ListenPacket("udp", listener.Addr().String()))
	s := &nameServer{address: listener.Addr().String()}
	var open sync.WaitGroup
	open.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := s.reply(buffer[:n], false); answer != nil {
				_, _ = packets.WriteTo(answer, from)
			}
		}
	})
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = errors.Join(listener.Close(), packets.Close())
		s.mu.Lock()
		for _, conn := range s.asking { // else who gets no response waits on
			_ = conn.Close()
		}
		s.mu.Unlock()
		open.Wait()
	})
	return s
}

// resolver asks the server, and nobody else.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, s.address)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.asking = append(s.asking, conn)
		}
		return conn, err
	}}
}

// client is a client of the endpoint as.test.
func (s *nameServer) client(t *testing.T, port string, timeout time.Duration) *Client {
	t.Helper()
	return newTestClient(t, "http://as.test:"+port+introspectiontest.IntrospectionPath, func(c *Config) {
		c.Timeout = timeout
		c.HTTPClient = mustClient(t, transport.Config{Timeout: timeout, Resolver: s.resolver()})
	})
}

// serve answers over TCP, where two bytes of length come first.
func (s *nameServer) serve(conn net.Conn) {
	defer conn.Close()
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return
	}
	question := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return
	}
	answer := s.reply(question, true)
	if answer == nil {
		_, _ = conn.Read(length[:]) // until the other side gives up
		return
	}
	_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
}

func (s *nameServer) set(answer func(kind uint16, overTCP bool) reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *nameServer) reply(message []byte, overTCP bool) []byte {
	const header = 12
	end := header
	for message[end] != 0 {
		end += int(message[end]) + 1
	}
	question := message[header : end+5]
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	r := answer(binary.BigEndian.Uint16(message[end+1:]), overTCP)
	if r.silent {
		return nil
	}
	flags := uint16(0x8180) | uint16(r.code) // a response, recursion done
	if r.truncated {
		flags |= 0x0200
	}
	out := slices.Clone(message[:2])
	for _, word := range []uint16{flags, 1, uint16(len(r.records)), 0, 0} {
		out = binary.BigEndian.AppendUint16(out, word)
	}
	out = append(out, question...)
	for _, rr := range r.records {
		out = append(out, 0xc0, header) // the name of the question
		for _, word := range []uint16{rr.kind, 1, 0, 0, uint16(len(rr.data))} {
			out = binary.BigEndian.AppendUint16(out, word) // class, and a time to live of nought
		}
		out = append(out, rr.data...)
	}
	return out
}

// of answers questions for a kind of record with it, so many times.
func of(kind uint16, data []byte, times int) func(uint16, bool) reply {
	return func(asked uint16, _ bool) reply {
		if asked != kind {
			return reply{}
		}
		return reply{records: slices.Repeat([]record{{kind, data}}, times)}
	}
}

// serveAt serves handler at an address whose port is free in the other family too.
func serveAt(t *testing.T, handler http.Handler, address string) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("this address is not there: ", err)
	}
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}

// TestNameResolution is G28: whatever the DNS does, a call ends in time, and when
// the DNS is right again, so are calls, without a restart.
func TestNameResolution(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts of name servers")
	}
	noLeaks(t)
	dns := newNameServer(t)
	as := introspectiontest.New(introspectiontest.Config{})
	as.AddToken("t", nil)
	port := serveAt(t, as, "127.0.0.1:0")
	here, refusing := []byte{127, 0, 0, 1}, []byte{127, 0, 0, 9}
	good := of(typeA, here, 1)
	always := func(r reply) func(uint16, bool) reply { return func(uint16, bool) reply { return r } }
	for _, tt := range []struct {
		name   string
		answer func(kind uint16, overTCP bool) reply
		want   error
		reason string // "" for any
	}{
		{"an address", good, nil, ""},
		{"many addresses", of(typeA, here, 20), nil, ""},
		{"no such name", always(reply{code: 3}), introspection.ErrUnavailable, "host name not found"},
		{"no address", always(reply{}), introspection.ErrUnavailable, "host name not found"},
		{"server failure", always(reply{code: 2}), introspection.ErrUnavailable, "host name can't be resolved"},
		{"refused", always(reply{code: 5}), introspection.ErrUnavailable, ""},
		{"silence", always(reply{silent: true}), introspection.ErrUnavailable, ""},
		{"silence about IPv6 only", func(kind uint16, overTCP bool) reply {
			if kind == typeAAAA {
				return reply{silent: true}
			}
			return good(kind, overTCP)
		}, nil, ""},
		{"a name that leads to itself", always(reply{records: []record{{typeCNAME, []byte{0xc0, 12}}}}), introspection.ErrUnavailable, ""},
		{"a record cut short", of(typeA, here[:3], 1), introspection.ErrUnavailable, ""},
		{"an address where nobody is", of(typeA, refusing, 1), introspection.ErrUnavailable, ""},
		{"thousands where nobody is", func(kind uint16, overTCP bool) reply {
			if !overTCP {
				return reply{truncated: true}
			}
			return of(typeA, refusing, 4000)(kind, overTCP)
		}, introspection.ErrUnavailable, ""},
		{"thousands over TCP", func(kind uint16, overTCP bool) reply {
			if !overTCP {
				return reply{truncated: true}
			}
			return of(typeA, here, 4000)(kind, overTCP)
		}, nil, ""},
		{"truncated, then silence", func(_ uint16, overTCP bool) reply { return reply{truncated: !overTCP, silent: overTCP} }, introspection.ErrUnavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dns.set(tt.answer)
			timeout := 10 * time.Second
			if tt.want != nil { // some last until then
				timeout = 500 * time.Millisecond
			}
			client := dns.client(t, port, timeout)
			began := time.Now()
			resp, err := introspect(t.Context(), client, "t")
			expectVerdict(t, resp, err, tt.want)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v, want at most 10s", took)
			}
			if err != nil && tt.reason != "" && !strings.Contains(err.Error(), tt.reason) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want %q", err, tt.reason)
			}
			dns.set(good)
			awaitVerdict(t, client)
		})
	}
}

// awaitVerdict asks until there is a response. A lookup under way is shared.
func awaitVerdict(t *testing.T, client *Client) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err = introspect(t.Context(), client, "t"); err == nil {
			return
		}
	}
	t.Errorf("doesn't recover (%v), want it to", err)
}

// TestNameMoves: G28, an endpoint that moves is found at the next connection,
// whatever family its addresses are of.
func TestNameMoves(t *testing.T) {
	noLeaks(t)
	dns := newNameServer(t)
	as := introspectiontest.New(introspectiontest.Config{})
	as.AddToken("t", nil)
	for _, tt := range []struct {
		name, from, to string
		kind           uint16
	}{
		{"to another address", "127.0.0.1", "127.0.0.2", typeA},
		{"to IPv6", "127.0.0.1", "::1", typeAAAA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := serveAt(t, as, net.JoinHostPort(tt.to, "0"))
			data := net.ParseIP(tt.to).To4()
			if tt.kind == typeAAAA {
				data = net.ParseIP(tt.to)
			}
			client := dns.client(t, port, 10*time.Second)
			dns.set(of(typeA, net.ParseIP(tt.from).To4(), 1)) // where nobody is
			if _, err := introspect(t.Context(), client, "t"); !errors.Is(err, introspection.ErrUnavailable) {
				t.Fatalf("introspect: got error %v, want none", err)
			}
			dns.set(of(tt.kind, data, 1))
			awaitVerdict(t, client)
		})
	}
	t.Run("IPv6 leads nowhere", func(t *testing.T) { // RFC 8305
		port := deafPort(t)
		if serveAt(t, as, "127.0.0.1:"+port) != port {
			t.Fatal("got another port, want the same")
		}
		dns.set(func(kind uint16, _ bool) reply {
			if kind == typeAAAA {
				return reply{records: []record{{typeAAAA, net.IPv6loopback}}}
			}
			return reply{records: []record{{typeA, []byte{127, 0, 0, 1}}}}
		})
		awaitVerdict(t, dns.client(t, port, 10*time.Second))
	})
}

// deafPort is a port of ::1 where connections are neither made nor refused.
func deafPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err = syscall.Bind(fd, &syscall.SockaddrInet6{Addr: [16]byte(net.IPv6loopback)}); err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	if err = syscall.Listen(fd, 0); err != nil {
		t.Fatalf("syscall.Listen: got error %v, want none", err)
	}
	port := strconv.Itoa(must(syscall.Getsockname(fd)).(*syscall.SockaddrInet6).Port)
	for {
		conn, err := net.DialTimeout("tcp", "[::1]:"+port, 50*time.Millisecond)
		if err != nil {
			return port
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
