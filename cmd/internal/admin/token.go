package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// goodToken is the length below which a token gets a warning.
const goodToken = 16

// Token is the bearer token that proves an admin, in a file that may change.
type Token struct {
	file   func(reread bool) ([]byte, error)
	logger *slog.Logger
}

// NewToken reads the file once, so that an empty or broken one doesn't become a
// token that is easy to guess; the error says what is wrong with it.
func NewToken(file func(reread bool) ([]byte, error), logger *slog.Logger) (*Token, error) {
	t := &Token{file, logger}
	token, err := t.read()
	if err != nil {
		return nil, err
	}
	if len(token) < goodToken {
		logger.Warn("the admin token is short enough to be guessed", "setting", "SIDECAR_ADMIN_TOKEN_FILE")
	}
	return t, nil
}

func (t *Token) read() (string, error) {
	content, err := t.file(false)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("must hold one token, of visible ASCII characters")
	}
	return token, nil
}

// authorizes compares in constant time, over digests so that not even the length
// of the token shows.
func (t *Token) authorizes(r *http.Request) bool {
	want, err := t.read()
	if err != nil {
		// The old token is not kept: emptying the file may be meant to withdraw it.
		t.logger.Error("admin token file is invalid; admin requests are rejected until it is fixed", "setting", "SIDECAR_ADMIN_TOKEN_FILE", "error", err)
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if err != nil || len(r.Header["Authorization"]) != 1 || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(strings.TrimSpace(got)))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
