package introspectiontest

import (
	"bytes"
	"encoding/json"
)

// Secrets returns what a client of this server must keep to itself: the tokens
// that the server knows or was asked about, the credentials that it accepts, and
// the texts in the tokens' claims but for iss, which is its own address. A test
// looks for them where they must not be.
func (s *Server) Secrets() (secrets []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secrets = append(secrets, s.cfg.Bearer, s.cfg.ClientSecret)
	for bearer := range s.bearers {
		secrets = append(secrets, bearer)
	}
	for name := range s.callsOf {
		secrets = append(secrets, name)
	}
	for name, t := range s.tokens {
		var claims map[string]any
		dec := json.NewDecoder(bytes.NewReader(t.claims))
		_ = dec.Decode(&claims)
		delete(claims, "iss")
		secrets = append(append(secrets, name), texts(claims)...)
	}
	return secrets
}

// texts returns all strings in a JSON value, however deep.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		for _, item := range v {
			all = append(all, texts(item)...)
		}
	case map[string]any:
		for _, item := range v {
			all = append(all, texts(item)...)
		}
	}
	return all
}
