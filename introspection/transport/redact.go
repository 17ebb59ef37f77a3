package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// SafeText is an error made of this package's constants, so it may be shown.
type SafeText string

// Error implements error.
func (s SafeText) Error() string { return string(s) }

// Redact turns an error of net/http into a short line for logs and operators.
// What such errors quote (URLs with user info, malformed headers, certificate
// names) comes from outside; only texts known beforehand are let through.
func Redact(err error) error {
	if err == nil {
		return nil
	}
	var (
		safe  SafeText
		field *FieldError
		parse *url.Error
	)
	switch {
	case errors.As(err, &field) && !errors.As(field.Err, &safe):
		return SafeText(field.Field + ": can't be read")
	case field != nil:
		return SafeText(field.Field + ": " + string(safe))
	case errors.As(err, &safe):
		return safe
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &parse) && parse.Op == "parse":
		return SafeText("URL can't be parsed")
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
		return SafeText("TLS: " + text)
	}
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return SafeText("host name not found")
	case errors.As(err, &dns):
		return SafeText("host name can't be resolved")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no response in time: %w", context.DeadlineExceeded)
	case errors.As(err, &errno) && errors.As(err, &op):
		return SafeText(op.Op + ": " + errno.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return SafeText("connection closed before the end of the response")
	}
	return SafeText("request failed")
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
