package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
)

// local looks at what can be seen without asking the authorization server.
type local visit

const audiencesSetting = "SIDECAR_REQUIRED_AUDIENCES"

// checkPolicy says what a token must have besides being active, and what else is set in
// a way that is seldom meant.
func (d local) checkPolicy(context.Context) {
	const check = "policy"
	s := d.cfg.Settings
	detail := "a token must be active"
	if policy := s.Policy(); len(policy) > 0 {
		detail += " and pass: " + strings.Join(policy, ", ")
	}
	if len(s.RequiredAudiences) > 0 {
		d.ok(check, detail)
	} else {
		d.warn(check, detail, diagnosis{"no audience is required: a token for another server of the same authorization server is let through", audiencesSetting})
	}
	for _, w := range s.Warnings() {
		if w.Variable != audiencesSetting {
			d.warn("settings", w.Variable+" "+w.Text, diagnosis{"", w.Variable})
		}
	}
}

// checkBypass looks whether clients can go around the sidecar.
func (d local) checkBypass(ctx context.Context) {
	const check = "bypass"
	s := d.cfg.Settings
	port, ok := s.BypassPort()
	switch {
	case s.BypassGuard == "off":
		d.skip(check, "SIDECAR_BYPASS_GUARD is off")
		return
	case !ok:
		d.skip(check, "the FHIR server is not on a loopback address: see that only the sidecar reaches it")
		return
	}
	open := Bypass{Port: port, Own: listeners(s)}.Open(ctx)
	if len(open) == 0 {
		d.ok(check, "the FHIR server takes no connection at this host's other addresses")
		return
	}
	report := d.warn
	if s.BypassGuard == "enforce" {
		report = d.fail
	}
	report(check, fmt.Sprintf("a connection to %s is accepted", open[0]),
		diagnosis{"the FHIR server listens on more than loopback: whoever reaches that address needs no token. It must listen on 127.0.0.1 only", ""})
}

// listeners are where the sidecar listens, or would.
func listeners(s *config.Config) (own []netip.AddrPort) {
	for _, address := range []string{s.ListenAddress, s.AdminAddress} {
		host, port, _ := net.SplitHostPort(address)
		if host == "" {
			host = "::"
		}
		if at, err := netip.ParseAddrPort(net.JoinHostPort(host, port)); err == nil {
			own = append(own, at)
		}
	}
	return own
}

// checkCertificates reports how long the certificates in files last.
func (d local) checkCertificates(context.Context) {
	const check = "certificates"
	s := d.cfg.Settings
	for _, c := range []struct{ what, path, setting string }{
		{"the data listener's certificate", s.TLSCertFile, "SIDECAR_TLS_CERT_FILE"},
		{"the client certificate", s.ClientCertFile, "SIDECAR_CLIENT_CERT_FILE"},
		{"a certificate that the authorization server's is checked against", s.CAFile, "SIDECAR_CA_FILE"},
	} {
		if c.path == "" {
			continue
		}
		content, err := config.Watch(c.setting, c.path).Read(true)
		end, found := CertificatesEnd(content)
		detail := c.what + " ends at " + end.UTC().Format(time.DateTime) + " UTC"
		switch left := time.Until(end); {
		case err != nil || !found: // told when the configuration was read
		case left < 0:
			d.fail(check, detail, diagnosis{"it has expired", c.setting})
		case left < expiryWarning:
			d.warn(check, detail, diagnosis{"that is soon: see that it is renewed", c.setting})
		default:
			d.ok(check, detail)
		}
	}
}
