package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
)

// TLSFiles are what a client trusts and shows.
type TLSFiles struct {
	// CA holds the PEM certificates to trust instead of the system's. Nil: the
	// system's.
	CA *File
	// ClientCert and ClientCertKey are the PEM chain and key that the client
	// shows when a server asks (mutual TLS). Both or neither.
	ClientCert, ClientCertKey *File
	// Logger logs a replaced file that can't be used. Nil discards.
	Logger *slog.Logger
}

// NewTLS returns what makes the configuration of a connection from what the files
// hold at that time. Every fault is a *FieldError; all are joined.
func NewTLS(files TLSFiles) (func() *tls.Config, error) {
	t, err := newTrust(files)
	if err != nil {
		return nil, err
	}
	return func() *tls.Config { return t.load().config() }, nil
}

// trust follows the files.
type trust struct {
	roots *Watched[*x509.CertPool]   // nil: the system's
	pair  *Watched[*tls.Certificate] // nil: no client certificate
}

func newTrust(files TLSFiles) (*trust, error) {
	if files.Logger == nil {
		files.Logger = slog.New(slog.DiscardHandler)
	}
	var (
		t      trust
		faults []error
	)
	if files.CA != nil {
		t.roots = &Watched[*x509.CertPool]{Field: "CA", File: files.CA, Parse: parseRoots, Logger: files.Logger}
		_, _, err := t.roots.Load(true)
		faults = append(faults, err)
	}
	if (files.ClientCert == nil) != (files.ClientCertKey == nil) {
		faults = append(faults, &FieldError{
			Field: "ClientCert", Err: SafeText("certificate and key are needed, or neither"),
		})
	} else if files.ClientCert != nil {
		t.pair = &Watched[*tls.Certificate]{
			Field: "ClientCert", File: concat(files.ClientCert, files.ClientCertKey), Parse: parsePair, Logger: files.Logger,
		}
		_, _, err := t.pair.Load(true)
		faults = append(faults, err)
	}
	return &t, errors.Join(faults...)
}

// generations tell the states of the files apart.
type generations struct{ roots, pair Generation }

// trusted is what the files hold at one time.
type trusted struct {
	generations

	rootPool    *x509.CertPool
	certificate *tls.Certificate
}

// load returns the last good content of each file; faults are logged there.
func (t *trust) load() (now trusted) {
	if t.roots != nil {
		now.rootPool, now.roots, _ = t.roots.Load(false)
	}
	if t.pair != nil {
		now.certificate, now.pair, _ = t.pair.Load(false)
	}
	return now
}

// config has no ClientSessionCache, so that no session outlives a change of roots.
func (now trusted) config() *tls.Config {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: now.rootPool}
	if pair := now.certificate; pair != nil {
		// conf.Certificates would be held back when the server's list of
		// authorities doesn't name their issuer; the server shall refuse itself.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return conf
}
