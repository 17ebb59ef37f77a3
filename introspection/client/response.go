package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// maxBody is what a response may hold after decompression. Koppeltaal scopes
	// are several KiB; one near this size is not an introspection response.
	maxBody = 256 << 10

	// maxErrorBody is what of another response is read.
	maxErrorBody = 16 << 10
)

// roundTrip sends the request and reads its response.
func (c *Client) roundTrip(req *http.Request) (answer introspection.Answer, err error) {
	res, err := c.config.HTTPClient.Do(req)
	if err != nil {
		return answer, introspection.Failf(introspection.ErrUnavailable, "%v", transport.Redact(err))
	}
	defer res.Body.Close()
	noteStatus(req.Context(), res.StatusCode)
	if res.StatusCode != http.StatusOK {
		return answer, c.statusFailure(res)
	}
	if err := checkContentType(res.Header); err != nil {
		return answer, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case len(body) > maxBody:
		return answer, introspection.Failf(introspection.ErrMalformed, "response is larger than %d KiB", maxBody>>10)
	case err != nil:
		return answer, introspection.Failf(introspection.ErrUnavailable, "reading the response: %v", transport.Redact(err))
	}
	return introspection.Answer{Body: body, ObtainedAt: c.config.Now()}, nil
}

// errUnknownToken says that a refusal is about the token, not about us.
var errUnknownToken = fmt.Errorf("%w, or doesn't know the token", introspection.ErrInvalidClient)

// statusFailure reads a status other than 200. Two are about our credential: 401,
// whose body real servers fill with HTML, and 400 when it says so.
func (c *Client) statusFailure(res *http.Response) error {
	failure := introspection.Failf(introspection.ErrUnavailable, "status %d", res.StatusCode)
	failure.RetryAfter = transport.RetryAfter(res.Header.Get("Retry-After"), c.config.Now())
	var body struct {
		Error  string `json:"error"`
		Active *bool  `json:"active"`
	}
	content, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil || json.Unmarshal(content, &body) != nil {
		body.Error, body.Active = "", nil
	}
	switch res.StatusCode {
	case http.StatusUnauthorized:
		failure.Kind = introspection.ErrInvalidClient
		if body.Active != nil && !*body.Active { // django-oauth-toolkit before 2.0
			failure.Kind = errUnknownToken
		}
	case http.StatusBadRequest: // RFC 6749 §5.2; Keycloak answers so
		if body.Error == "invalid_client" || body.Error == "unauthorized_client" {
			failure.Kind, failure.Reason = introspection.ErrInvalidClient, "status 400 "+body.Error
		}
	case http.StatusTooManyRequests:
		failure.Kind = introspection.ErrThrottled
	}
	return failure
}

// checkContentType takes JSON in UTF-8. A missing header is tolerated, because
// the body must prove itself anyway; an HTML page or a JWT (RFC 9701) isn't.
func checkContentType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return introspection.Failf(introspection.ErrMalformed, "content coding is not one we asked for")
	}
	value := h.Get("Content-Type")
	if value == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		return introspection.Failf(introspection.ErrMalformed, "content type can't be parsed")
	}
	if media != "application/json" && !strings.HasSuffix(media, "+json") {
		return introspection.Failf(introspection.ErrMalformed, "content type is not JSON")
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return nil
	}
	return introspection.Failf(introspection.ErrMalformed, "charset is not UTF-8")
}

// credentialFailure says why there is nothing to authenticate with.
func credentialFailure(err error) *introspection.Failure {
	failure := introspection.Failf(introspection.ErrUnavailable, "own credential: %v", transport.Redact(err))
	if answer := (*credential.TokenError)(nil); errors.As(err, &answer) {
		failure.RetryAfter = answer.RetryAfter
		if answer.Refused() {
			failure.Kind, failure.Reason = introspection.ErrInvalidClient, answer.Error()
		}
	}
	return failure
}
