package app

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// certificate is a TLS certificate with its key, from files that may change.
type certificate struct {
	certFile, keyFile *transport.File
	logger            *slog.Logger

	mu        sync.Mutex
	cert, key []byte // what was read last, good or bad
	fault     error  // what came of it
	pair      *tls.Certificate
}

var errPair = errors.New("certificate and key can't be read, or don't belong together")

// get implements tls.Config.GetCertificate. While one of the files was replaced
// and the other not yet, it stays with the pair that fits.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, certErr := c.certFile.Read(false)
	key, keyErr := c.keyFile.Read(false)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err // a file that was there once is never missed again
	}
	if c.cert == nil || !bytes.Equal(cert, c.cert) || !bytes.Equal(key, c.key) {
		c.cert, c.key, c.fault = cert, key, nil
		if pair, err := tls.X509KeyPair(cert, key); err == nil {
			c.pair = &pair
		} else if c.fault = errPair; c.pair != nil {
			c.logger.Error("replaced file can't be used, keeping the last good one", "setting", c.certFile.Name, "error", errPair)
		}
	}
	if c.pair == nil {
		return nil, c.fault
	}
	return c.pair, nil
}
