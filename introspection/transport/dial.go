package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"
)

// attemptShare is the part of a call's time after which the next address gets its
// chance too: a quarter of a second with the default, as RFC 8305 §5 recommends.
const attemptShare = 8

// dialer makes connections.
type dialer struct {
	addresses *addresses
	timeout   time.Duration
	tls       *tls.Config // without a server name
}

// dial connects to host and port, over TLS when secure. One address that drops
// packets, or accepts and then is silent, costs a part of the time, not all of it.
func (d *dialer) dial(ctx context.Context, address string, secure bool) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	found, err := d.addresses.find(ctx, host)
	if err != nil {
		return nil, err
	}
	conn, err := d.race(ctx, found, func(ctx context.Context, ip netip.Addr) (net.Conn, error) {
		return d.attempt(ctx, host, net.JoinHostPort(ip.String(), port), secure)
	})
	if err != nil {
		d.addresses.doubt(host)
	}
	return conn, err
}

// attempt connects to one address.
func (d *dialer) attempt(ctx context.Context, host, address string, secure bool) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = &socket{TCPConn: tcp}
	}
	if !secure {
		return conn, nil
	}
	conf := d.tls.Clone()
	conf.ServerName = host
	secured := tls.Client(conn, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		hangUp(conn)
		return nil, err
	}
	return secured, nil
}

// attempted is how an attempt ended.
type attempted struct {
	ip   netip.Addr
	conn net.Conn
	err  error
}

// race tries the addresses in their order, the next one when one failed or has
// had its time, and returns the first connection. Addresses that lost go to the
// end of the list.
func (d *dialer) race(ctx context.Context, found []netip.Addr, attempt func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempted)
	run := func(ip netip.Addr) {
		conn, err := attempt(ctx, ip)
		select {
		case results <- attempted{ip, conn, err}:
		case <-ctx.Done():
			if err == nil {
				hangUp(conn)
			}
		}
	}
	var first error
	next := time.NewTicker(d.timeout / attemptShare)
	defer next.Stop()
	started, running := 0, 0
	for {
		if started < len(found) {
			go run(found[started])
			started++
			running++
		}
		select {
		case r := <-results:
			if r.err == nil {
				d.addresses.prefer(r.ip, found[:started])
				return r.conn, nil
			}
			if first == nil {
				first = r.err
			}
			if running--; running == 0 && started == len(found) {
				return nil, first
			}
			next.Reset(d.timeout / attemptShare)
		case <-next.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
