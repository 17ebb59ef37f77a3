package app

import (
	"errors"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// loadSettings reads the settings and holds those that are the proxy's against its
// rules.
func loadSettings() *config.Config {
	return config.Load(config.Rules{
		Base: proxy.CheckBase, PublicPath: proxy.CheckPublicPath, HeaderPrefix: proxy.CheckHeaderPrefix,
		ContextHeaders: func(claims []string) error {
			_, err := proxy.ContextHeadersFor(claims)
			return err
		},
		ExtraHeader: func(name string) error {
			_, err := proxy.ExtraHeader(name, 0)
			if errors.Is(err, proxy.ErrHeaderTaken) {
				return errors.New("has the name of a header of SIDECAR_HEADERS")
			}
			return err
		},
	})
}

// contextHeaders returns the headers that the FHIR server gets, and the claims that they
// carry.
func contextHeaders(s *config.Config) (headers []proxy.ContextHeader, claims []introspection.Claim, err error) {
	if headers, err = proxy.ContextHeadersFor(s.Headers); err != nil {
		return nil, nil, err
	}
	for _, header := range headers {
		claims = append(claims, header.Claim)
	}
	for i, name := range s.ExtraNames {
		header, err := proxy.ExtraHeader(name, i)
		if err != nil {
			return nil, nil, err
		}
		headers = append(headers, header)
	}
	return headers, claims, nil
}
