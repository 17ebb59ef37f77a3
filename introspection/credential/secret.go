package credential

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// secret is text in a file: a client secret, or the sidecar's own token.
type secret struct{ *transport.Watched[string] }

func newSecret(p *parts, field string, file *transport.File, parse func([]byte) (string, error)) secret {
	s := secret{&transport.Watched[string]{Field: field, File: file, Parse: parse, Logger: p.cfg.Logger, Replaced: p.metrics.count}}
	_, _, err := s.Load(true)
	p.fault(err)
	return s
}

// current returns the last good content; a fault was logged when it appeared.
func (s secret) current() (string, transport.Generation) {
	text, gen, _ := s.Load(false)
	return text, gen
}

func (s secret) renew(_ context.Context, gen transport.Generation) (bool, error) {
	_, now, err := s.Load(true)
	return now != gen, transport.Redact(err)
}

func (secret) ready() error { return nil }

// secretBasic sends id and secret in the Authorization header.
type secretBasic struct {
	clientID string
	secret
}

func newSecretBasic(p *parts) authenticator {
	return secretBasic{p.clientID(), newSecret(p, "ClientSecret", p.cfg.ClientSecret, parseClientSecret)}
}

func (a secretBasic) attach(_ context.Context, _ string, h http.Header, _ url.Values) (transport.Generation, error) {
	text, gen := a.current()
	// RFC 6749 §2.3.1: each is form-urlencoded before they are joined.
	pair := url.QueryEscape(a.clientID) + ":" + url.QueryEscape(text)
	h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	return gen, nil
}

// secretPost sends id and secret in the form.
type secretPost struct {
	clientID string
	secret
}

func newSecretPost(p *parts) authenticator {
	return secretPost{p.clientID(), newSecret(p, "ClientSecret", p.cfg.ClientSecret, parseClientSecret)}
}

func (a secretPost) attach(_ context.Context, _ string, _ http.Header, form url.Values) (transport.Generation, error) {
	text, gen := a.current()
	form.Set("client_id", a.clientID)
	form.Set("client_secret", text)
	return gen, nil
}

const (
	errIllegalCharacter = transport.SafeText("holds a space, a line break, a control or a non-ASCII character")
	errNotVSCHAR        = transport.SafeText("holds a line break, a control or a non-ASCII character, or a space at an end")
)

// parseBearer takes what may stand in a header behind Bearer (RFC 6750 §2.1).
func parseBearer(content []byte) (string, error) {
	return parseSecret(content, visibleASCII, errIllegalCharacter)
}

// parseClientSecret takes a passphrase too: it is form-urlencoded before it is
// sent.
func parseClientSecret(content []byte) (string, error) {
	return parseSecret(content, vschar, errNotVSCHAR)
}

// parseSecret takes what is legal. The line ends that editors leave behind are
// not part of it.
func parseSecret(content []byte, legal func(string) bool, illegal error) (string, error) {
	text := strings.TrimRight(string(content), "\r\n")
	switch {
	case text == "":
		return "", transport.SafeText("is empty")
	case !legal(text):
		return "", illegal
	}
	return text, nil
}

func visibleASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// vschar reports whether s is a client id or secret (RFC 6749 §A.1, §A.2), which
// may hold spaces. Leading or trailing ones are treated as a mistake.
func vschar(s string) bool {
	return strings.Trim(s, " ") == s && visibleASCII(strings.ReplaceAll(s, " ", ""))
}
