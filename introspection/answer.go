package introspection

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody is what an answer may hold after decompression. Koppeltaal scopes
	// are several KiB; an answer near this size is not an introspection response.
	maxBody = 256 << 10

	// maxRetryAfter bounds how long the authorization server can send our clients away.
	maxRetryAfter = time.Hour
)

// roundTrip sends the request and reads its answer.
func (c *Client) roundTrip(req *http.Request) (*Response, error) {
	res, err := c.config.HTTPClient.Do(req)
	if err != nil {
		return nil, failf(ErrUnavailable, "%v", redact(err))
	}
	defer res.Body.Close()
	noteStatus(req.Context(), res.StatusCode)
	if res.StatusCode != http.StatusUnauthorized {
		c.refused.Store(false)
	}
	if res.StatusCode != http.StatusOK {
		// A little of the body is read so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10)
		return nil, c.statusFailure(res)
	}
	if err := checkContentType(res.Header); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case len(body) > maxBody:
		return nil, failf(ErrMalformed, "answer is larger than %d KiB", maxBody>>10)
	case err != nil:
		return nil, failf(ErrUnavailable, "reading the answer: %v", redact(err))
	}
	return DecodeResponse(body, c.config.Claims, c.config.Now())
}

// statusFailure reads a status other than 200. Only 401 is about our
// credential; the error member of its body isn't looked at, because real
// servers send HTML there.
func (c *Client) statusFailure(res *http.Response) error {
	failure := failf(ErrUnavailable, "status %d", res.StatusCode)
	switch res.StatusCode {
	case http.StatusUnauthorized:
		failure.Kind = ErrInvalidClient
	case http.StatusTooManyRequests:
		failure.Kind = ErrThrottled
	}
	failure.RetryAfter = retryAfter(res.Header.Get("Retry-After"), c.config.Now())
	return failure
}

// retryAfter reads RFC 9110 §10.2.3: seconds or a date. Zero means not told.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 31) // too many to count are the most it can count
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxRetryAfter))
}

// checkContentType takes JSON in UTF-8. A missing header is tolerated, because
// the body must prove itself anyway; an HTML page or a JWT (RFC 9701) isn't.
func checkContentType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return failf(ErrMalformed, "content coding is not one we asked for")
	}
	value := h.Get("Content-Type")
	if value == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		return failf(ErrMalformed, "content type can't be parsed")
	}
	if media != "application/json" && !strings.HasSuffix(media, "+json") {
		return failf(ErrMalformed, "content type is not JSON")
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return nil
	}
	return failf(ErrMalformed, "charset is not UTF-8")
}
