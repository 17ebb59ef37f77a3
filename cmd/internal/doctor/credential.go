package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// credentials tries the sidecar's own credential, and the introspection endpoint with it.
type credentials visit

// checkGrant gets the sidecar's own token where it comes from a token endpoint.
func (d credentials) checkGrant(ctx context.Context) {
	const check = "own credential"
	if !d.cfg.Settings.UsesGrant() {
		return // seen by the introspection
	}
	location := d.cfg.Endpoints().Token
	if location == "" {
		d.skip(check, "there is no token endpoint to ask")
		return
	}
	recorded, seen := record(ctx)
	err := d.cfg.Credential.Obtain(recorded)
	d.obtained = seen.last(location)
	if err != nil {
		d.fail(check, "no token from "+plainURL(location)+": "+err.Error(), refusals(d).diagnoseGrant(ctx, d.obtained, err))
		return
	}
	d.ok(check, "token obtained from "+plainURL(location)+d.obtained.assertion.String())
}

// checkIntrospection asks about a token that nobody has.
func (d credentials) checkIntrospection(ctx context.Context) {
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
	recorded, seen := record(ctx)
	err := asker(d).ask(recorded, d.cfg.Credential, rand.Text())
	ex := seen.last(endpoint)
	d.introspected = ex
	if !d.cfg.Settings.UsesGrant() && !d.reportCredential(ctx, ex, err) {
		d.skip(check, "no response without an own credential that is accepted")
		return
	}
	switch {
	case errors.Is(err, introspection.ErrInactive):
		d.ok(check, plainURL(endpoint)+" calls a random token inactive, as it should")
	case err == nil:
		d.fail(check, plainURL(endpoint)+" calls a random token active", diagnosis{"what answers calls every token active: it must not be trusted", "SIDECAR_INTROSPECTION_ENDPOINT"})
	case ex.status >= 500 && errors.Is(asker(d).ask(ctx, d.cfg.Credential, randomJWT(d.cfg.Settings.IssuerURL)), introspection.ErrInactive):
		d.warn(check, fmt.Sprintf("%s calls a random JWT inactive, but answers a token that is no JWT with status %d", plainURL(endpoint), ex.status),
			diagnosis{"a flaw of the server; clients that send garbage get 503 instead of 401", ""})
	default:
		d.fail(check, plainURL(endpoint)+": "+reasonOf(err), causes(d).diagnose(ctx, ex, err))
	}
}

// reportCredential says whether the endpoint took what the sidecar
// authenticates itself with.
func (d credentials) reportCredential(ctx context.Context, ex wireExchange, err error) bool {
	const check = "own credential"
	how := d.cfg.Settings.IntrospectionAuth + ex.assertion.String()
	switch {
	case errors.Is(err, introspection.ErrInvalidClient):
		d.fail(check, fmt.Sprintf("%s: refused with status %d", how, ex.status), refusals(d).diagnoseRefused(ctx, ex))
		return false
	case err == nil || errors.Is(err, introspection.ErrInactive):
		d.ok(check, how+": accepted")
	default:
		d.skip(check, how+": can't be told; see introspection")
	}
	return true
}
