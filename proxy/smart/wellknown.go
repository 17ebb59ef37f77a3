package smart

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// WellKnownPath is where clients look for the SMART configuration, below the FHIR base
// (SMART App Launch 2.2, "FHIR Authorization Endpoint and Capabilities Discovery").
const WellKnownPath = ".well-known/smart-configuration"

// WellKnown is what a SMART configuration is made from.
type WellKnown struct {
	// Metadata is the issuer's own, OpenID Connect Discovery or RFC 8414, as JSON.
	Metadata []byte
	// Capabilities are SMART's. Empty: those that the metadata proves.
	Capabilities []string
	// Scopes replace the metadata's scopes_supported. Empty: they stay.
	Scopes []string
}

// issuerMetadata are the members that go into a SMART configuration.
// introspection_endpoint isn't one of them: it may be a name that only servers know.
type issuerMetadata struct {
	Issuer               string   `json:"issuer,omitempty"`
	JWKSURI              string   `json:"jwks_uri,omitempty"`
	Authorization        string   `json:"authorization_endpoint,omitempty"`
	Token                string   `json:"token_endpoint"`
	TokenAuthMethods     []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	TokenAuthAlgorithms  []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	Registration         string   `json:"registration_endpoint,omitempty"`
	Revocation           string   `json:"revocation_endpoint,omitempty"`
	Userinfo             string   `json:"userinfo_endpoint,omitempty"`
	GrantTypes           []string `json:"grant_types_supported"`
	ResponseTypes        []string `json:"response_types_supported,omitempty"`
	Scopes               []string `json:"scopes_supported,omitempty"`
	CodeChallengeMethods []string `json:"code_challenge_methods_supported"`
	Capabilities         []string `json:"capabilities"`
}

// s256 is the one code challenge method that SMART allows: it "SHALL be included",
// and plain "SHALL NOT".
const s256 = "S256"

// Document returns the SMART configuration. It is an error when the metadata lacks
// what SMART requires.
func (s *WellKnown) Document() ([]byte, error) {
	var m issuerMetadata
	if err := json.Unmarshal(s.Metadata, &m); err != nil {
		return nil, errors.New("the issuer's metadata can't be read")
	}
	if m.Token == "" {
		return nil, errors.New("the issuer's metadata names no token endpoint")
	}
	m.Capabilities = s.Capabilities
	if len(m.Capabilities) == 0 {
		m.Capabilities = m.proven()
	}
	if len(s.Scopes) > 0 {
		m.Scopes = s.Scopes
	}
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = []string{"client_credentials"}
		if m.Authorization != "" {
			m.GrantTypes = []string{"authorization_code"} // RFC 8414 §2 has implicit beside it, which SMART doesn't
		}
	}
	// Where the issuer is silent, the operator's word that apps can be launched is
	// taken for it.
	launches := slices.ContainsFunc(s.Capabilities, func(c string) bool { return strings.HasPrefix(c, "launch-") })
	if slices.Contains(m.CodeChallengeMethods, s256) || len(m.CodeChallengeMethods) == 0 && launches {
		m.CodeChallengeMethods = []string{s256}
	} else {
		m.CodeChallengeMethods = []string{}
	}
	m.Userinfo = "" // no member of a SMART configuration
	return json.Marshal(m)
}

// proven are the capabilities that can be told from the metadata.
func (m *issuerMetadata) proven() []string {
	capabilities := []string{}
	for _, c := range []struct {
		name   string
		proven bool
	}{
		{"client-public", slices.Contains(m.TokenAuthMethods, "none")},
		{"client-confidential-symmetric", slices.Contains(m.TokenAuthMethods, "client_secret_basic") || len(m.TokenAuthMethods) == 0}, // RFC 8414 §2
		{"client-confidential-asymmetric", slices.Contains(m.TokenAuthMethods, "private_key_jwt")},
		{"sso-openid-connect", m.Userinfo != "" && m.JWKSURI != "" && m.Issuer != ""},
	} {
		if c.proven {
			capabilities = append(capabilities, c.name)
		}
	}
	return capabilities
}

// LacksS256 reports whether a SMART configuration doesn't say that it takes S256,
// without which no app can be launched.
func LacksS256(document []byte) bool {
	var m issuerMetadata
	return json.Unmarshal(document, &m) != nil || !slices.Contains(m.CodeChallengeMethods, s256)
}

// CheckWellKnown reports what is wrong with a SMART configuration that somebody wrote.
func CheckWellKnown(document []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(document, &members); err != nil {
		return errors.New("is no JSON object")
	}
	for _, name := range []string{"grant_types_supported", "token_endpoint", "capabilities", "code_challenge_methods_supported"} {
		if members[name] == nil {
			return fmt.Errorf("lacks %s, which SMART requires", name)
		}
	}
	var m issuerMetadata
	if err := json.Unmarshal(document, &m); err != nil {
		return errors.New("has a member of another type than SMART says")
	}
	if !slices.Contains(m.CodeChallengeMethods, s256) || slices.Contains(m.CodeChallengeMethods, "plain") {
		return errors.New("code_challenge_methods_supported must have S256 and must not have plain")
	}
	for name, endpoint := range map[string]string{
		"token_endpoint": m.Token, "authorization_endpoint": m.Authorization, "jwks_uri": m.JWKSURI,
		"registration_endpoint": m.Registration, "revocation_endpoint": m.Revocation,
	} {
		if endpoint != "" && !isSecure(endpoint) || endpoint == "" && name == "token_endpoint" {
			return fmt.Errorf("%s must be an https URL", name)
		}
	}
	return nil
}

// isSecure holds for https, and for http to a loopback address.
func isSecure(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}
