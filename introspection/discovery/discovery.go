package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// discoveryInterval is how often the documents are read again.
	rereadInterval = 10 * time.Minute

	// discoveryRetry is how soon they are while an endpoint is missing without
	// which nothing works.
	retryInterval = 2 * time.Second

	// discoveryRecheck is how soon they are when anything else went wrong.
	recheckInterval = 30 * time.Second
)

// Config configures a Discovery.
type Config struct {
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
	// NeedsToken says that nothing works without the token endpoint, NeedsJWKS
	// that something doesn't without the keys. The introspection endpoint is
	// always needed.
	NeedsToken, NeedsJWKS bool
	// NeedsMetadata says that the issuer's metadata is to be served, NeedsSMART that
	// it must be known whether the FHIR server has a SMART configuration.
	NeedsMetadata, NeedsSMART bool
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
	config        Config
	disagreements prometheus.Counter

	found  atomic.Pointer[Endpoints]       // read on every request
	issuer atomic.Pointer[json.RawMessage] // the issuer's metadata; nil: not read yet
	smart  atomic.Int32                    // smartUnknown and what follows it

	mu         sync.Mutex
	fault      error           // of the last round; what was found before stays
	lastLogged string          // text of a fault
	known      map[string]bool // disagreements that were logged
}

// New returns a Discovery that has found nothing yet but what is
// pinned. The caller runs Run beside it. It fails when the issuer is no URL, and when
// the FHIR server is to be asked and no host is allowed.
func New(config Config) (*Discovery, error) {
	if len(config.AllowedHosts) == 0 && config.Issuer != "" {
		issuer, err := url.Parse(config.Issuer)
		if err != nil {
			return nil, errors.New("issuer is not a URL")
		}
		config.AllowedHosts = []string{net.JoinHostPort(issuer.Hostname(), transport.PortOf(issuer))}
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

// Faults returns those of the endpoints in what went wrong in the last round.
func (d *Discovery) Faults() (faults []*Fault) {
	joined, _ := d.Fault().(interface{ Unwrap() []error })
	if joined == nil {
		return nil
	}
	for _, err := range joined.Unwrap() {
		var fault *Fault
		if errors.As(err, &fault) {
			faults = append(faults, fault)
		}
	}
	return faults
}

// Run reads the documents until ctx ends: soon again after a failure, else from
// time to time. It returns nil.
func (d *Discovery) Run(ctx context.Context) error {
	for {
		d.Refresh(ctx)
		wait := d.interval()
		timer := time.NewTimer(wait + rand.N(wait/4))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// interval is how long to wait for the next round. The FHIR server beside the sidecar
// starts after it, and takes a minute.
func (d *Discovery) interval() time.Duration {
	known, smart := d.Endpoints(), d.smart.Load()
	switch {
	case known.Introspection == "", d.config.NeedsToken && known.Token == "",
		d.config.NeedsMetadata && d.IssuerMetadata() == nil, d.config.NeedsSMART && smart == smartUnknown:
		return retryInterval
	case d.Fault() != nil, d.config.NeedsSMART && smart == smartUnclear:
		return recheckInterval
	}
	return rereadInterval
}

// Refresh reads all documents once, side by side so that a server that hangs
// holds up the others' only as long as its own, and takes over what may be used.
func (d *Discovery) Refresh(ctx context.Context) []Finding {
	var reads []func(context.Context) Finding
	if d.config.FHIRBase != "" {
		reads = append(reads, d.readSMART, d.readCapabilities)
	}
	if d.config.Issuer != "" {
		reads = append(reads, d.readOpenID, d.readRFC8414)
	}
	findings := make([]Finding, len(reads))
	var wg sync.WaitGroup
	for i, read := range reads {
		wg.Go(func() { findings[i] = read(ctx) })
	}
	wg.Wait()
	d.keepMetadata(findings)
	d.adopt(findings)
	return findings
}
