package doctor

import (
	"io"
	"net/http"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache/valkey"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
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

	// HTTPClient goes to the authorization server, FHIRClient to the FHIR server, both
	// by a transport of Tap.
	HTTPClient, FHIRClient *http.Client

	// TokenFile holds a token to ask about, or is "-" for Stdin, which is read once.
	// Empty: none.
	TokenFile string
	Stdin     io.Reader

	// Requests are to be decided about with that token, "GET /Observation?patient=1".
	Requests []string

	// SMARTConfiguration returns the document that would be served, as in
	// proxy.Config. Nil: none is.
	SMARTConfiguration func() (document []byte, own bool)

	// Stderr gets a line for each step that takes long.
	Stderr io.Writer
}

// visit is what each step of a check gets: the parts to look at, and where to tell.
type visit struct {
	cfg Config
	*findings
}

// findings are the results so far, and what later steps look at: how the sidecar got its
// own token, and what came of asking about a token that nobody has.
type findings struct {
	results                []Result
	obtained, introspected wireExchange
}

func (f *findings) ok(check, detail string) {
	f.results = append(f.results, Result{Check: check, Status: statusOK, Detail: detail})
}

func (f *findings) skip(check, detail string) {
	f.results = append(f.results, Result{Check: check, Status: statusSkipped, Detail: detail})
}

func (f *findings) warn(check, detail string, why diagnosis) {
	f.results = append(f.results, Result{check, statusWarn, detail, why.cause, why.setting})
}

func (f *findings) fail(check, detail string, why diagnosis) {
	f.results = append(f.results, Result{check, statusFail, detail, why.cause, why.setting})
}
