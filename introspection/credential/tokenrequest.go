package credential

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	maxTokenAnswer = 64 << 10
	maxTokenLife   = 1<<31 - 1 // seconds; far more would overflow a Duration

	errTokenAnswer = transport.SafeText("token endpoint gave no usable token")
)

// request makes one token request.
func (g *grant) request(ctx context.Context) (accessToken, error) {
	endpoint := g.cfg.TokenEndpoint()
	conf := clientcredentials.Config{TokenURL: endpoint, Scopes: strings.Fields(g.cfg.Scope)}
	if g.assertions != nil {
		// Without an id and a secret this style adds nothing of its own: the
		// assertion alone says who asks (SMART Backend Services).
		conf.AuthStyle, conf.EndpointParams = oauth2.AuthStyleInParams, url.Values{}
		_, _, _ = g.assertions.key.Load(true) // as with the secret below
		if _, err := g.assertions.add(conf.EndpointParams, endpoint); err != nil {
			return accessToken{}, err
		}
	} else {
		conf.AuthStyle, conf.ClientID = oauth2.AuthStyleInHeader, g.cfg.ClientID
		conf.ClientSecret, _, _ = g.secret.Load(true) // logged there; the last good one stays
	}
	began := g.cfg.Now() // not when the answer came: its seconds are counted from before
	token, err := conf.Token(context.WithValue(ctx, oauth2.HTTPClient, g.client))
	if err != nil {
		return accessToken{}, redactGrant(err, g.cfg.Now())
	}
	if !strings.EqualFold(token.TokenType, "bearer") || !visibleASCII(token.AccessToken) {
		return accessToken{}, errTokenAnswer
	}
	life, err := tokenLife(token.Extra("expires_in"))
	return accessToken{value: token.AccessToken, obtained: began, life: life}, err
}

// tokenLife reads expires_in (RFC 6749 §5.1): a number, or as some servers send
// it, its digits in a string. Without one the token is used until refused.
func tokenLife(expiresIn any) (time.Duration, error) {
	var seconds float64
	switch v := expiresIn.(type) {
	case nil:
		return 0, nil
	case float64:
		seconds = v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, errTokenAnswer
		}
		seconds = float64(n)
	default:
		return 0, errTokenAnswer
	}
	if seconds < 1 {
		return 0, errTokenAnswer // expired as it came
	}
	return time.Duration(min(seconds, maxTokenLife)) * time.Second, nil
}

// TokenError is what the token endpoint answered instead of a token.
type TokenError struct {
	text transport.SafeText
	// Refused says that the sidecar was refused as a client.
	Refused bool
	// RetryAfter is how long the endpoint asked us to wait; zero: not told.
	RetryAfter time.Duration
}

// Error implements error.
func (e *TokenError) Error() string { return e.text.Error() }

// Unwrap gives the text, which may be shown.
func (e *TokenError) Unwrap() error { return e.text }

// redactGrant keeps the status, a registered error code and how long to wait.
// x/oauth2 would print the body, which may repeat the assertion or hold a token.
func redactGrant(err error, now time.Time) error {
	var answer *oauth2.RetrieveError
	var failed *url.Error
	switch {
	case errors.As(err, &answer):
		status := answer.Response.StatusCode
		text := "token endpoint answered " + strconv.Itoa(status)
		switch answer.ErrorCode {
		case "invalid_request", "invalid_client", "invalid_grant",
			"unauthorized_client", "unsupported_grant_type", "invalid_scope": // RFC 6749 §5.2
			text += " " + answer.ErrorCode
		}
		return &TokenError{
			text:       transport.SafeText(text),
			Refused:    status == http.StatusUnauthorized || answer.ErrorCode == "invalid_client" || answer.ErrorCode == "unauthorized_client",
			RetryAfter: transport.RetryAfter(answer.Response.Header.Get("Retry-After"), now),
		}
	case errors.As(err, &failed):
		return transport.SafeText("token endpoint: " + transport.Redact(err).Error())
	}
	return errTokenAnswer
}

// tokenTransport makes x/oauth2 read what RFC 6749 §5.1 describes, and no more.
type tokenTransport struct{ base http.RoundTripper }

// RoundTrip asks for JSON, bounds the answer after decompression and has it read
// as JSON: x/oauth2 takes a form from a text/plain page, and a MiB of anything.
func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Accept", "application/json")
	res, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxTokenAnswer), res.Body}
	res.Header.Set("Content-Type", "application/json")
	return res, nil
}
