package introspection

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// discoveryInterval is how often the documents are read again.
	discoveryInterval = 10 * time.Minute

	// discoveryRetry is how soon after a failure.
	discoveryRetry = 2 * time.Second
)

// Endpoints are what discovery can find out about an authorization server.
type Endpoints struct {
	Introspection string // RFC 7662
	Token         string // RFC 6749 §3.2
	JWKS          string // RFC 7517; only the issuer's own metadata tells it
}

// Finding is what one document said, or why it said nothing.
type Finding struct {
	// Document is the URL the document was read from.
	Document string
	Endpoints
	Err error
}

// DiscoveryConfig configures a Discovery.
type DiscoveryConfig struct {
	// FHIRBase is the FHIR server's base URL. Empty: it isn't asked.
	FHIRBase string
	// FHIRClient reads the FHIR server's documents.
	FHIRClient *http.Client
	// Issuer is the authorization server's issuer. Empty: it isn't asked.
	Issuer string
	// IssuerClient reads the issuer's metadata. It follows no redirect.
	IssuerClient *http.Client
	// AllowedHosts are the hosts that a discovered endpoint may have: host, or
	// host:port for one port only. Empty: the issuer's host and port.
	AllowedHosts []string
	// AllowInsecureHTTP accepts http to other than loopback addresses.
	AllowInsecureHTTP bool
	// Pinned are the endpoints that were configured. They are never replaced;
	// a document that says otherwise is a disagreement.
	Pinned Endpoints
	// Logger gets findings that matter to an operator. Nil discards.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: they are not exported.
	Registerer prometheus.Registerer
}

// Discovery finds the endpoints of the authorization server, in this order: the
// FHIR server's SMART configuration, its CapabilityStatement, the issuer's
// OpenID Connect metadata, the issuer's RFC 8414 metadata.
//
// Such a document says where our credential and every user's token go. Whatever
// it names is used only if its host is on the list.
type Discovery struct {
	config        DiscoveryConfig
	disagreements prometheus.Counter

	found atomic.Pointer[Endpoints] // read on every request

	mu    sync.Mutex
	fault error // of the last round; what was found before stays
	told  string
	known map[string]bool // disagreements that were logged
}

// NewDiscovery returns a Discovery that has found nothing yet but what is
// pinned. The caller runs Run beside it.
func NewDiscovery(config DiscoveryConfig) (*Discovery, error) {
	if len(config.AllowedHosts) == 0 && config.Issuer != "" {
		issuer, err := url.Parse(config.Issuer)
		if err != nil {
			return nil, errors.New("issuer is not a URL")
		}
		config.AllowedHosts = []string{net.JoinHostPort(issuer.Hostname(), portOf(issuer))}
	}
	if config.FHIRBase != "" && len(config.AllowedHosts) == 0 {
		return nil, errors.New("endpoints from the FHIR server need a list of allowed hosts, or an issuer")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{config: config, known: make(map[string]bool), disagreements: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "introspection_sidecar_discovery_disagreements_total",
		Help: "Times that a document named another endpoint than the one in use.",
	})}
	d.found.Store(&config.Pinned)
	if config.Registerer != nil {
		config.Registerer.MustRegister(d.disagreements)
	}
	return d, nil
}

// Endpoints returns what is known now; an unknown one is empty.
func (d *Discovery) Endpoints() Endpoints { return *d.found.Load() }

// Fault returns what went wrong in the last round, or nil.
func (d *Discovery) Fault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fault
}

// Run reads the documents until ctx ends: soon again after a failure, else from
// time to time. It returns nil.
func (d *Discovery) Run(ctx context.Context) error {
	for {
		d.Refresh(ctx)
		wait := discoveryInterval
		if d.Fault() != nil {
			wait = discoveryRetry
		}
		timer := time.NewTimer(wait + rand.N(wait/4))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Refresh reads all documents once and takes over what may be used.
func (d *Discovery) Refresh(ctx context.Context) []Finding {
	var findings []Finding
	if d.config.FHIRBase != "" {
		findings = append(findings, d.readSMART(ctx), d.readCapabilities(ctx))
	}
	if d.config.Issuer != "" {
		findings = append(findings, d.readOpenID(ctx), d.readRFC8414(ctx))
	}
	d.adopt(findings)
	return findings
}

// adopt takes the first document that names an endpoint at its word, or not at
// all: going on to the next one because the first named a forbidden host would
// hide that somebody tampers with it.
func (d *Discovery) adopt(findings []Finding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var faults []error
	found := d.Endpoints()
	faults = append(faults,
		d.take(&found.Introspection, d.config.Pinned.Introspection, "introspection endpoint", findings, Endpoints.introspection),
		d.take(&found.Token, d.config.Pinned.Token, "token endpoint", findings, Endpoints.token),
		d.take(&found.JWKS, d.config.Pinned.JWKS, "JWKS", findings, Endpoints.jwks))
	d.found.Store(&found)
	if found.Introspection == "" && faults[0] == nil {
		faults[0] = errors.New("no document names an introspection endpoint")
		for _, f := range findings {
			if f.Err != nil {
				faults = append(faults, errors.New(f.Document+": "+f.Err.Error()))
			}
		}
	}
	d.fault = errors.Join(faults...)
	if text := errorText(d.fault); text != d.told {
		d.told = text
		if d.fault != nil {
			d.config.Logger.Error("discovery", "error", text)
		}
	}
}

func (e Endpoints) introspection() string { return e.Introspection }
func (e Endpoints) token() string         { return e.Token }
func (e Endpoints) jwks() string          { return e.JWKS }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// take sets *current from the findings. d.mu is held.
func (d *Discovery) take(current *string, pinned, what string, findings []Finding, of func(Endpoints) string) error {
	var first *Finding
	for i := range findings {
		found := of(findings[i].Endpoints)
		if found == "" {
			continue
		}
		if first == nil {
			first = &findings[i]
		}
		inUse := pinned
		if inUse == "" {
			inUse = of(first.Endpoints)
		}
		if found != inUse {
			d.disagree(what, findings[i].Document, found, inUse)
		}
	}
	if pinned != "" || first == nil {
		return nil
	}
	if err := d.allowed(of(first.Endpoints)); err != nil {
		return errors.New(first.Document + " names the " + what + " " + printableURL(of(first.Endpoints)) + ": " + err.Error())
	}
	if *current != of(first.Endpoints) {
		d.config.Logger.Info("discovered", "what", what, "url", printableURL(of(first.Endpoints)), "document", first.Document)
	}
	*current = of(first.Endpoints)
	return nil
}

// disagree counts every time, and logs what is new. d.mu is held.
func (d *Discovery) disagree(what, document, says, inUse string) {
	d.disagreements.Inc()
	if key := what + document + says; !d.known[key] && len(d.known) < maxKnown {
		d.known[key] = true
		d.config.Logger.Warn("documents disagree", "what", what, "document", document,
			"says", printableURL(says), "in_use", printableURL(inUse))
	}
}

// maxKnown bounds how many different disagreements are logged.
const maxKnown = 100

// maxShownURL bounds what a document can put into a log line.
const maxShownURL = 200

// printableURL shows a URL from a document without what could be a secret in it.
func printableURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	shown := u.String()
	return shown[:min(len(shown), maxShownURL)]
}

// allowed reports why an endpoint from a document must not be contacted.
func (d *Discovery) allowed(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "":
		return errors.New("is not a URL")
	case u.User != nil || u.Fragment != "":
		return errors.New("has user information or a fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname()) && !d.config.AllowInsecureHTTP):
		return errors.New("is neither https nor http to a loopback address")
	}
	for _, host := range d.config.AllowedHosts {
		if strings.EqualFold(host, u.Hostname()) || strings.EqualFold(host, net.JoinHostPort(u.Hostname(), portOf(u))) {
			return nil
		}
	}
	return errors.New("its host is not allowed")
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
