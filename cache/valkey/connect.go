package valkey

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// dialTimeout bounds the making of a connection, its handshake and login included.
	dialTimeout = 500 * time.Millisecond

	// The first connection is tried again after minBackoff, then twice as long
	// each time up to maxBackoff.
	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Second

	// bufferSize is per connection and direction. The values that matter are a
	// few KiB; larger ones pass in several reads.
	bufferSize = 32 << 10

	// blockingConnections bounds those that wait (XREAD) or watch (WATCH).
	blockingConnections = 16

	// topologyRefresh finds a master that a missed message of Sentinel announced.
	topologyRefresh = 5 * time.Second
)

// Config configures a Store.
type Config struct {
	// Addresses are host:port: of the server, of the sentinels when
	// SentinelMaster is set, of some nodes when Cluster is.
	Addresses []string
	// SentinelMaster is the name under which the sentinels know the master.
	// Empty: the addresses are not sentinels.
	SentinelMaster string
	// Cluster says that the addresses are nodes of a cluster.
	Cluster bool
	// Credentials returns user and password, at each connect. An empty user is
	// the server's default user; both empty: no login.
	Credentials func() (user, password string, err error)
	// SentinelCredentials is Credentials for the sentinels, which have accounts
	// of their own. Nil: no login there.
	SentinelCredentials func() (user, password string, err error)
	// TLS returns what to connect with, at each connect. Nil: without TLS.
	TLS func() (*tls.Config, error)
	// Resolver finds the addresses of hosts. Nil: the system's.
	Resolver *net.Resolver
}

// Store is a store that may not be reachable yet, or any more. Create it with
// New, and let Run connect it.
type Store struct {
	config Config
	client atomic.Pointer[rueidis.Client]
	fault  atomic.Pointer[error] // why there was no connection yet
	tried  chan struct{}         // closed when that was tried once
}

// New returns a Store that isn't connected: nothing outside has to be up for it.
func New(config Config) (*Store, error) {
	switch {
	case len(config.Addresses) == 0:
		return nil, errors.New("valkey: Addresses are required")
	case config.Cluster && config.SentinelMaster != "":
		return nil, errors.New("valkey: a cluster has no sentinels")
	}
	return &Store{config: config, tried: make(chan struct{})}, nil
}

// Replicated reports whether the store has replicas by its kind.
func (s *Store) Replicated() bool { return s.config.Cluster || s.config.SentinelMaster != "" }

// Run connects, and tries again until it could; from then on the client library
// connects anew by itself. It returns when ctx ends.
func (s *Store) Run(ctx context.Context) error {
	first := sync.OnceFunc(func() { close(s.tried) })
	defer first()
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		client, err := rueidis.NewClient(s.options())
		if err == nil {
			s.client.Store(&client)
			first()
			<-ctx.Done()
			s.client.Store(nil)
			client.Close()
			return nil
		}
		if client != nil {
			client.Close() // a single client comes with its error
		}
		s.fault.Store(&err)
		first()
		timer := time.NewTimer(backoff + rand.N(backoff/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// connected returns the client, or why there is none. The first try is waited for.
func (s *Store) connected(ctx context.Context) (rueidis.Client, error) {
	select {
	case <-s.tried:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if client := s.client.Load(); client != nil {
		return *client, nil
	}
	if fault := s.fault.Load(); fault != nil {
		return nil, fmt.Errorf("%w: %w", errNotConnected, *fault)
	}
	return nil, errNotConnected
}

// Two configurations that are never used: by their address the dialer knows
// whom a connection is for, which the library doesn't tell otherwise.
var forServer, forSentinel = &tls.Config{MinVersion: tls.VersionTLS12}, &tls.Config{MinVersion: tls.VersionTLS12}

func (s *Store) options() rueidis.ClientOption {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second, Resolver: s.config.Resolver}
	return rueidis.ClientOption{
		InitAddress: s.config.Addresses,
		Sentinel: rueidis.SentinelOption{
			MasterSet: s.config.SentinelMaster, TLSConfig: forSentinel, Dialer: dialer,
			TopologyRefreshInterval: topologyRefresh,
		},
		TLSConfig:           forServer,
		Dialer:              dialer,
		DialCtxFn:           s.dial,
		AuthCredentialsFn:   s.credentials,
		ClientName:          "fhir-introspection-sidecar",
		ClientSetInfo:       rueidis.DisableClientSetInfo, // Redis 7.0 has no such command to allow
		ConnWriteTimeout:    dialTimeout,
		ReadBufferEachConn:  bufferSize,
		WriteBufferEachConn: bufferSize,
		RingScaleEachConn:   9,
		PipelineMultiplex:   -1, // one connection for all commands that don't wait
		BlockingPoolSize:    blockingConnections,
		BlockingPoolCleanup: time.Minute,
		BlockingPoolMinSize: 1,
		// No copy of values in this process: how long a verdict may be believed is
		// decided in one place. A command that failed isn't sent again behind our back.
		DisableCache:      true,
		DisableRetry:      true,
		ForceSingleClient: s.config.SentinelMaster == "" && !s.config.Cluster,
	}
}

// sentinelConn tells credentials that the connection is one to a sentinel.
type sentinelConn struct{ net.Conn }

type sentinelAddr struct{ net.Addr }

// RemoteAddr marks the peer's address.
func (c sentinelConn) RemoteAddr() net.Addr { return sentinelAddr{c.Conn.RemoteAddr()} }

// dial connects with the files' content of now.
func (s *Store) dial(ctx context.Context, address string, dialer *net.Dialer, whom *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := s.connect(ctx, address, dialer)
	if err != nil {
		return nil, err
	}
	conn = &boundedConn{Conn: conn}
	if whom == forSentinel {
		conn = sentinelConn{conn}
	}
	return conn, nil
}

func (s *Store) connect(ctx context.Context, address string, dialer *net.Dialer) (net.Conn, error) {
	if s.config.TLS == nil {
		return dialer.DialContext(ctx, "tcp", address)
	}
	conf, err := s.config.TLS()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext(ctx, "tcp", address)
}

// credentials reads the password anew for each connection: after a rotation the
// store cuts the old ones, and the next one logs in with the new password.
func (s *Store) credentials(to rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
	read := s.config.Credentials
	if _, sentinel := to.Address.(sentinelAddr); sentinel {
		read = s.config.SentinelCredentials
	}
	if read == nil {
		return rueidis.AuthCredentials{}, nil
	}
	user, password, err := read()
	return rueidis.AuthCredentials{Username: user, Password: password}, err
}
