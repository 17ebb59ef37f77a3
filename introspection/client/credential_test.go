package client

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// TestGrantRetryAfter: what the token endpoint asks for is told like what the
// introspection endpoint asks for (G20), and is not what the grant itself waits.
func TestGrantRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		status     int
		value      string
		kind       error
		now, later time.Duration
	}{
		{429, "7", introspection.ErrUnavailable, 7 * time.Second, 7 * time.Second},
		{503, "3601", introspection.ErrUnavailable, time.Hour, time.Hour},
		{401, "7", introspection.ErrInvalidClient, 7 * time.Second, 7 * time.Second},
		{429, "Sat, 01 Jan 2000 00:00:09 GMT", introspection.ErrUnavailable, 9 * time.Second, 4 * time.Second},
		{429, "soon", introspection.ErrUnavailable, 0, 0},
		{429, "", introspection.ErrUnavailable, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) { // where it is midnight of 1 January 2000
			asked := 0
			credential := mustCredential(t, grantConfig(roundTrip(func(req *http.Request) (*http.Response, error) {
				asked++
				return always(tt.status, http.Header{"Retry-After": {tt.value}}, "")(req)
			})))
			client := newMemoryClient(t, nil, func(c *Config) { c.Credential = credential })
			introspect := func(wantAsked int, want time.Duration) {
				resp, err := introspect(t.Context(), client, "t")
				expectVerdict(t, resp, err, tt.kind)
				if got := failureOf(t, err).RetryAfter; got != want || asked != wantAsked {
					t.Errorf("%d %q: %v after %d requests, want %v after %d", tt.status, tt.value, got, asked, want, wantAsked)
				}
			}
			introspect(1, tt.now)
			introspect(1, tt.now) // too soon for another token request
			time.Sleep(5 * time.Second)
			introspect(2, tt.later)
		})
	}
}
