package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// maxMetadata bounds SMART, OpenID Connect and RFC 8414 metadata and keys.
	maxMetadata = 1 << 20

	// maxCapabilities bounds a CapabilityStatement. It is read as a stream, so
	// that only time is spent on what doesn't matter.
	maxCapabilities = 64 << 20
)

// fetch opens a document. Redirects are not followed: they are no 200.
func fetch(ctx context.Context, client *http.Client, location, accept string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, transport.Redact(err)
	}
	req.Header.Set("Accept", accept)
	res, err := client.Do(req)
	if err != nil {
		return nil, transport.Redact(err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, statusError(res.StatusCode)
	}
	return res.Body, nil
}

// statusError is another status than 200.
type statusError int

// Error implements error.
func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }

// metadata are the members that SMART App Launch, OpenID Connect Discovery and
// RFC 8414 have in common.
type metadata struct {
	issuer string
	Endpoints
	content json.RawMessage // all of it
}

var errNotMetadata = errors.New("is not the JSON object it should be")

// parseMetadata is as strict as the decoder of verdicts: a document that says in
// two ways where tokens go is not believed in either.
func parseMetadata(content []byte) (m metadata, err error) {
	m.content = content
	wanted := map[string]*string{
		"issuer": &m.issuer, "introspection_endpoint": &m.Introspection, "token_endpoint": &m.Token, "jwks_uri": &m.JWKS,
	}
	values, doubtful, err := introspection.JSONMembers(content, slices.Collect(maps.Keys(wanted)))
	if err != nil {
		return m, errNotMetadata
	}
	for name, into := range wanted {
		if doubtful[name] != nil {
			return metadata{}, doubtful[name]
		}
		if *into, err = introspection.JSONText(values[name]); err != nil {
			return metadata{}, errNotMetadata
		}
	}
	return m, nil
}

func getMetadata(ctx context.Context, client *http.Client, location string) (m metadata, err error) {
	body, err := fetch(ctx, client, location, "application/json")
	if err != nil {
		return m, err
	}
	defer body.Close()
	content, err := io.ReadAll(io.LimitReader(body, maxMetadata+1))
	switch {
	case err != nil:
		return m, transport.Redact(err)
	case len(content) > maxMetadata:
		return m, errors.New("is too large")
	}
	return parseMetadata(content)
}

// readSMART reads the FHIR server's .well-known/smart-configuration.
func (d *Discovery) readSMART(ctx context.Context) Finding {
	f := Finding{Document: d.config.FHIRBase + "/.well-known/smart-configuration"}
	m, err := getMetadata(ctx, d.config.FHIRClient, f.Document)
	d.noteSMART(err)
	if f.Err = err; err == nil {
		// Its jwks_uri is not taken: keys come from the issuer itself.
		f.Endpoints = Endpoints{Introspection: d.absolute(m.Introspection), Token: d.absolute(m.Token)}
		f.Err = nothing(f.Endpoints)
	}
	return f
}

func nothing(e Endpoints) error {
	if e == (Endpoints{}) {
		return ErrNoEndpoint
	}
	return nil
}

// absolute resolves what older servers write relative to the FHIR base.
func (d *Discovery) absolute(reference string) string {
	base, err := url.Parse(d.config.FHIRBase + "/")
	if err != nil || reference == "" {
		return reference
	}
	u, err := base.Parse(reference)
	if err != nil {
		return reference
	}
	return u.String()
}

// readCapabilities reads the FHIR server's CapabilityStatement, JSON or XML.
func (d *Discovery) readCapabilities(ctx context.Context) Finding {
	f := Finding{Document: d.config.FHIRBase + "/metadata"}
	body, err := fetch(ctx, d.config.FHIRClient, f.Document, "application/fhir+json, application/fhir+xml;q=0.5")
	if err != nil {
		f.Err = err
		return f
	}
	defer body.Close()
	e, err := readCapabilityStatement(io.LimitReader(body, maxCapabilities))
	if f.Err = err; err == nil {
		f.Endpoints = Endpoints{Introspection: d.absolute(e.Introspection), Token: d.absolute(e.Token)}
		f.Err = nothing(f.Endpoints)
	}
	return f
}

// readOpenID reads the issuer's OpenID Connect metadata. The library checks that
// the document is the issuer's own.
func (d *Discovery) readOpenID(ctx context.Context) Finding {
	f := Finding{Document: strings.TrimSuffix(d.config.Issuer, "/") + "/.well-known/openid-configuration"}
	client, transport := capped(d.config.IssuerClient, maxMetadata)
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), d.config.Issuer)
	if err != nil {
		f.Err = transport.fault(err)
		return f
	}
	var content json.RawMessage
	if f.Err = provider.Claims(&content); f.Err != nil {
		return f
	}
	m, err := parseMetadata(content)
	if f.Err = err; err == nil {
		f.Endpoints, f.content = m.Endpoints, m.content
		f.Err = nothing(f.Endpoints)
	}
	return f
}

// otherIssuer names the issuer that metadata is of: often only a slash is missing.
func otherIssuer(issuer string) error {
	return fmt.Errorf("%w: %s", ErrOtherIssuer, printableURL(issuer))
}

// readRFC8414 reads the issuer's OAuth 2.0 metadata. RFC 8414 §3.1 puts the
// well-known part before the issuer's path, §3.3 asks for the same issuer.
func (d *Discovery) readRFC8414(ctx context.Context) Finding {
	f := Finding{Document: d.config.Issuer}
	u, err := url.Parse(d.config.Issuer)
	if err != nil {
		f.Err = errors.New("is not a URL")
		return f
	}
	u.Path, u.RawPath = "/.well-known/oauth-authorization-server"+strings.TrimSuffix(u.Path, "/"), ""
	f.Document = u.String()
	m, err := getMetadata(ctx, d.config.IssuerClient, f.Document)
	switch {
	case err != nil:
		f.Err = err
	case m.issuer != d.config.Issuer:
		f.Err = otherIssuer(m.issuer)
	default:
		f.Endpoints, f.content = m.Endpoints, m.content
		f.Err = nothing(f.Endpoints)
	}
	return f
}

// capped returns a client that reads at most limit bytes of a body, for a
// library that reads without a limit.
func capped(client *http.Client, limit int64) (*http.Client, *cappedTransport) {
	c, t := *client, &cappedTransport{base: client.Transport, limit: limit}
	c.Transport = t
	return &c, t
}

type cappedTransport struct {
	base   http.RoundTripper
	limit  int64
	status int // of the last response
}

// RoundTrip implements http.RoundTripper.
func (t *cappedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.base.RoundTrip(req)
	if err == nil {
		t.status = res.StatusCode
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, t.limit), res.Body}
	}
	return res, err
}

// fault says what went wrong without the library's text, which quotes the
// server's response.
func (t *cappedTransport) fault(err error) error {
	var mismatch *oidc.IssuerMismatchError
	switch {
	case errors.As(err, &mismatch):
		return otherIssuer(mismatch.Discovered)
	case t.status == 0:
		return transport.Redact(err)
	case t.status != http.StatusOK:
		return fmt.Errorf("status %d", t.status)
	}
	return errors.New("is no OpenID Connect metadata")
}
