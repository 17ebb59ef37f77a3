package app

import (
	"bytes"
	"log/slog"
	"sync"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// publisher makes the documents that clients look for.
type publisher struct {
	settings  *config.Config
	discovery *discovery.Discovery // nil: nothing is made of what it reads
	file      []byte               // the SMART configuration that somebody wrote; nil: none
	logger    *slog.Logger

	mu        sync.Mutex
	metadata  []byte // of the issuer, of which document was made
	document  []byte
	lastFault string // what is wrong with the metadata; logged once
	unknown   bool   // a client asked for what can't be made yet; logged once
}

func newPublisher(s *config.Config, d *discovery.Discovery, logger *slog.Logger) (*publisher, error) {
	p := &publisher{settings: s, discovery: d, logger: logger}
	if s.SMARTConfiguration == "forward" || s.SMARTConfigurationFile == "" {
		return p, nil
	}
	file := config.Watch("SIDECAR_SMART_CONFIGURATION_FILE", s.SMARTConfigurationFile)
	var err error
	if p.file, err = file.Read(true); err == nil {
		p.file = bytes.TrimSpace(p.file)
		err = smart.CheckWellKnown(p.file)
	}
	if err != nil {
		return nil, config.AtFault(file.Name, err)
	}
	return p, nil
}

// smart returns the SMART configuration, and whether it is the one to serve. The
// document is nil while the issuer's metadata isn't known.
func (p *publisher) smart() (document []byte, own bool) {
	if p.settings.SMARTConfiguration == "fallback" && !p.discovery.LacksSMART() {
		return nil, false
	}
	if p.file != nil {
		return p.file, true
	}
	metadata := p.discovery.IssuerMetadata()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case metadata == nil && !p.unknown:
		p.unknown = true
		p.logger.Warn("the SMART configuration can't be served: the issuer's metadata isn't known yet", "setting", "SIDECAR_ISSUER_URL")
	case metadata != nil && p.unknown:
		p.unknown = false
		p.logger.Info("the issuer's metadata is known")
	}
	if !bytes.Equal(metadata, p.metadata) {
		p.metadata, p.document = metadata, p.make(metadata)
	}
	return p.document, true
}

func (p *publisher) make(metadata []byte) []byte {
	s := smart.WellKnown{Metadata: metadata, Capabilities: p.settings.SMARTCapabilities, Scopes: p.settings.SMARTScopes}
	document, err := s.Document()
	if err != nil && err.Error() != p.lastFault {
		p.lastFault = err.Error()
		p.logger.Error("no SMART configuration can be made", "error", p.lastFault)
	}
	return document
}

// resource returns the protected resource metadata of a FHIR base.
func (p *publisher) resource(base string) []byte {
	s := p.settings
	servers := s.RequiredIssuers
	if s.IssuerURL != "" {
		servers = []string{s.IssuerURL}
	}
	document, err := smart.ResourceMetadata{
		Resource: base, AuthorizationServers: servers, Scopes: s.SMARTScopes,
		Name: s.ResourceName, Documentation: s.ResourceDocumentation,
	}.Document()
	if err != nil {
		return nil // it is made of strings
	}
	return document
}
