package credential

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	maxTokenBody = 64 << 10
	maxTokenLife = 1<<31 - 1 // seconds; far more would overflow a Duration
)

// tokenRequest makes requests of the client credentials grant (RFC 6749 §4.4.2).
type tokenRequest struct {
	client authenticator
	scope  string
	http   *http.Client
	now    func() time.Time
}

// send makes one request. The error is a *TokenError when the endpoint responded.
func (r *tokenRequest) send(ctx context.Context, endpoint string) (accessToken, error) {
	req, err := r.build(ctx, endpoint)
	if err != nil {
		return accessToken{}, err
	}
	began := r.now() // not when the response came: its seconds are counted from before
	res, err := r.http.Do(req)
	if err != nil {
		return accessToken{}, transport.SafeText("token endpoint: " + transport.Redact(err).Error())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxTokenBody+1))
	if err != nil {
		return accessToken{}, transport.SafeText("token endpoint: " + transport.Redact(err).Error())
	}
	if fault := tokenFault(res, body, r.now()); fault != nil {
		return accessToken{}, fault
	}
	token, fault := parseToken(body)
	if fault != nil {
		fault.Status = res.StatusCode
		return accessToken{}, fault
	}
	token.obtained = began
	return token, nil
}

func (r *tokenRequest) build(ctx context.Context, endpoint string) (*http.Request, error) {
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/x-www-form-urlencoded"}}
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope := strings.Fields(r.scope); len(scope) > 0 {
		form.Set("scope", strings.Join(scope, " "))
	}
	_, _ = r.client.renew(ctx, 0) // takes what the disk holds now; the last good one stays
	if _, err := r.client.attach(ctx, endpoint, header, form); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, transport.SafeText("token endpoint: " + transport.Redact(err).Error())
	}
	req.Header = header
	return req, nil
}

// TokenError is what the token endpoint said instead of giving a usable token.
// It holds nothing that came from outside but a status and a registered code.
type TokenError struct {
	// Status is the response's.
	Status int
	// Code is the error code if it is one of RFC 6749 §5.2, else "".
	Code string
	// Member is what makes a response of 2xx unusable: the name of a member, or ""
	// when the response is no JSON object.
	Member string
	// RetryAfter is how long the endpoint asked us to wait; zero: it didn't say.
	RetryAfter time.Duration

	problem string // of a response of 2xx
}

// Refused reports whether the sidecar was refused as a client.
func (e *TokenError) Refused() bool {
	return e.Status == http.StatusUnauthorized || e.Code == "invalid_client" || e.Code == "unauthorized_client"
}

// Error returns a short line for logs and operators.
func (e *TokenError) Error() string {
	switch {
	case e.Member != "":
		return "token endpoint's response can't be used: " + e.Member + " " + e.problem
	case e.problem != "":
		return "token endpoint's response can't be used: it " + e.problem
	}
	return strings.TrimSuffix("token endpoint answered "+strconv.Itoa(e.Status)+" "+e.Code, " ")
}

// Unwrap gives the same as text that may be shown.
func (e *TokenError) Unwrap() error { return transport.SafeText(e.Error()) }

// tokenFault reads what the endpoint says instead of giving a token: a status that
// isn't 2xx, or an error although it is.
func tokenFault(res *http.Response, body []byte, now time.Time) error {
	var said struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &said) // pages of gateways hold no code
	if res.StatusCode/100 == 2 && said.Error == "" {
		return nil
	}
	fault := &TokenError{Status: res.StatusCode, RetryAfter: transport.RetryAfter(res.Header.Get("Retry-After"), now)}
	if slices.Contains([]string{ // RFC 6749 §5.2
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	}, said.Error) {
		fault.Code = said.Error
	}
	return fault
}

// parseToken reads a successful response (RFC 6749 §5.1).
func parseToken(body []byte) (token accessToken, fault *TokenError) {
	unusable := func(member, problem string) (accessToken, *TokenError) {
		return accessToken{}, &TokenError{Member: member, problem: problem}
	}
	if len(body) > maxTokenBody {
		return unusable("", "is larger than 64 KiB")
	}
	names := []string{"access_token", "token_type", "expires_in"}
	members, doubtful, err := introspection.JSONMembers(body, names)
	if err != nil {
		return unusable("", "is not one JSON object")
	}
	for _, name := range names {
		if doubtful[name] != nil {
			return unusable(name, "stands twice, or in another case")
		}
	}
	for _, name := range names[:2] {
		if introspection.IsJSONNull(members[name]) {
			return unusable(name, "is missing")
		}
	}
	if token.value, err = introspection.JSONText(members["access_token"]); err != nil || token.value == "" || !visibleASCII(token.value) {
		return unusable("access_token", "is not a string of visible ASCII characters")
	}
	if kind, err := introspection.JSONText(members["token_type"]); err != nil || !strings.EqualFold(kind, "bearer") {
		return unusable("token_type", "is not Bearer")
	}
	if token.life, err = tokenLife(members["expires_in"]); err != nil {
		return unusable("expires_in", err.Error())
	}
	return token, nil
}

// tokenLife reads expires_in (RFC 6749 §5.1): a number, or as some servers send
// it, its digits in a string. Without one the token is used until refused.
func tokenLife(raw json.RawMessage) (time.Duration, error) {
	if introspection.IsJSONNull(raw) {
		return 0, nil
	}
	seconds, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
	switch {
	case err != nil:
		return 0, transport.SafeText("is not a whole number of seconds")
	case seconds < 1:
		return 0, transport.SafeText("is not above zero: the token has expired as it came")
	}
	return time.Duration(min(seconds, maxTokenLife)) * time.Second, nil
}
