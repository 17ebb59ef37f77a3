package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// idleTimeout stays below the five seconds after which common servers close
	// an idle connection: a POST sent into a closing one fails, and must not be
	// sent again, because the server may have consumed the token.
	idleTimeout = 3 * time.Second

	maxIdlePerHost = 64
	maxHeaderBytes = 64 << 10
)

// Config configures NewClient.
type Config struct {
	// CA holds the PEM certificates to trust instead of the system's. Nil: the
	// system's.
	CA File
	// ClientCert and ClientCertKey are the PEM chain and key that the sidecar
	// shows when a server asks (mutual TLS). Both or neither.
	ClientCert, ClientCertKey File
	// Timeout bounds a whole call, body included, and so each step of it.
	Timeout time.Duration
	// Resolver finds the addresses of hosts. Nil: the system's.
	Resolver *net.Resolver
	// UserAgent is sent with requests that don't bring their own.
	UserAgent string
	// Logger is told of a replaced file that can't be used. Nil discards.
	Logger *slog.Logger
}

// NewClient returns the one kind of client that the sidecar uses towards an
// authorization server. It follows no redirect: the 3xx is the answer. It uses
// no proxy and no cookies, resumes no TLS session, and takes new connections
// when a file was replaced. Every fault is a *FieldError; all are joined.
func NewClient(cfg Config) (*http.Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &reloadingTransport{timeout: cfg.Timeout, userAgent: cfg.UserAgent, resolver: cfg.Resolver}
	var faults []error
	if cfg.Timeout <= 0 {
		faults = append(faults, &FieldError{Field: "Timeout", Err: SafeText("must be above zero")})
	}
	if cfg.CA != nil {
		t.roots = &Watched[*x509.CertPool]{Field: "CA", Read: cfg.CA, Parse: parseRoots, Logger: cfg.Logger}
		_, _, err := t.roots.Load(true)
		faults = append(faults, err)
	}
	if (cfg.ClientCert == nil) != (cfg.ClientCertKey == nil) {
		faults = append(faults, &FieldError{Field: "ClientCert", Err: SafeText("certificate and key are needed, or neither")})
	} else if cfg.ClientCert != nil {
		t.pair = &Watched[*tls.Certificate]{
			Field: "ClientCert", Read: concat(cfg.ClientCert, cfg.ClientCertKey), Parse: parsePair, Logger: cfg.Logger,
		}
		_, _, err := t.pair.Load(true)
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: t,
		Timeout:   cfg.Timeout,
		// A 307 would post the client's token, and to another port of the same
		// host our own credential, wherever it points (RFC 9700 §4.12).
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// reloadingTransport gives each state of the files a transport of its own, so
// that no request travels on a connection made under an older one.
type reloadingTransport struct {
	timeout   time.Duration
	userAgent string
	resolver  *net.Resolver
	roots     *Watched[*x509.CertPool]   // nil: the system's
	pair      *Watched[*tls.Certificate] // nil: no client certificate

	mu                sync.Mutex
	rootsGen, pairGen Generation
	transport         *http.Transport
}

// RoundTrip sends the request over the transport of the current files.
func (t *reloadingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, set := req.Header["User-Agent"]; !set && t.userAgent != "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", t.userAgent)
	}
	return t.current().RoundTrip(req)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *reloadingTransport) CloseIdleConnections() { t.current().CloseIdleConnections() }

// current returns the transport for what the files hold now. The requests under
// way on its predecessor end in peace; its connections close after them.
func (t *reloadingTransport) current() *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	var (
		roots             *x509.CertPool
		pair              *tls.Certificate
		rootsGen, pairGen Generation
	)
	if t.roots != nil {
		roots, rootsGen, _ = t.roots.Load(false) // logged there; the last good one stays
	}
	if t.pair != nil {
		pair, pairGen, _ = t.pair.Load(false)
	}
	if t.transport != nil && rootsGen == t.rootsGen && pairGen == t.pairGen {
		return t.transport
	}
	if t.transport != nil {
		t.transport.CloseIdleConnections()
	}
	t.transport, t.rootsGen, t.pairGen = t.build(roots, pair), rootsGen, pairGen
	return t.transport
}

func (t *reloadingTransport) build(roots *x509.CertPool, pair *tls.Certificate) *http.Transport {
	// Without a ClientSessionCache no session outlives a change of roots.
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if pair != nil {
		// conf.Certificates would be held back when the server's list of
		// authorities doesn't name their issuer; the server shall refuse itself.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS only
	return &http.Transport{
		Proxy:                  nil, // the environment must not choose who sees the tokens
		DialContext:            (&net.Dialer{Timeout: t.timeout, Resolver: t.resolver}).DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    t.timeout,
		ResponseHeaderTimeout:  t.timeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              &protocols,
		// A silent HTTP/2 connection is given up, else every call would be sent
		// into it and time out, long after the server is back.
		HTTP2: &http.HTTP2Config{SendPingTimeout: t.timeout, PingTimeout: t.timeout, WriteByteTimeout: t.timeout},
	}
}
