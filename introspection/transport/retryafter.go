package transport

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds how long the authorization server can send our clients away.
const maxRetryAfter = time.Hour

// RetryAfter reads RFC 9110 §10.2.3: seconds or a date. Zero means that there is none.
func RetryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 31) // too many to count are the most it can count
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxRetryAfter))
}
