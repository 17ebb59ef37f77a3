package doctor

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestHandshakeCauses: what Go's TLS breaks off for is named, and no setting is blamed.
func TestHandshakeCauses(t *testing.T) {
	for text, want := range map[string]string{
		"tls: failed to parse certificate from server: x509: negative serial number":     "GODEBUG=x509negativeserial=1",
		"tls: server sent certificate containing RSA key larger than 8192 bits":          "GODEBUG=tlsmaxrsasize=16384",
		"local error: tls: no renegotiation":                                             "by renegotiation, after the handshake",
		"remote error: tls: no application protocol":                                     "neither HTTP/2 nor HTTP/1.1",
		`http2: failed reading the frame payload: http2: frame too large, note that ...`: "chose HTTP/2 in the TLS handshake",
	} {
		ex := wireExchange{url: "https://as.example", err: fmt.Errorf("Post: %w", errors.New(text))}
		got := networkCause(ex, endpointSetting)
		if !strings.Contains(got.cause, want) || got.setting != "" {
			t.Errorf("%s: got %+v, want a cause with %q and no setting", text, got, want)
		}
	}
	alert := wireExchange{err: &net.OpError{Op: "remote error", Err: tls.AlertError(116)}} // certificate_required
	if got := networkCause(alert, endpointSetting); got.setting != "SIDECAR_CLIENT_CERT_FILE" {
		t.Errorf("certificate required: got %+v, want SIDECAR_CLIENT_CERT_FILE", got)
	}
}
