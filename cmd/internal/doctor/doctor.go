// Package doctor tries a configuration for real and says, for each failure, what the
// likely cause is and which setting to look at.
package doctor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

const (
	// checkTimeout bounds the whole of a check: an operator waits for it.
	checkTimeout = 25 * time.Second

	// progressAfter prints the running step after this long.
	progressAfter = 1500 * time.Millisecond
)

// Statuses of a check.
const (
	statusOK      = "ok"
	statusWarn    = "warn"
	statusFail    = "fail"
	statusSkipped = "skipped"
)

// Result is one line of the table: what was checked, one of the statuses, what was
// found, and for a failure its likely cause and the setting to look at.
type Result struct {
	Check   string `json:"check"`
	Status  string `json:"status"`
	Detail  string `json:"detail"`
	Cause   string `json:"likely_cause,omitempty"`
	Setting string `json:"setting,omitempty"`
}

// diagnosis is the likely cause of a failure and the setting to look at, either
// of which may be unknown.
type diagnosis struct{ cause, setting string }

// Config is what New needs. TokenFile, and Discovery where every endpoint is set, may
// be missing.
type Config struct {
	// Settings are what is tried.
	Settings *config.Config

	// Discovery looks for endpoints. Nil: all are set.
	Discovery *discovery.Discovery

	// Endpoints are those that are known now.
	Endpoints func() discovery.Endpoints

	// Credential and Client are those that would serve.
	Credential *credential.Credential
	Client     *client.Client

	// CredentialConfig is what Credential was made of, without a Registerer: what is
	// refused is tried again with one thing changed.
	CredentialConfig credential.Config

	// Store is what replicas share. Nil: nothing.
	Store *valkey.Store

	// Proxy tells what would become of a token.
	Proxy *proxy.Proxy

	// HTTPClient goes to the authorization server, FHIRClient to the FHIR server. Wire
	// sees what both send.
	HTTPClient, FHIRClient *http.Client
	Wire                   *Wire

	// TokenFile holds a token to ask about, or is "-" for Stdin, which is read once.
	// Empty: none.
	TokenFile string
	Stdin     io.Reader

	// Request is one to decide about with that token, "GET /Observation?patient=1".
	// Empty: none.
	Request string

	// SMARTConfiguration returns the document that would be served, as in
	// proxy.Config. Nil: none is.
	SMARTConfiguration func() (document []byte, own bool)

	// Stderr is told what takes long.
	Stderr io.Writer
}

// Doctor tries a configuration for real.
type Doctor struct {
	cfg     Config
	token   suppliedToken
	secrets []string
	results []Result
}

// New returns a Doctor for one check.
func New(cfg Config) *Doctor { return &Doctor{cfg: cfg} }

// Check makes all checks, in the order in which they depend on each other.
func (d *Doctor) Check(ctx context.Context) Report {
	d.token = readToken(d.cfg.TokenFile, d.cfg.Stdin)
	d.readSecrets()
	d.run(ctx)
	return d.report()
}

func (d *Doctor) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for _, step := range []struct {
		check, doing string
		asks         bool // somebody, which takes time
		run          func(context.Context)
	}{
		{"FHIR server", "asking the FHIR server what it is", true, d.checkUpstream},
		{"discovery", "looking for the endpoints", d.cfg.Discovery != nil, d.checkDiscovery},
		{"keys", "reading the issuer's keys", d.cfg.Settings.JWTPrecheck, d.checkKeys},
		{"own credential", "getting the sidecar's own token", d.cfg.Settings.UsesGrant(), d.checkGrant},
		{"introspection", "asking about a token that nobody has", true, d.checkIntrospection},
		{"public URL", "asking what clients find at the public URL", d.cfg.Settings.PublicURL != "", d.checkPublicURL},
		{"SMART configuration", "", false, d.checkSMART},
		{"TLS", "", false, d.checkTLS},
		{"certificates", "", false, d.checkCertificates},
		{"clock", "", false, d.checkClock},
		{"policy", "", false, d.checkPolicy},
		{"bypass", "trying the FHIR server's port on this host's other addresses", true, d.checkBypass},
		{sharedCache, "trying the store that replicas share", d.cfg.Store != nil, d.checkShared},
		{"token", "asking about the token in the file", d.cfg.TokenFile != "", d.checkToken},
	} {
		if step.asks && ctx.Err() != nil {
			d.fail(step.check, "not tried", diagnosis{fmt.Sprintf("the checks before it took all of the %v", checkTimeout), ""})
			continue
		}
		progress := time.AfterFunc(progressAfter, func() { _, _ = fmt.Fprintf(d.cfg.Stderr, "%s ...\n", step.doing) })
		step.run(ctx)
		progress.Stop()
	}
}

func (d *Doctor) ok(check, detail string) {
	d.results = append(d.results, Result{Check: check, Status: statusOK, Detail: detail})
}

func (d *Doctor) skip(check, detail string) {
	d.results = append(d.results, Result{Check: check, Status: statusSkipped, Detail: detail})
}

func (d *Doctor) warn(check, detail string, why diagnosis) {
	d.results = append(d.results, Result{check, statusWarn, detail, why.cause, why.setting})
}

func (d *Doctor) fail(check, detail string, why diagnosis) {
	d.results = append(d.results, Result{check, statusFail, detail, why.cause, why.setting})
}
