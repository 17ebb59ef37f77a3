package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// wanted is an endpoint to look for.
type wanted struct {
	what    string
	current *string // what is known of it
	pinned  string
	needed  bool
	of      func(Endpoints) string
}

// adopt uses only the first document that names an endpoint: going on to the next one
// because the first named a forbidden host would hide that somebody tampers with it.
func (d *Discovery) adopt(findings []Finding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var faults []error
	missing := false
	found, pinned := d.Endpoints(), d.config.Pinned
	for _, w := range []wanted{
		{IntrospectionEndpoint, &found.Introspection, pinned.Introspection, true, Endpoints.introspection},
		{TokenEndpoint, &found.Token, pinned.Token, d.config.NeedsToken, Endpoints.token},
		{Keys, &found.JWKS, pinned.JWKS, d.config.NeedsJWKS, Endpoints.jwks},
	} {
		err := d.take(w, findings)
		if err == nil && w.needed && *w.current == "" {
			err, missing = &Fault{Endpoint: w.what}, true
		}
		faults = append(faults, err)
	}
	d.found.Store(&found)
	if missing {
		for _, f := range findings {
			if f.Err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", f.Document, f.Err))
			}
		}
	}
	d.fault = errors.Join(faults...)
	if text := errorText(d.fault); text != d.lastLogged {
		d.lastLogged = text
		if d.fault != nil {
			d.config.Logger.Error("discovery", "error", text)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// take sets what is wanted from the findings. d.mu is held.
func (d *Discovery) take(w wanted, findings []Finding) error {
	var first *Finding
	for i := range findings {
		found := w.of(findings[i].Endpoints)
		if found == "" {
			continue
		}
		if first == nil {
			first = &findings[i]
		}
		inUse := w.pinned
		if inUse == "" {
			inUse = w.of(first.Endpoints)
		}
		if found != inUse {
			d.disagree(w.what, findings[i].Document, found, inUse)
		}
	}
	if w.pinned != "" || first == nil {
		return nil
	}
	named := w.of(first.Endpoints)
	if err := d.allowed(named); err != nil {
		return &Fault{Endpoint: w.what, Document: first.Document, Named: printableURL(named), Err: err}
	}
	if *w.current != named {
		d.config.Logger.Info("discovered", "what", w.what, "url", printableURL(named), "document", first.Document)
	}
	*w.current = named
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
	case u.Scheme != "https" && (u.Scheme != "http" || !transport.IsLoopback(u.Hostname()) && !d.config.AllowInsecureHTTP):
		return ErrInsecureEndpoint
	}
	for _, host := range d.config.AllowedHosts {
		if strings.EqualFold(host, u.Hostname()) || strings.EqualFold(host, net.JoinHostPort(u.Hostname(), transport.PortOf(u))) {
			return nil
		}
	}
	return ErrForbiddenHost
}
