package introspection

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
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

// TransportConfig configures NewHTTPClient.
type TransportConfig struct {
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

// NewHTTPClient returns the one kind of client that the sidecar uses towards an
// authorization server. It follows no redirect: the 3xx is the answer. It uses
// no proxy and no cookies, resumes no TLS session, and takes new connections
// when a file was replaced. Every fault is a *FieldError; all are joined.
func NewHTTPClient(cfg TransportConfig) (*http.Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &reloadingTransport{timeout: cfg.Timeout, userAgent: cfg.UserAgent, resolver: cfg.Resolver}
	var faults []error
	if cfg.Timeout <= 0 {
		faults = append(faults, &FieldError{"Timeout", safeText("must be above zero")})
	}
	if cfg.CA != nil {
		t.roots = &replaceable[*x509.CertPool]{field: "CA", read: cfg.CA, parse: parseRoots, logger: cfg.Logger}
		_, _, err := t.roots.load(true)
		faults = append(faults, err)
	}
	if (cfg.ClientCert == nil) != (cfg.ClientCertKey == nil) {
		faults = append(faults, &FieldError{"ClientCert", safeText("certificate and key are needed, or neither")})
	} else if cfg.ClientCert != nil {
		t.pair = &replaceable[*tls.Certificate]{
			field: "ClientCert", read: concat(cfg.ClientCert, cfg.ClientCertKey), parse: parsePair, logger: cfg.Logger,
		}
		_, _, err := t.pair.load(true)
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
	roots     *replaceable[*x509.CertPool]   // nil: the system's
	pair      *replaceable[*tls.Certificate] // nil: no client certificate

	mu                sync.Mutex
	rootsGen, pairGen generation
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
		rootsGen, pairGen generation
	)
	if t.roots != nil {
		roots, rootsGen, _ = t.roots.load(false) // logged there; the last good one stays
	}
	if t.pair != nil {
		pair, pairGen, _ = t.pair.load(false)
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

// parseRoots is stricter than AppendCertsFromPEM, which takes what it can: half
// a bundle must not replace a whole one.
func parseRoots(content []byte) (*x509.CertPool, error) {
	pool, count := x509.NewCertPool(), 0
	for block, rest := pem.Decode(content); ; block, rest = pem.Decode(rest) {
		if block == nil {
			if count == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, safeText("doesn't hold PEM certificates only")
			}
			return pool, nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, safeText("doesn't hold PEM certificates only")
		}
		pool.AddCert(cert)
		count++
	}
}

// concat reads two files as one, so that a certificate is only ever taken
// together with its own key.
func concat(a, b File) File {
	return func(reread bool) ([]byte, error) {
		first, err := a(reread)
		if err != nil {
			return nil, err
		}
		second, err := b(reread)
		if err != nil {
			return nil, err
		}
		return append(append(bytes.Clone(first), '\n'), second...), nil
	}
}

func parsePair(content []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(content, content) // each looks for its own kind of block
	if err != nil {
		return nil, safeText("certificate and key can't be read, or don't belong together")
	}
	return &pair, nil
}

// safeText is an error made of this package's constants, so it may be shown.
type safeText string

func (s safeText) Error() string { return string(s) }

// redact turns an error of net/http into a short line for logs and operators.
// What such errors quote (URLs with user info, malformed headers, certificate
// names) comes from outside; only texts known beforehand are let through.
func redact(err error) error {
	if err == nil {
		return nil
	}
	var (
		safe  safeText
		field *FieldError
		parse *url.Error
	)
	switch {
	case errors.As(err, &field) && !errors.As(field.Err, &safe):
		return safeText(field.Field + ": can't be read")
	case field != nil:
		return safeText(field.Field + ": " + string(safe))
	case errors.As(err, &safe):
		return safe
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &parse) && parse.Op == "parse":
		return safeText("URL can't be parsed")
	}
	return redactNetwork(err)
}

func redactNetwork(err error) error {
	var (
		dns     *net.DNSError
		timeout net.Error
		errno   syscall.Errno
		op      *net.OpError
	)
	if text := redactTLS(err); text != "" {
		return safeText("TLS: " + text)
	}
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return safeText("host name not found")
	case errors.As(err, &dns):
		return safeText("host name can't be resolved")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.As(err, &errno) && errors.As(err, &op):
		return safeText(op.Op + ": " + errno.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return safeText("connection closed before the end of the answer")
	}
	return safeText("request failed")
}

// redactTLS tells the reasons that an operator can do something about.
func redactTLS(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		op        *net.OpError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "certificate is signed by an unknown authority"
	case errors.As(err, &host):
		return "certificate is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate has expired or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "certificate is not valid"
	case errors.As(err, &op) && op.Op == "remote error": // crypto/tls: its own text for the server's alert
		return "refused by the server: " + strings.TrimPrefix(op.Err.Error(), "tls: ")
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the server doesn't speak it on this port"
	}
	return ""
}
