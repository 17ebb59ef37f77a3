package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// checkTimeout bounds one step of the doctor that isn't an introspection.
const checkTimeout = 10 * time.Second

// Statuses of a check.
const (
	statusOK      = "ok"
	statusWarn    = "warn"
	statusFail    = "fail"
	statusSkipped = "skipped"
)

// checkResult is one line of the doctor's table.
type checkResult struct {
	Check   string `json:"check"`
	Status  string `json:"status"`
	Detail  string `json:"detail"`
	Cause   string `json:"likely_cause,omitempty"`
	Setting string `json:"setting,omitempty"`
}

// doctor tries a configuration for real.
type doctor struct {
	settings *settings
	wire     *wiretap
	sidecar  *sidecar
	results  []checkResult
}

// checkCommand runs the doctor. Its exit code says whether everything works.
func checkCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print the results as JSON")
	tokenFile := flags.String("token-file", "", "introspect the token in this `file` and show what would become of it")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		if err == nil {
			_, _ = fmt.Fprintln(stderr, "check takes flags only; see check -h")
		}
		return exitConfig
	}
	c, unread := loadConfig()
	s := c.validate(unread)
	d := &doctor{settings: s, wire: &wiretap{exchanges: make(map[string]wireExchange)}}
	built, faults := build(s, slog.New(slog.DiscardHandler), io.Discard, d.wire)
	if len(faults) > 0 {
		for _, f := range faults {
			_, _ = fmt.Fprintln(stderr, f)
		}
		return exitConfig
	}
	d.sidecar = built
	defer built.cache.Close()
	d.run(ctx)
	if *tokenFile != "" {
		d.checkToken(ctx, *tokenFile)
	}
	return d.print(stdout, *asJSON)
}

// run makes all checks, in the order in which they depend on each other.
func (d *doctor) run(ctx context.Context) {
	d.checkUpstream(ctx)
	d.checkDiscovery(ctx)
	if d.sidecar.endpoints().Introspection == "" {
		d.add(checkResult{Check: "own credential", Status: statusSkipped, Detail: "no introspection endpoint"})
		d.add(checkResult{Check: "introspection", Status: statusSkipped, Detail: "no introspection endpoint"})
		return
	}
	// The grant's token is obtained by its loop, as in the running sidecar.
	loop, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.sidecar.credential.Run(loop)
	}()
	d.checkIntrospection(ctx)
	stop()
	<-ended
	d.checkTLS()
	d.checkClock()
}

func (d *doctor) add(r checkResult) { d.results = append(d.results, r) }

// checkUpstream asks the FHIR server what it is.
func (d *doctor) checkUpstream(ctx context.Context) {
	const check, setting = "FHIR server", "SIDECAR_UPSTREAM_URL"
	base := d.settings.fhirBase()
	if base == "" {
		d.add(checkResult{Check: check, Status: statusSkipped, Detail: "its URL has {tenant}; there is no tenant to ask about"})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metadata", nil)
	if err != nil {
		d.add(checkResult{check, statusFail, "URL can't be used", "the URL is malformed", setting})
		return
	}
	req.Header.Set("Accept", "application/fhir+json")
	res, err := d.sidecar.fhirClient.Do(req)
	if err != nil {
		cause, _ := networkCause(err)
		d.add(checkResult{check, statusFail, "can't be reached", cause, setting})
		return
	}
	defer res.Body.Close() //nolint:errcheck // read only
	var statement struct {
		ResourceType string `json:"resourceType"`
		FHIRVersion  string `json:"fhirVersion"`
		Software     struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"software"`
	}
	switch {
	case res.StatusCode == http.StatusNotFound:
		d.add(checkResult{check, statusFail, "no metadata there", "the path is not the FHIR base", setting})
	case res.StatusCode != http.StatusOK:
		d.add(checkResult{Check: check, Status: statusWarn, Detail: fmt.Sprintf("reachable; metadata answers with status %d", res.StatusCode)})
	case json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(&statement) != nil || statement.ResourceType != "CapabilityStatement":
		d.add(checkResult{check, statusFail, "what answers is no FHIR server", "another program listens there, or the path is not the FHIR base", setting})
	default:
		detail := strings.Join(slices.DeleteFunc([]string{
			shown(statement.Software.Name), shown(statement.Software.Version), "FHIR " + shown(statement.FHIRVersion),
		}, func(s string) bool { return s == "" }), " ")
		d.add(checkResult{Check: check, Status: statusOK, Detail: detail})
	}
}

// shown makes a server's own words fit for a terminal.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 60)]
}

// checkDiscovery says where the endpoints come from.
func (d *doctor) checkDiscovery(ctx context.Context) {
	const check = "discovery"
	if d.sidecar.discovery == nil {
		d.add(checkResult{Check: check, Status: statusSkipped, Detail: "endpoints are configured"})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 4*checkTimeout)
	defer cancel()
	for _, f := range d.sidecar.discovery.Refresh(ctx) {
		r := checkResult{Check: check, Status: statusOK, Detail: f.Document}
		if f.Err != nil {
			r.Status, r.Detail = statusWarn, f.Document+": "+f.Err.Error()
		} else {
			for _, e := range []struct{ what, url string }{{"introspection", f.Introspection}, {"token", f.Token}, {"keys", f.JWKS}} {
				if e.url != "" {
					r.Detail += "; " + e.what + " " + shown(e.url)
				}
			}
		}
		d.add(r)
	}
	if fault := d.sidecar.discovery.Fault(); fault != nil {
		setting := "SIDECAR_INTROSPECTION_ENDPOINT"
		cause := "no document names the endpoint; set it"
		if strings.Contains(fault.Error(), "host is not allowed") {
			setting = "SIDECAR_DISCOVERY_ALLOWED_HOSTS"
			cause = "a document names a host that is not on the list; add it if it is the authorization server's"
		}
		d.add(checkResult{check, statusFail, strings.ReplaceAll(fault.Error(), "\n", "; "), cause, setting})
	}
}

// checkIntrospection asks about a token that nobody has.
func (d *doctor) checkIntrospection(ctx context.Context) {
	_, err := d.sidecar.client.Introspect(ctx, rand.Text())
	d.reportCredential(err)
	const check = "introspection"
	endpoint := d.sidecar.endpoints().Introspection
	switch {
	case errors.Is(err, introspection.ErrInactive):
		d.add(checkResult{Check: check, Status: statusOK, Detail: "a random token is inactive, as it should be"})
	case err == nil:
		d.add(checkResult{check, statusFail, "a random token is active", "what answers calls every token active; it must not be trusted", "SIDECAR_INTROSPECTION_ENDPOINT"})
	default:
		cause, setting := d.diagnose(ctx, d.wire.last(endpoint), err)
		d.add(checkResult{check, statusFail, err.Error(), cause, setting})
	}
}

// reportCredential says what the sidecar authenticated itself with.
func (d *doctor) reportCredential(err error) {
	const check = "own credential"
	s := d.settings
	sent := d.wire.last(d.sidecar.endpoints().Introspection)
	if s.usesGrant() {
		token := d.wire.last(d.sidecar.endpoints().Token)
		if err := d.sidecar.credential.Ready(); err != nil {
			cause, setting := d.diagnoseGrant(token)
			d.add(checkResult{check, statusFail, "no token: " + err.Error(), cause, setting})
			return
		}
		d.add(checkResult{Check: check, Status: statusOK, Detail: "token obtained" + token.assertionDetail()})
		return
	}
	if errors.Is(err, introspection.ErrInvalidClient) {
		d.add(checkResult{Check: check, Status: statusFail, Detail: s.IntrospectionAuth + " refused" + sent.assertionDetail()})
		return
	}
	d.add(checkResult{Check: check, Status: statusOK, Detail: s.IntrospectionAuth + sent.assertionDetail()})
}

// checkTLS reports how long the certificates last.
func (d *doctor) checkTLS() {
	const check = "TLS"
	ex := d.wire.last(d.sidecar.endpoints().Introspection)
	if ex.tls == nil || len(ex.tls.PeerCertificates) == 0 {
		if strings.HasPrefix(d.sidecar.endpoints().Introspection, "http://") {
			d.add(checkResult{Check: check, Status: statusSkipped, Detail: "plain http"})
		}
		return
	}
	soonest := ex.tls.PeerCertificates[0].NotAfter
	for _, cert := range ex.tls.PeerCertificates {
		if cert.NotAfter.Before(soonest) {
			soonest = cert.NotAfter
		}
	}
	days := int(time.Until(soonest).Hours() / 24)
	r := checkResult{Check: check, Status: statusOK, Detail: fmt.Sprintf("chain of %d, %d days left", len(ex.tls.PeerCertificates), days)}
	if days < 14 {
		r.Status, r.Cause = statusWarn, "the authorization server's certificate is about to expire"
	}
	d.add(r)
}

// maxClockDifference is where assertions and `nbf` begin to fail.
const maxClockDifference = 30 * time.Second

// checkClock compares with the authorization server's Date header.
func (d *doctor) checkClock() {
	const check = "clock"
	difference, ok := d.wire.last(d.sidecar.endpoints().Introspection).clockDifference()
	switch {
	case !ok:
		d.add(checkResult{Check: check, Status: statusSkipped, Detail: "the authorization server sends no Date"})
	case difference.Abs() > maxClockDifference:
		d.add(checkResult{check, statusFail, fmt.Sprintf("differs from the authorization server's by %v", difference), "one of the two clocks is not synchronised", ""})
	default:
		d.add(checkResult{Check: check, Status: statusOK, Detail: fmt.Sprintf("within %v of the authorization server's", maxClockDifference)})
	}
}
