package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
)

// documents reads what names the endpoints and the keys.
type documents visit

// check says which document names which endpoint.
func (d documents) check(ctx context.Context) {
	const check = "discovery"
	if d.cfg.Discovery == nil {
		d.skip(check, "not needed: the endpoints are set")
		return
	}
	ctx, seen := record(ctx)
	findings, faults := d.cfg.Discovery.Refresh(ctx), d.cfg.Discovery.Faults()
	// While something is missing, a document that can't be used is why.
	report := d.warn
	if len(faults) > 0 {
		report = d.fail
	}
	for _, f := range findings {
		i := slices.IndexFunc(faults, func(fault *discovery.Fault) bool { return fault.Document == f.Document })
		if i >= 0 {
			d.fail(check, shown(faults[i].Error()), discoveryCause(faults[i]))
			continue
		}
		d.reportFinding(f, seen.last(f.Document), report)
	}
	for _, fault := range faults {
		if fault.Document == "" { // what is wrong with single documents was reported with them
			d.fail(check, fault.Error(), discoveryCause(fault))
		}
	}
}

func (d documents) reportFinding(f discovery.Finding, ex wireExchange, report func(check, detail string, why diagnosis)) {
	const check = "discovery"
	switch {
	case f.Err == nil:
		d.reportEndpoints(f)
	case errors.Is(f.Err, discovery.ErrNoEndpoint):
		d.skip(check, f.Document+" names no endpoint")
	case errors.Is(f.Err, discovery.ErrOtherIssuer):
		report(check, f.Document+" "+f.Err.Error(), diagnosis{"SIDECAR_ISSUER_URL must be what the document says, to the last slash", "SIDECAR_ISSUER_URL"})
	case ex.status == http.StatusNotFound:
		d.skip(check, f.Document+" doesn't exist")
	case ex.status == 0 && d.cfg.Settings.FHIRBase() != "" && strings.HasPrefix(f.Document, d.cfg.Settings.FHIRBase()+"/"):
		report(check, "no response from "+f.Document, upstreamCause(ex))
	case ex.status == 0:
		report(check, "no response from "+f.Document, networkCause(ex, "SIDECAR_ISSUER_URL"))
	default:
		d.warn(check, f.Document+": "+f.Err.Error(), diagnosis{})
	}
}

// reportEndpoints says what a document names, and whether that is in use.
func (d documents) reportEndpoints(f discovery.Finding) {
	const check = "discovery"
	inUse := d.cfg.Endpoints()
	var names, others []string
	for _, e := range []struct{ what, named, inUse string }{
		{"introspection", f.Introspection, inUse.Introspection}, {"token", f.Token, inUse.Token}, {"keys", f.JWKS, inUse.JWKS},
	} {
		if e.named != "" {
			names = append(names, e.what+" "+plainURL(e.named))
		}
		if e.named != "" && e.inUse != "" && e.named != e.inUse {
			others = append(others, e.what+" "+plainURL(e.inUse))
		}
	}
	detail := f.Document + " names " + strings.Join(names, ", ")
	if others != nil {
		d.warn(check, detail, diagnosis{"in use is " + strings.Join(others, ", ") + ": a setting or an earlier document goes first; find out which is right", "SIDECAR_INTROSPECTION_ENDPOINT"})
		return
	}
	d.ok(check, detail)
}

// discoveryCause explains what went wrong in discovery.
func discoveryCause(fault *discovery.Fault) diagnosis {
	switch {
	case errors.Is(fault, discovery.ErrForbiddenHost):
		return diagnosis{"if that host is the authorization server's, list it; if not, find out who changed the document. Nothing was sent there", "SIDECAR_DISCOVERY_ALLOWED_HOSTS"}
	case errors.Is(fault, discovery.ErrInsecureEndpoint):
		return diagnosis{"tokens would cross the network readable. Nothing was sent there", "SIDECAR_ALLOW_INSECURE_HTTP"}
	case fault.Endpoint == discovery.TokenEndpoint:
		return diagnosis{"set it, or fix what fails above", "SIDECAR_TOKEN_ENDPOINT"}
	case fault.Endpoint == discovery.Keys:
		return diagnosis{"without the issuer's keys the pre-check lets every token through to introspection; see what fails above", "SIDECAR_JWT_PRECHECK"}
	}
	return diagnosis{"set it, or fix what fails above", endpointSetting}
}

// checkKeys reads what the pre-check verifies signatures with.
func (d documents) checkKeys(ctx context.Context) {
	const check = "keys"
	location := d.cfg.Endpoints().JWKS
	if !d.cfg.Settings.JWTPrecheck || location == "" {
		return // not wanted, or reported by discovery
	}
	ctx, seen := record(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		d.fail(check, "their URL can't be used", diagnosis{"the metadata is broken", "SIDECAR_ISSUER_URL"})
		return
	}
	res, err := d.cfg.HTTPClient.Do(req)
	if err != nil {
		d.fail(check, "no response from "+plainURL(location), networkCause(seen.last(location), "SIDECAR_ISSUER_URL"))
		return
	}
	defer res.Body.Close()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	err = json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&set)
	if res.StatusCode != http.StatusOK || err != nil || len(set.Keys) == 0 {
		d.fail(check, fmt.Sprintf("%s has no keys (status %d)", plainURL(location), res.StatusCode),
			diagnosis{"the pre-check lets every token through to introspection", "SIDECAR_JWT_PRECHECK"})
		return
	}
	d.ok(check, fmt.Sprintf("%d at %s", len(set.Keys), plainURL(location)))
}
