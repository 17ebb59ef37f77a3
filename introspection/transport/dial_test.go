package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// nameServer answers questions for A records and nothing else.
type nameServer struct {
	conn      *net.UDPConn
	addresses atomic.Value // []netip.Addr; none: the name doesn't exist
	drop      atomic.Int64 // so many questions get no response
	asked     atomic.Int64
}

func newNameServer(t *testing.T, found ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatalf("net.ListenUDP: got error %v, want none", err)
	}
	s := &nameServer{conn: conn}
	s.move(found...)
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		s.serve()
	}()
	return s
}

func (s *nameServer) move(found ...string) {
	var addresses []netip.Addr
	for _, ip := range found {
		addresses = append(addresses, netip.MustParseAddr(ip))
	}
	s.addresses.Store(addresses)
}

func (s *nameServer) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		s.asked.Add(1)
		if s.drop.Add(-1) >= 0 {
			continue
		}
		_, _ = s.conn.WriteToUDPAddrPort(s.answer(packet[:n]), from)
	}
}

// answer writes a message of RFC 1035 §4.1.
func (s *nameServer) answer(question []byte) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	isA := question[end-3] == 1
	found := s.addresses.Load().([]netip.Addr)
	answer := slices.Clone(question[:end])
	answer[2], answer[3] = 0x81, 0x80
	if len(found) == 0 {
		answer[3] |= 3 // NXDOMAIN
	}
	binary.BigEndian.PutUint16(answer[10:], 0)
	if isA {
		for _, ip := range found {
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
			answer = append(answer, ip.AsSlice()...)
		}
		binary.BigEndian.PutUint16(answer[6:], uint16(len(found)))
	}
	return answer
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// listenOn serves name's response at an address of the loopback network.
func listenOn(t *testing.T, ip, port, name string) (gotPort string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, port))
	if err != nil {
		t.Skipf("no such loopback address here: %v", err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, gotPort, _ = net.SplitHostPort(listener.Addr().String())
	return gotPort
}

// deafOn makes connections to an address neither succeed nor fail.
func deafOn(t *testing.T, ip netip.Addr, port int) {
	t.Helper()
	fd := must(syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0))
	t.Cleanup(func() { _ = syscall.Close(fd) })
	err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: ip.As4(), Port: port})
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		t.Skipf("no such loopback address here: %v", err)
	}
	for {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(ip, uint16(port)).String(), 50*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func addressesOf(client *http.Client) *addresses {
	return client.Transport.(*reloadingTransport).addresses
}

// age makes what is known of a name older.
func (a *addresses) age(by time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.hosts {
		h.looked = h.looked.Add(-by)
	}
}

// TestSecondAddress: an address that drops packets costs a part of the time, and
// only once.
func TestSecondAddress(t *testing.T) {
	port := listenOn(t, "127.0.0.3", "0", "second")
	deafOn(t, netip.MustParseAddr("127.0.0.2"), must(net.LookupPort("tcp", port)))
	dns := newNameServer(t, "127.0.0.2", "127.0.0.3")
	client := mustClient(t, Config{Timeout: 2 * time.Second, Resolver: dns.resolver()})
	for _, limit := range []time.Duration{time.Second, 200 * time.Millisecond} {
		began := time.Now()
		expectBody(t, client, "http://as.test:"+port, "second")
		if took := time.Since(began); took > limit {
			t.Errorf("took %v, want less than %v", took, limit)
		}
	}
}

// TestSilentAddress: one that accepts connections and says nothing to TLS is as bad.
func TestSilentAddress(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	conf := &tls.Config{Certificates: []tls.Certificate{ca.Pair("as.test", nil)}}
	listener, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Skipf("no such loopback address here: %v", err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = server.Listener.Close()
	server.Listener, server.TLS = listener, conf
	server.StartTLS()
	defer server.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	silent, err := net.Listen("tcp", "127.0.0.2:"+port) // accepts by the kernel alone
	if err != nil {
		t.Skipf("no such loopback address here: %v", err)
	}
	defer silent.Close()
	client := mustClient(t, Config{Timeout: 4 * time.Second, CA: fixed(ca.PEM()), Resolver: newNameServer(t, "127.0.0.2", "127.0.0.3").resolver()})
	began := time.Now()
	expectBody(t, client, "https://as.test:"+port, "404 page not found\n")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v, want half the time at most", took)
	}
}

// TestAllAddressesRefuse: the first reason is the one that is told.
func TestAllAddressesRefuse(t *testing.T) {
	client := mustClient(t, Config{Resolver: newNameServer(t, "127.0.0.2", "127.0.0.3").resolver()})
	expectError(t, client, "http://as.test:1", "dial: connection refused")
}

// TestLostPackets: a question that gets lost is asked again within the call's time.
func TestLostPackets(t *testing.T) {
	port := listenOn(t, "127.0.0.1", "0", "found")
	dns := newNameServer(t, "127.0.0.1")
	dns.drop.Store(2) // for both kinds of address
	client := mustClient(t, Config{Timeout: 2 * time.Second, Resolver: dns.resolver()})
	expectBody(t, client, "http://as.test:"+port, "found")
	if dns.asked.Load() <= 2 {
		t.Errorf("asked %d times, want again", dns.asked.Load())
	}
}

// TestNoNameServer: with nothing to go by the call fails in time.
func TestNoNameServer(t *testing.T) {
	dns := newNameServer(t, "127.0.0.1")
	dns.drop.Store(1 << 30)
	client := mustClient(t, Config{Timeout: 500 * time.Millisecond, Resolver: dns.resolver()})
	began := time.Now()
	if _, err := getBody(client, "http://as.test:1"); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("error %v after %v, want one in time", err, time.Since(began))
	}
}

// TestNamesAreRemembered: a name isn't looked up for each call, nor forgotten when
// the name servers are silent, but a name that is gone is.
func TestNamesAreRemembered(t *testing.T) {
	port := listenOn(t, "127.0.0.1", "0", "found")
	dns := newNameServer(t, "127.0.0.1")
	client := mustClient(t, Config{Timeout: 2 * time.Second, Resolver: dns.resolver()})
	location := "http://as.test:" + port
	for range 10 {
		expectBody(t, client, location, "found")
	}
	if asked := dns.asked.Load(); asked != 2 { // A and AAAA
		t.Errorf("asked %d times for ten calls, want 2", asked)
	}
	dns.drop.Store(1 << 30)
	addressesOf(client).age(addressAge)
	expectBody(t, client, location, "found")
	addressesOf(client).age(staleAge)
	if body, err := getBody(client, location); err == nil {
		t.Errorf("body %q by an address of five minutes ago, want an error", body)
	}
	dns.drop.Store(0)
	expectBody(t, client, location, "found")
	addressesOf(client).age(addressAge)
	dns.move()
	expectError(t, client, location, "host name not found")
}

// TestServerMoves: under steady load a server that moves is followed, over either
// protocol.
func TestServerMoves(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			conf := &tls.Config{Certificates: []tls.Certificate{ca.Pair("as.test", nil)}, NextProtos: []string{protocol}}
			port := "0"
			for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
				listener, err := net.Listen("tcp", net.JoinHostPort(ip, port))
				if err != nil {
					t.Skipf("no such loopback address here: %v", err)
				}
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = io.WriteString(w, ip)
				}))
				_ = server.Listener.Close()
				server.Listener, server.TLS, server.EnableHTTP2 = listener, conf, protocol == "h2"
				server.StartTLS()
				t.Cleanup(server.Close)
				_, port, _ = net.SplitHostPort(listener.Addr().String())
			}
			dns := newNameServer(t, "127.0.0.2")
			client := mustClient(t, Config{CA: fixed(ca.PEM()), Resolver: dns.resolver()})
			location := "https://as.test:" + port
			expectBody(t, client, location, "127.0.0.2")
			dns.move("127.0.0.3")
			expectBody(t, client, location, "127.0.0.2")
			addressesOf(client).age(addressAge)
			conns := client.Transport.(*reloadingTransport).current()
			conns.mu.Lock()
			conns.born = conns.born.Add(-maxConnectionAge)
			conns.mu.Unlock()
			expectBody(t, client, location, "127.0.0.3")
		})
	}
	if most := addressAge + maxConnectionAge; most > 30*time.Second {
		t.Errorf("a server that moved is followed after %v, want 30s at most", most)
	}
}

// TestProtocolChanges: a server that chose HTTP/2 and doesn't any more is asked over
// HTTP/1.1, and the other way round.
func TestProtocolChanges(t *testing.T) {
	ca := introspectiontest.NewAuthority(t, "ca")
	var multiplex atomic.Bool
	conf := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		protocols := []string{"http/1.1"}
		if multiplex.Load() {
			protocols = []string{"h2"}
		}
		return &tls.Config{Certificates: []tls.Certificate{ca.Pair("localhost", nil)}, NextProtos: protocols}, nil
	}}
	server := tlsServer(t, conf)
	client := mustClient(t, Config{CA: fixed(ca.PEM())})
	for _, want := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/2.0", "HTTP/1.1", "HTTP/2.0"} {
		multiplex.Store(want == "HTTP/2.0")
		client.CloseIdleConnections()
		res, err := client.Post(server.URL, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		_ = res.Body.Close()
		if res.Proto != want {
			t.Errorf("asked over %s, want %s", res.Proto, want)
		}
	}
}

func TestInterleaved(t *testing.T) {
	parse := func(ips ...string) (parsed []netip.Addr) {
		for _, ip := range ips {
			parsed = append(parsed, netip.MustParseAddr(ip))
		}
		return parsed
	}
	for _, tt := range []struct{ in, want []netip.Addr }{
		{nil, nil},
		{parse("10.0.0.1"), parse("10.0.0.1")},
		{parse("fd00::1", "fd00::2", "fd00::3", "10.0.0.1", "10.0.0.2"), parse("fd00::1", "10.0.0.1", "fd00::2", "fd00::3", "10.0.0.2")},
		{parse("10.0.0.1", "fd00::1"), parse("10.0.0.1", "fd00::1")},
	} {
		if got := interleaved(slices.Clone(tt.in)); !slices.Equal(got, tt.want) {
			t.Errorf("interleaved(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

// TestRaceLeavesNothingOpen: connections that come after the first are closed.
func TestRaceLeavesNothingOpen(t *testing.T) {
	d := &dialer{addresses: newAddresses(nil, time.Second), timeout: 80 * time.Millisecond}
	ips := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	release, closed := make(chan struct{}), make(chan error, 1)
	got, err := d.race(t.Context(), ips, func(_ context.Context, ip netip.Addr) (net.Conn, error) {
		ours, theirs := net.Pipe()
		if ip == ips[0] {
			<-release
			go func() { _, err := bufio.NewReader(theirs).ReadByte(); closed <- err }()
		}
		return ours, nil
	})
	if err != nil {
		t.Fatalf("ReadByte: got error %v, want none", err)
	}
	defer got.Close()
	close(release)
	select {
	case err := <-closed:
		if !errors.Is(err, io.EOF) {
			t.Errorf("late connection ended with %v, want EOF", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the late connection is still open, want it closed")
	}
	if order := fmt.Sprint(d.addresses.ordered(ips)); order != "[127.0.0.2 127.0.0.1]" {
		t.Errorf("order %s, want the slow one last", order)
	}
}
