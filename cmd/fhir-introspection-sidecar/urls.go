package main

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
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

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkSecureURL checks a URL that gets tokens or credentials.
func (s *settings) checkSecureURL(variable, raw string) {
	if raw == "" {
		return
	}
	u, err := parseURL(raw)
	if err != nil {
		s.fault(variable, "%v", err)
		return
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) && !s.AllowInsecureHTTP {
		s.fault(variable, "must be https, or http to a loopback address; tokens would cross the network readable (SIDECAR_ALLOW_INSECURE_HTTP=true allows it)")
	}
}
