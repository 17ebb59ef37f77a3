package config

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// parseURL takes an absolute http or https URL that names a server and nothing else.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with http:// or https://")
	case u.Hostname() == "" || strings.ContainsAny(u.Host, " %"):
		return nil, errors.New("must name a host")
	case u.User != nil:
		return nil, errors.New("must not have user information: secrets come from files")
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return nil, errors.New("must not have a fragment")
	}
	if port := u.Port(); strings.HasSuffix(u.Host, ":") || port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("must have a port from 1 to 65535, or none")
		}
	}
	return u, nil
}

// hasQuery reports whether there is one, even an empty one: to a URL that others
// are made from nothing can be appended then.
func hasQuery(u *url.URL) bool { return u.RawQuery != "" || u.ForceQuery }

// checkSecureURL checks a URL that gets tokens or credentials.
func (c *Config) checkSecureURL(variable, raw string) {
	if raw == "" {
		return
	}
	u, err := parseURL(raw)
	if err != nil {
		c.fault(variable, "%v", err)
		return
	}
	if u.Scheme == "http" && !transport.IsLoopback(u.Hostname()) && !c.AllowInsecureHTTP {
		c.fault(variable, "must be https, or http to a loopback address; tokens would cross the network readable (SIDECAR_ALLOW_INSECURE_HTTP=true allows it)")
	}
}
