package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"time"
)

// expiryWarning: warn about certificates expiring sooner than this.
const expiryWarning = 14 * 24 * time.Hour

// CertificatesEnd returns when the first of the certificates in a PEM file ends, and
// whether there is one.
func CertificatesEnd(content []byte) (first time.Time, ok bool) {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return first, false
		}
		if !ok || cert.NotAfter.Before(first) {
			first, ok = cert.NotAfter, true
		}
	}
	return first, ok
}
