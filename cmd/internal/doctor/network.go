package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// endpointSetting is where the introspection endpoint's URL is set.
const endpointSetting = "SIDECAR_INTROSPECTION_ENDPOINT"

// serverFails is the likely cause of a 5xx. What is wrong stands in that server's
// log, unless the URL leads to a gateway that has no such server behind it.
const serverFails = "the authorization server itself fails, or a gateway doesn't reach it: see its log, and whether the URL is its own"

const upstreamSetting = "SIDECAR_UPSTREAM_URL"

// networkCause names the likely cause of an exchange without a response. setting
// is where the URL comes from.
func networkCause(ex wireExchange, setting string) diagnosis {
	var (
		dns     *net.DNSError
		timeout net.Error
	)
	if why, ok := tlsCause(ex, setting); ok {
		return why
	}
	host := "there"
	if u, err := url.Parse(ex.url); err == nil && u.Host != "" {
		host = "at " + u.Host
	}
	switch err := ex.err; {
	case errors.As(err, &dns) && dns.IsNotFound:
		return diagnosis{"the host name is not known here", setting}
	case errors.As(err, &dns):
		return diagnosis{"the host name can't be resolved: DNS doesn't work here", setting}
	case errors.Is(err, syscall.ECONNREFUSED):
		return diagnosis{"nothing listens " + host, setting}
	case ex.late, errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		if !ex.connected {
			return diagnosis{"no connection in time: a firewall, a NetworkPolicy, or a wrong address", setting}
		}
		if setting == upstreamSetting {
			return diagnosis{"it takes the connection and doesn't answer in time", setting}
		}
		return diagnosis{"it takes the connection and doesn't answer in time: overloaded, or slower than is allowed", "SIDECAR_INTROSPECTION_TIMEOUT"}
	case errors.Is(err, context.Canceled):
		return diagnosis{"interrupted", ""}
	}
	return diagnosis{"what listens " + host + " closes the connection without a response", setting}
}

// upstreamCause is networkCause for the FHIR server, whose certificate is
// checked against the system's roots.
func upstreamCause(ex wireExchange) diagnosis {
	why := networkCause(ex, upstreamSetting)
	if why.setting == "SIDECAR_CA_FILE" {
		return diagnosis{why.cause + "; SIDECAR_CA_FILE is for the authorization server, the FHIR server's authority must be among the system's", upstreamSetting}
	}
	return why
}

// tlsCause explains a handshake that failed.
func tlsCause(ex wireExchange, setting string) (diagnosis, bool) {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		op        *net.OpError
	)
	switch err := ex.err; {
	case err == nil:
		return diagnosis{}, false
	case errors.As(err, &authority):
		by := ""
		if authority.Cert != nil && authority.Cert.Issuer.CommonName != "" {
			by = fmt.Sprintf(" (%s)", shown(authority.Cert.Issuer.CommonName))
		}
		return diagnosis{"the server's certificate is signed by an authority" + by + " that is not trusted here", "SIDECAR_CA_FILE"}, true
	case errors.As(err, &host):
		return diagnosis{fmt.Sprintf("the server's certificate is for %s, not for %s", certificateNames(host.Certificate), shown(host.Host)), setting}, true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return diagnosis{"the server's certificate has expired or is not valid yet, or this machine's clock is wrong", ""}, true
	case errors.As(err, &invalid):
		return diagnosis{"the server's certificate is not valid for a server", ""}, true
	case handshakeCause(err.Error()).cause != "":
		return handshakeCause(err.Error()), true
	case errors.As(err, &op) && op.Op == "remote error":
		return alertCause(strings.TrimPrefix(op.Err.Error(), "tls: ")), true
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return diagnosis{"it speaks plain HTTP, and the URL says https", setting}, true
	}
	return diagnosis{}, false
}

// handshakeCause explains what Go's own TLS breaks off for. Its texts are all there is
// to tell these apart by.
func handshakeCause(text string) diagnosis {
	for _, known := range []struct{ text, cause string }{
		{"negative serial number", "the server's certificate, or one of its authorities', has a negative serial number, which RFC 5280 forbids; GODEBUG=x509negativeserial=1 in the sidecar's environment accepts it until it is replaced"},
		{"RSA key larger than", "the server's certificate has an RSA key of more than 8192 bits; GODEBUG=tlsmaxrsasize=16384 in the sidecar's environment accepts it"},
		{"no renegotiation", "the server asks for a client certificate by renegotiation, after the handshake; that was taken out of TLS 1.3, and no setting or GODEBUG brings it back here: the server must ask in the handshake"},
		{"no application protocol", "the server speaks neither HTTP/2 nor HTTP/1.1 on this port: it refuses both in the TLS handshake (ALPN)"},
		{"unsupported application protocol", "the server chose a protocol in the TLS handshake (ALPN) that was not offered"},
		{"http2: ", "the server chose HTTP/2 in the TLS handshake (ALPN) and doesn't speak it: it or a gateway in front must offer http/1.1, or speak HTTP/2"},
	} {
		if strings.Contains(text, known.text) {
			return diagnosis{known.cause, ""}
		}
	}
	return diagnosis{}
}

// alertCause explains why the server broke off a handshake.
func alertCause(alert string) diagnosis {
	switch {
	case alert == "certificate required":
		return diagnosis{"the server asks for a client certificate, mTLS (alert: " + alert + ")", "SIDECAR_CLIENT_CERT_FILE"}
	case strings.Contains(alert, "handshake failure"):
		return diagnosis{"the server asks for a client certificate, mTLS, or has no cipher suite with forward secrecy (alert: " + alert + ")", "SIDECAR_CLIENT_CERT_FILE"}
	case strings.Contains(alert, "protocol version"):
		return diagnosis{"the server speaks no TLS from 1.2 on", ""}
	case strings.Contains(alert, "certificate"):
		return diagnosis{"the server refuses the client certificate, or asks for one (alert: " + alert + ")", "SIDECAR_CLIENT_CERT_FILE"}
	}
	return diagnosis{"the server breaks off the TLS handshake (alert: " + alert + ")", ""}
}

// certificateNames are those that a certificate is for.
func certificateNames(cert *x509.Certificate) string {
	if cert == nil {
		return "another host"
	}
	names := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host name"
	}
	return shown(strings.Join(names[:min(len(names), 3)], ", "))
}
