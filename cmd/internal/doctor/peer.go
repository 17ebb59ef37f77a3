package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// peer says what the authorization server's responses show besides what they say.
type peer visit

// checkTLS reports how long the authorization server's certificates last.
func (d peer) checkTLS(context.Context) {
	const check = "TLS"
	endpoint := d.cfg.Endpoints().Introspection
	ex := d.introspected
	if ex.tls == nil || len(ex.tls.PeerCertificates) == 0 {
		if strings.HasPrefix(endpoint, "http://") {
			d.skip(check, "plain http")
		}
		return
	}
	soonest := ex.tls.PeerCertificates[0].NotAfter
	for _, cert := range ex.tls.PeerCertificates {
		if cert.NotAfter.Before(soonest) {
			soonest = cert.NotAfter
		}
	}
	detail := "the authorization server's certificate is good until " + soonest.UTC().Format(time.DateTime) + " UTC"
	if time.Until(soonest) < expiryWarning {
		d.warn(check, detail, diagnosis{"that is soon: see that it is renewed", ""})
		return
	}
	d.ok(check, detail)
}

// checkClock compares with the authorization server's Date header.
func (d peer) checkClock(context.Context) {
	const check = "clock"
	ex := d.introspected
	if ex.status == 0 {
		ex = d.obtained
	}
	difference, ok := ex.clockDifference()
	switch {
	case ex.status == 0:
		d.skip(check, "there was no response to compare with")
	case !ok:
		d.skip(check, "the authorization server sent no Date header")
	case difference.Abs() > maxClockDifference:
		d.fail(check, "the authorization server's is "+formatSkew(difference), clockCause())
	default:
		d.ok(check, fmt.Sprintf("within %v of the authorization server's", maxClockDifference))
	}
}
