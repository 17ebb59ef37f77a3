package doctor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
)

// checkGrant gets the sidecar's own token where it comes from a token endpoint.
func (d *Doctor) checkGrant(ctx context.Context) {
	const check = "own credential"
	if !d.cfg.Settings.UsesGrant() {
		return // seen by the introspection
	}
	location := d.cfg.Endpoints().Token
	if location == "" {
		d.skip(check, "there is no token endpoint to ask")
		return
	}
	if err := d.cfg.Credential.Obtain(ctx); err != nil {
		d.fail(check, "no token from "+plainURL(location)+": "+err.Error(), d.diagnoseGrant(ctx, d.cfg.Wire.last(location), err))
		return
	}
	d.ok(check, "token obtained from "+plainURL(location)+d.cfg.Wire.last(location).assertion.String())
}

// checkIntrospection asks about a token that nobody has.
func (d *Doctor) checkIntrospection(ctx context.Context) {
	const check = "introspection"
	endpoint := d.cfg.Endpoints().Introspection
	switch {
	case endpoint == "":
		d.skip(check, "there is no endpoint to ask")
		return
	case d.cfg.Credential.Ready() != nil:
		d.skip(check, "there is no own credential to ask with")
		return
	}
	err := d.ask(ctx, d.cfg.Credential, rand.Text())
	ex := d.cfg.Wire.last(endpoint)
	if !d.cfg.Settings.UsesGrant() && !d.reportCredential(ctx, ex, err) {
		d.skip(check, "no answer without an own credential that is accepted")
		return
	}
	switch {
	case errors.Is(err, introspection.ErrInactive):
		d.ok(check, plainURL(endpoint)+" calls a random token inactive, as it should")
	case err == nil:
		d.fail(check, plainURL(endpoint)+" calls a random token active", diagnosis{"what answers calls every token active: it must not be trusted", "SIDECAR_INTROSPECTION_ENDPOINT"})
	case ex.status >= 500 && errors.Is(d.ask(ctx, d.cfg.Credential, randomJWT(d.cfg.Settings.IssuerURL)), introspection.ErrInactive):
		d.warn(check, fmt.Sprintf("%s calls a random JWT inactive, but answers a token that is no JWT with status %d", plainURL(endpoint), ex.status),
			diagnosis{"a flaw of the server; clients that send garbage get 503 instead of 401", ""})
	default:
		d.fail(check, plainURL(endpoint)+": "+reasonOf(err), d.diagnose(ctx, ex, err))
	}
}

// reportCredential says whether the endpoint took what the sidecar
// authenticates itself with.
func (d *Doctor) reportCredential(ctx context.Context, ex wireExchange, err error) bool {
	const check = "own credential"
	how := d.cfg.Settings.IntrospectionAuth + ex.assertion.String()
	switch {
	case errors.Is(err, introspection.ErrInvalidClient):
		d.fail(check, fmt.Sprintf("%s: refused with status %d", how, ex.status), d.diagnoseRefused(ctx, ex))
		return false
	case err == nil || errors.Is(err, introspection.ErrInactive):
		d.ok(check, how+": accepted")
	default:
		d.skip(check, how+": can't be told; see introspection")
	}
	return true
}

// reasonOf leaves out that the endpoint is unavailable: the status or the
// network's own words say more.
func reasonOf(err error) string {
	var failure *introspection.Failure
	if errors.As(err, &failure) && failure.Reason != "" && errors.Is(err, introspection.ErrUnavailable) {
		return failure.Reason
	}
	return err.Error()
}

// ask introspects a token without the pre-check, which may refuse it unasked.
func (d *Doctor) ask(ctx context.Context, credential *credential.Credential, token string) error {
	client, err := client.New(client.Config{
		Endpoint:   func() string { return d.cfg.Endpoints().Introspection },
		Credential: credential, HTTPClient: d.cfg.HTTPClient,
		Timeout: d.cfg.Settings.IntrospectionTimeout, MaxConcurrent: 1,
	})
	if err != nil {
		return err
	}
	_, err = client.Introspect(ctx, introspection.Request{Token: token})
	return err
}

// randomJWT is shaped like a JWT of the issuer. Nobody signed it.
func randomJWT(issuer string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS384","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"iss":%q,"aud":"check","jti":%q}`, issuer, rand.Text())) + "." + encode([]byte(rand.Text()))
}

// expiryWarning: warn about certificates expiring sooner than this.
const expiryWarning = 14 * 24 * time.Hour

// checkTLS reports how long the authorization server's certificates last.
func (d *Doctor) checkTLS(context.Context) {
	const check = "TLS"
	endpoint := d.cfg.Endpoints().Introspection
	ex := d.cfg.Wire.last(endpoint)
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

// maxClockDifference is where assertions and `nbf` begin to fail.
const maxClockDifference = 30 * time.Second

// checkClock compares with the authorization server's Date header.
func (d *Doctor) checkClock(context.Context) {
	const check = "clock"
	ex := d.cfg.Wire.last(d.cfg.Endpoints().Introspection)
	if ex.status == 0 && d.cfg.Settings.UsesGrant() {
		ex = d.cfg.Wire.last(d.cfg.Endpoints().Token)
	}
	difference, ok := ex.clockDifference()
	switch {
	case ex.status == 0:
		d.skip(check, "there was no answer to compare with")
	case !ok:
		d.skip(check, "the authorization server sent no Date header")
	case difference.Abs() > maxClockDifference:
		d.fail(check, "the authorization server's is "+formatSkew(difference), clockCause())
	default:
		d.ok(check, fmt.Sprintf("within %v of the authorization server's", maxClockDifference))
	}
}

// formatSkew rounds to ten seconds; a Date header is no more precise.
func formatSkew(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("about %v behind", (-d).Round(10*time.Second))
	}
	return fmt.Sprintf("about %v ahead", d.Round(10*time.Second))
}

func clockCause() diagnosis {
	return diagnosis{"one of the two clocks is not synchronised: tokens and assertions seem expired, or not valid yet", ""}
}
