package introspectiontest

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// assertionType marks a JWT as client credential, RFC 7523 section 2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// authenticate checks the caller of the introspection endpoint and takes its
// credential out of the form.
func (s *Server) authenticate(r *http.Request, form url.Values) *refusal {
	auth := s.cfg.Auth
	if auth != BearerToken && auth != ClientSecretBasic && r.Header.Get("Authorization") != "" {
		return invalidRequest("more than one credential") // RFC 6749 section 2.3
	}
	switch auth {
	case BearerToken:
		scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || !s.bearerValid(bearer) {
			return invalidClient()
		}
	case ClientSecretBasic:
		return s.basic(r)
	case ClientSecretPost:
		defer form.Del("client_id")
		defer form.Del("client_secret")
		return s.secret(form.Get("client_id"), form.Get("client_secret"))
	case ClientAssertion:
		return s.assertion(form)
	case NoAuth:
	default:
		return invalidClient() // a mistyped Config must not open the door
	}
	return nil
}

func (s *Server) bearerValid(bearer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	expiry, ok := s.bearers[bearer]
	return ok && (expiry.IsZero() || s.cfg.Now().Before(expiry))
}

func (s *Server) basic(r *http.Request) *refusal {
	id, secret, _ := r.BasicAuth()
	id, errID := url.QueryUnescape(id) // encoded as in a form first, RFC 6749 section 2.3.1
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil {
		return invalidClient()
	}
	return s.secret(id, secret)
}

func (s *Server) secret(id, secret string) *refusal {
	if id != s.cfg.ClientID || subtle.ConstantTimeCompare([]byte(secret), []byte(s.cfg.ClientSecret)) != 1 {
		return invalidClient()
	}
	return nil
}

// assertion checks a client assertion by RFC 7523 section 3, all but its
// signature. Its jti is used up even when the rest is wrong: Koppeltaal's
// reference server does so, and a client must sign a new one anyway.
func (s *Server) assertion(form url.Values) *refusal {
	defer form.Del("client_assertion_type")
	defer form.Del("client_assertion")
	var claims struct {
		Issuer   string  `json:"iss"`
		Subject  string  `json:"sub"`
		Audience any     `json:"aud"`
		Expires  float64 `json:"exp"`
		ID       string  `json:"jti"`
	}
	parts := strings.Split(form.Get("client_assertion"), ".")
	if len(parts) != 3 || parts[2] == "" || form.Get("client_assertion_type") != assertionType {
		return invalidClient()
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.ID == "" {
		return invalidClient()
	}
	s.mu.Lock()
	seen := s.assertions[claims.ID]
	s.assertions[claims.ID] = true
	s.mu.Unlock()
	left := claims.Expires - float64(s.cfg.Now().Unix())
	audiences, _ := claims.Audience.([]any)
	audiences = append(audiences, claims.Audience)
	wanted := s.cfg.AssertionAudience == "" || slices.ContainsFunc(audiences, func(a any) bool {
		return a == s.cfg.AssertionAudience
	})
	if seen || !wanted || claims.Issuer != s.cfg.ClientID || claims.Subject != s.cfg.ClientID ||
		left <= 0 || left > (5*time.Minute).Seconds() { // SMART Backend Services: five minutes at most
		return invalidClient()
	}
	return nil
}
