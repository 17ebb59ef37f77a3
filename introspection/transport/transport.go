package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxHeaderBytes bounds the heads of a response, informational ones included.
const maxHeaderBytes = 64 << 10

// Config configures NewClient.
type Config struct {
	// CA holds the PEM certificates to trust instead of the system's. Nil: the
	// system's.
	CA *File
	// ClientCert and ClientCertKey are the PEM chain and key that the sidecar
	// shows when a server asks (mutual TLS). Both or neither.
	ClientCert, ClientCertKey *File
	// Timeout bounds a whole call, body included, and so each step of it.
	Timeout time.Duration
	// Resolver finds the addresses of hosts. Nil: the system's.
	Resolver *net.Resolver
	// UserAgent is sent with requests that don't bring their own.
	UserAgent string
	// Logger logs a replaced file that can't be used. Nil discards.
	Logger *slog.Logger
}

// NewClient returns the one kind of client that the sidecar uses towards an
// authorization server. It follows no redirect: the 3xx is the response. It uses
// no proxy and no cookies, resumes no TLS session, takes new connections when a
// file was replaced, and sends one request on each connection of HTTP/1.1. Every
// fault is a *FieldError; all are joined.
func NewClient(cfg Config) (*http.Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &reloadingTransport{
		timeout: cfg.Timeout, userAgent: cfg.UserAgent, addresses: newAddresses(cfg.Resolver, cfg.Timeout),
	}
	var faults []error
	if cfg.Timeout <= 0 {
		faults = append(faults, &FieldError{Field: "Timeout", Err: SafeText("must be above zero")})
	}
	var err error
	t.trust, err = newTrust(TLSFiles{CA: cfg.CA, ClientCert: cfg.ClientCert, ClientCertKey: cfg.ClientCertKey, Logger: cfg.Logger})
	faults = append(faults, err)
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

// reloadingTransport gives each state of the files connections of its own, so
// that no request travels on one that was made under an older state.
type reloadingTransport struct {
	timeout   time.Duration
	userAgent string
	addresses *addresses
	trust     *trust

	mu    sync.Mutex
	state generations // of the files when conns were made
	conns *connections
}

// RoundTrip sends the request over the connections of the current files.
func (t *reloadingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.timeout)
	req = req.Clone(ctx)
	if _, set := req.Header["User-Agent"]; !set && t.userAgent != "" {
		req.Header.Set("User-Agent", t.userAgent)
	}
	res, err := t.current().roundTrip(req)
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = &boundBody{res.Body, cancel}
	return res, nil
}

// boundBody ends the time of a call with its body.
type boundBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b *boundBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *reloadingTransport) CloseIdleConnections() { t.current().closeIdle() }

// current returns the connections for what the files hold now. Requests under way
// finish on their predecessors.
func (t *reloadingTransport) current() *connections {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.trust.load()
	if t.conns != nil && state.generations == t.state {
		return t.conns
	}
	if t.conns != nil {
		t.conns.closeIdle()
	}
	conf := state.config()
	conf.NextProtos = []string{"h2", "http/1.1"}
	t.state = state.generations
	t.conns = newConnections(&dialer{addresses: t.addresses, timeout: t.timeout, tls: conf})
	return t.conns
}
