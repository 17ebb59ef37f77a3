package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
)

// parseRoots is stricter than AppendCertsFromPEM, which takes what it can: half
// a bundle must not replace a whole one.
func parseRoots(content []byte) (*x509.CertPool, error) {
	pool, count := x509.NewCertPool(), 0
	for block, rest := pem.Decode(content); ; block, rest = pem.Decode(rest) {
		if block == nil {
			if count == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, SafeText("doesn't hold PEM certificates only")
			}
			return pool, nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, SafeText("doesn't hold PEM certificates only")
		}
		pool.AddCert(cert)
		count++
	}
}

// concat reads two files as one, so that a certificate is only ever taken
// together with its own key.
func concat(a, b *File) *File {
	one := func(f *File, reread bool) ([]byte, error) {
		content, err := f.Read(reread)
		if err != nil && f.Name != "" {
			err = &FieldError{Field: f.Name, Err: err}
		}
		return content, err
	}
	return &File{Name: a.Name, Read: func(reread bool) ([]byte, error) {
		first, err := one(a, reread)
		if err != nil {
			return nil, err
		}
		second, err := one(b, reread)
		if err != nil {
			return nil, err
		}
		return append(append(bytes.Clone(first), '\n'), second...), nil
	}}
}

func parsePair(content []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(content, content) // each looks for its own kind of block
	if err != nil {
		return nil, SafeText("certificate and key can't be read, or don't belong together")
	}
	return &pair, nil
}
