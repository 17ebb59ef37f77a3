package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// addressAge is how long addresses are used without looking them up again. With
	// maxConnectionAge it is what a server that moves has to wait for.
	addressAge = 10 * time.Second

	// staleAge is how long they are used while no name server answers.
	staleAge = 5 * time.Minute

	// penalty is how long an address that failed is tried after all others.
	penalty = 30 * time.Second

	// lookupShare is the part of a call's time that one question to a name server may
	// take before it is asked again: a packet gets lost, and the system's five
	// seconds are longer than the whole call.
	lookupShare = 5

	// lookupRounds bounds how often all name servers are asked.
	lookupRounds = 3

	// maxHosts bounds what is remembered: there are only a few endpoints.
	maxHosts = 64
)

// addresses finds the addresses of hosts and remembers them for a short time.
type addresses struct {
	resolver *net.Resolver
	timeout  time.Duration

	mu     sync.Mutex
	hosts  map[string]*host
	failed map[netip.Addr]time.Time // when they did
}

// host is what is known of a name.
type host struct {
	found  []netip.Addr
	looked time.Time
	lookup *lookup // under way; nil: none
}

// lookup is a question to the name servers. The fields are read after done.
type lookup struct {
	done  chan struct{}
	found []netip.Addr
	err   error
}

func newAddresses(resolver *net.Resolver, timeout time.Duration) *addresses {
	return &addresses{
		resolver: impatient(resolver, timeout/lookupShare), timeout: timeout,
		hosts: make(map[string]*host), failed: make(map[netip.Addr]time.Time),
	}
}

// find returns the addresses of a host in the order in which to try them. When the
// name servers are silent, those that were good a moment ago are as well.
func (a *addresses) find(ctx context.Context, name string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{ip}, nil
	}
	known, l := a.ask(ctx, name)
	if l == nil {
		return a.ordered(known), nil
	}
	patience := a.timeout
	if known != nil {
		patience = a.timeout / lookupShare
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	err := error(&net.DNSError{Err: "no name server answered", Name: name, IsTimeout: true})
	select {
	case <-l.done:
		if l.err == nil {
			return a.ordered(l.found), nil
		}
		err = l.err
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	dns := (*net.DNSError)(nil)
	if errors.As(err, &dns) && dns.IsNotFound || known == nil {
		return nil, err
	}
	return a.ordered(known), nil
}

// ask returns the addresses that are known, unless they are too old to use at all,
// and the lookup to wait for, unless they are young enough to use at once.
func (a *addresses) ask(ctx context.Context, name string) ([]netip.Addr, *lookup) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.hosts[name]
	if h == nil {
		if len(a.hosts) >= maxHosts {
			clear(a.hosts)
		}
		h = new(host)
		a.hosts[name] = h
	}
	age := time.Since(h.looked)
	if age < addressAge {
		return h.found, nil
	}
	if age > staleAge {
		h.found = nil
	}
	if h.lookup == nil {
		h.lookup = &lookup{done: make(chan struct{})}
		go a.look(context.WithoutCancel(ctx), name, h, h.lookup)
	}
	return h.found, h.lookup
}

// look asks the name servers, and again when a packet got lost. It outlives the
// call that began it, for the next one.
func (a *addresses) look(ctx context.Context, name string, h *host, l *lookup) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	for range lookupRounds {
		l.found, l.err = a.resolver.LookupNetIP(ctx, "ip", name)
		if dns := (*net.DNSError)(nil); !errors.As(l.err, &dns) || !dns.Timeout() || ctx.Err() != nil {
			break
		}
	}
	for i, ip := range l.found {
		l.found[i] = ip.Unmap()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h.lookup = nil
	if l.err == nil {
		h.found, h.looked = interleaved(l.found), time.Now()
		l.found = h.found
	}
	close(l.done)
}

// interleaved puts an address of the other family second, so that a family without
// a way to the server costs one attempt (RFC 8305 §4).
func interleaved(found []netip.Addr) []netip.Addr {
	if len(found) == 0 {
		return found
	}
	second := slices.IndexFunc(found, func(ip netip.Addr) bool { return ip.Is4() != found[0].Is4() })
	if second > 1 {
		other := found[second]
		copy(found[2:second+1], found[1:second])
		found[1] = other
	}
	return found
}

// ordered returns a copy with the addresses at the end that failed lately.
func (a *addresses) ordered(found []netip.Addr) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	ordered := slices.Clone(found)
	slices.SortStableFunc(ordered, func(x, y netip.Addr) int { return a.shunned(x) - a.shunned(y) })
	return ordered
}

// shunned is 1 for an address that failed lately. a.mu is held.
func (a *addresses) shunned(ip netip.Addr) int {
	if at, ok := a.failed[ip]; ok && time.Since(at) < penalty {
		return 1
	}
	return 0
}

// prefer notes that of the addresses tried only winner made a connection in time.
func (a *addresses) prefer(winner netip.Addr, tried []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.failed) > maxHosts {
		clear(a.failed)
	}
	for _, ip := range tried {
		if ip != winner {
			a.failed[ip] = time.Now()
		}
	}
	delete(a.failed, winner)
}

// doubt has a name looked up again that led nowhere.
func (a *addresses) doubt(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h := a.hosts[name]; h != nil && time.Since(h.looked) < addressAge {
		h.looked = time.Now().Add(-addressAge)
	}
}

// impatient returns a resolver that waits for each response of a name server no
// longer than limit, and then asks the next one.
func impatient(resolver *net.Resolver, limit time.Duration) *net.Resolver {
	dial := new(net.Dialer).DialContext
	own := &net.Resolver{PreferGo: true}
	if resolver != nil {
		own.StrictErrors = resolver.StrictErrors
		if resolver.Dial != nil {
			dial = resolver.Dial
		}
	}
	own.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if udp, ok := conn.(*net.UDPConn); ok && err == nil {
			return &impatientConn{udp, limit}, nil
		}
		return conn, err
	}
	return own
}

// impatientConn is a connection to a name server. It stays a packet connection,
// by which package net knows which protocol to speak.
type impatientConn struct {
	*net.UDPConn
	limit time.Duration
}

// SetDeadline implements net.Conn.
func (c *impatientConn) SetDeadline(t time.Time) error {
	if soonest := time.Now().Add(c.limit); t.IsZero() || t.After(soonest) {
		t = soonest
	}
	return c.UDPConn.SetDeadline(t)
}
