package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// newTestClient returns a Client for an endpoint that takes DefaultBearer.
func newTestClient(t testing.TB, endpoint string, change func(*Config)) *Client {
	t.Helper()
	config := Config{Endpoint: func() string { return endpoint }, Timeout: 10 * time.Second, MaxConcurrent: 8, Decoder: introspection.Decoder{Claims: everyClaim}}
	if change != nil {
		change(&config)
	}
	if config.Credential == nil {
		config.Credential = must(credential.New(credential.Config{Auth: credential.AuthBearer, BearerToken: fixed(introspectiontest.DefaultBearer)}))
	}
	if config.HTTPClient == nil {
		config.HTTPClient = must(transport.NewClient(transport.Config{Timeout: config.Timeout, UserAgent: "test"}))
		t.Cleanup(config.HTTPClient.CloseIdleConnections)
	}
	return must(New(config))
}

// newMemoryClient returns a Client whose endpoint is a function, for tests on a
// fake clock and for answers that need no wire.
func newMemoryClient(t testing.TB, respond roundTrip, change func(*Config)) *Client {
	t.Helper()
	return newTestClient(t, "https://as.test/introspect", func(c *Config) {
		c.HTTPClient = &http.Client{
			Transport:     respond,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		if change != nil {
			change(c)
		}
	})
}

// always answers every request so.
func always(status int, header http.Header, body string) roundTrip {
	return func(*http.Request) (*http.Response, error) {
		res := answer(status, body)
		res.Header = header.Clone()
		return res, nil
	}
}

func failureOf(t *testing.T, err error) *introspection.Failure {
	t.Helper()
	var failure *introspection.Failure
	if !errors.As(err, &failure) {
		t.Fatalf("got %v, want a Failure", err)
	}
	return failure
}

// TestDeviations: one call, and the verdict of a careful client.
func TestDeviations(t *testing.T) {
	noLeaks(t)
	as := introspectiontest.NewServer(t)
	for _, d := range introspectiontest.Deviations() {
		t.Run(d.Name, func(t *testing.T) {
			token := canary + d.Name
			as.AddToken(token, as.Claims())
			as.SetAnswerFor(token, d.Answer)
			resp, err := introspect(t.Context(), newTestClient(t, as.Endpoint(), nil), token)
			got := introspectiontest.Unavailable
			switch {
			case err == nil && resp.Kind() == introspection.KindAccess:
				got = introspectiontest.Active
			case err == nil, errors.Is(err, introspection.ErrInactive):
				got = introspectiontest.Inactive
			}
			if got != d.Verdict {
				t.Errorf("%s, want %s: %v", got, d.Verdict, err)
			}
			if err != nil {
				introspectiontest.NoCanary(t, "error", err.Error())
			}
			if n := as.IntrospectionsOf(token); n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
		})
	}
	for _, request := range as.Requests() {
		if request.URI != introspectiontest.IntrospectionPath {
			t.Errorf("got request to %s, want %s", request.URI, introspectiontest.IntrospectionPath)
		}
	}
}

// TestStatus: only 200 is a verdict (G06, G21, G22); only 401, whatever its body says, and
// 400 that says so are about our credential (D12, D13, S-19, S-20).
func TestStatus(t *testing.T) {
	for status := 200; status < 600; status++ {
		for _, body := range []string{`{"active":true}`, `{"active":false}`, `{"error":"invalid_client"}`, `{"error":"Unauthorized"}`, "Access Denied", ""} {
			want := introspection.ErrUnavailable
			switch {
			case status == 200 && body == `{"active":true}`:
				want = nil
			case status == 200 && body == `{"active":false}`:
				want = introspection.ErrInactive
			case status == 200:
				want = introspection.ErrMalformed
			case status == 401, status == 400 && body == `{"error":"invalid_client"}`:
				want = introspection.ErrInvalidClient
			case status == 429:
				want = introspection.ErrThrottled
			}
			resp, err := introspect(t.Context(), newMemoryClient(t, always(status, nil, body), nil), "t")
			if !errors.Is(err, want) || (resp != nil) != (want == nil) {
				t.Errorf("%d %s: got error %v, want %v", status, body, err, want)
			}
		}
	}
}

// TestMediaType is D28, D29, D30 and D34.
func TestMediaType(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        error
	}{
		{"Content-Type", "application/json", nil},
		{"Content-Type", "APPLICATION/JSON", nil},
		{"Content-Type", "application/json;charset=UTF-8", nil},
		{"Content-Type", `application/json; charset="utf-8"`, nil},
		{"Content-Type", "application/json; charset=utf8", nil},
		{"Content-Type", "application/json; charset=us-ascii", nil},
		{"Content-Type", "application/json; profile=x", nil},
		{"Content-Type", "application/fhir+json", nil},
		{"Content-Type", "", nil},
		{"Content-Type", "application/json; charset=ISO-8859-1", introspection.ErrMalformed},
		{"Content-Type", "application/json; charset=utf-16", introspection.ErrMalformed},
		{"Content-Type", "application/json; charset", introspection.ErrMalformed},
		{"Content-Type", "application/json, text/html", introspection.ErrMalformed},
		{"Content-Type", "application/jsonp", introspection.ErrMalformed},
		{"Content-Type", "application/json5", introspection.ErrMalformed},
		{"Content-Type", "text/json", introspection.ErrMalformed},
		{"Content-Type", "text/plain", introspection.ErrMalformed},
		{"Content-Type", "text/html; charset=utf-8", introspection.ErrMalformed},
		{"Content-Type", "application/jwt", introspection.ErrMalformed},
		{"Content-Type", "application/token-introspection+jwt", introspection.ErrMalformed},
		{"Content-Type", "application/xml", introspection.ErrMalformed},
		{"Content-Type", "json", introspection.ErrMalformed},
		{"Content-Type", ";", introspection.ErrMalformed},
		{"Content-Encoding", "identity", nil},
		{"Content-Encoding", "Identity", nil},
		{"Content-Encoding", "br", introspection.ErrMalformed},
		{"Content-Encoding", "identity, br", introspection.ErrMalformed},
		{"Content-Encoding", "gzip, gzip", introspection.ErrMalformed},
	} {
		t.Run(tt.name+" "+tt.value, func(t *testing.T) {
			resp, err := introspect(t.Context(), newMemoryClient(t, always(200, http.Header{tt.name: {tt.value}}, `{"active":true}`), nil), "t")
			expectVerdict(t, resp, err, tt.want)
		})
	}
}

// TestBodyLimit is G07 and D30: the limit is on what the body becomes.
func TestBodyLimit(t *testing.T) {
	noLeaks(t)
	body := func(length int) []byte {
		return append([]byte(`{"active":true}`), bytes.Repeat([]byte{' '}, length-15)...)
	}
	compress := func(content []byte) []byte {
		var b bytes.Buffer
		zip := gzip.NewWriter(&b)
		_, _ = zip.Write(content)
		_ = zip.Close()
		return b.Bytes()
	}
	for _, tt := range []struct {
		name     string
		encoding string
		content  []byte
		chunked  bool
		want     error
	}{
		{"as large as may be", "", body(256 << 10), false, nil},
		{"one byte more", "", body(256<<10 + 1), false, introspection.ErrMalformed},
		{"chunked, as large as may be", "", body(256 << 10), true, nil},
		{"chunked, one byte more", "", body(256<<10 + 1), true, introspection.ErrMalformed},
		{"compressed, as large as may be", "gzip", compress(body(256 << 10)), false, nil},
		{"compressed, one byte more", "gzip", compress(body(256<<10 + 1)), false, introspection.ErrMalformed},
		{"bomb", "gzip", compress(body(8 << 20)), false, introspection.ErrMalformed},
		{"bomb in a bomb", "gzip", compress(compress(body(1 << 20))), false, introspection.ErrMalformed},
		{"no gzip", "gzip", body(99), false, introspection.ErrUnavailable},
		{"gzip cut off", "gzip", compress(body(99))[:20], false, introspection.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				if tt.chunked {
					_ = http.NewResponseController(w).Flush()
				} else {
					w.Header().Set("Content-Length", strconv.Itoa(len(tt.content)))
				}
				_, _ = w.Write(tt.content)
			}))
			t.Cleanup(server.Close)
			resp, err := introspect(t.Context(), newTestClient(t, server.URL, nil), "t")
			expectVerdict(t, resp, err, tt.want)
		})
	}
}

// countedBody is larger than any bound, and knows how much of it was read.
type countedBody struct{ read, closed atomic.Int64 }

func (b *countedBody) Read(p []byte) (int, error) {
	if b.read.Add(int64(len(p))) > 16<<20 {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (b *countedBody) Close() error { b.closed.Add(1); return nil }

func TestBodyIsReadWithinBounds(t *testing.T) {
	for status, most := range map[int]int64{200: maxBody + 1, 503: 64 << 10, 401: 64 << 10, 302: 64 << 10} {
		body := new(countedBody)
		client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
			res := answer(status, "")
			res.Body = body
			return res, nil
		}, nil)
		resp, err := introspect(t.Context(), client, "t")
		if resp != nil || err == nil || body.read.Load() > most || body.closed.Load() == 0 {
			t.Errorf("%d: got %v (%v), %d bytes read, closed %d times, want an error, at most %d and closed", status, resp, err, body.read.Load(), body.closed.Load(), most)
		}
	}
}

// TestRetryAfter is G20: seconds and dates within an hour; all else is not told.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"7":                              7 * time.Second,
		"007":                            7 * time.Second,
		"3600":                           time.Hour,
		"3601":                           time.Hour,
		"1000000000":                     time.Hour,
		"2147483647":                     time.Hour,
		"4294967303":                     time.Hour, // 7 beyond 32 bits
		"9223372037":                     time.Hour, // more nanoseconds than int64 holds
		"99999999999999999999999":        time.Hour,
		"-1":                             0,
		"+7":                             0,
		"7.5":                            0,
		"1e9":                            0,
		"7 ":                             0,
		"7, 8":                           0,
		"soon":                           0,
		"Mon, 23 Nov 2026 12:00:09 GMT":  9 * time.Second,
		"Mon, 23 Nov 2026 12:00:00 GMT":  0,
		"Mon, 23 Nov 2026 11:00:00 GMT":  0,
		"Thu, 01 Jan 1970 00:00:00 GMT":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":  time.Hour,
		"Monday, 23-Nov-26 12:00:09 GMT": 9 * time.Second,
		"Mon Nov 23 12:00:09 2026":       9 * time.Second,
		"2026-11-23T12:00:09Z":           0,
	} {
		for _, status := range []int{429, 503, 401, 302} {
			client := newMemoryClient(t, always(status, http.Header{"Retry-After": {value}}, ""),
				func(c *Config) { c.Now = func() time.Time { return now } })
			_, err := introspect(t.Context(), client, "t")
			if got := failureOf(t, err).RetryAfter; got != want {
				t.Errorf("%d %q: %v, want %v", status, value, got, want)
			}
		}
	}
}

// TestClock: the verdict is as of the clock given.
func TestClock(t *testing.T) {
	for offset, want := range map[int64]error{-1: nil, 0: introspection.ErrInactive, 1: introspection.ErrInactive} {
		client := newMemoryClient(t, always(200, nil, exampleOf2014),
			func(c *Config) { c.Now = func() time.Time { return time.Unix(1419356238+offset, 0) } })
		resp, err := introspect(t.Context(), client, "t")
		expectVerdict(t, resp, err, want)
	}
}

func TestNewClientFaults(t *testing.T) {
	good := Config{
		Endpoint: func() string { return "" }, HTTPClient: &http.Client{}, Timeout: 1, MaxConcurrent: 1,
		Credential: mustCredential(t, credential.Config{Auth: credential.AuthNone}),
	}
	if _, err := New(good); err != nil {
		t.Errorf("New: got error %v, want none", err)
	}
	for name, spoil := range map[string]func(*Config){
		"no endpoint":    func(c *Config) { c.Endpoint = nil },
		"no credential":  func(c *Config) { c.Credential = nil },
		"no HTTP client": func(c *Config) { c.HTTPClient = nil },
		"no timeout":     func(c *Config) { c.Timeout = 0 },
		"no places":      func(c *Config) { c.MaxConcurrent = 0 },
	} {
		config := good
		spoil(&config)
		if client, err := New(config); err == nil || client != nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}

func TestEndpointNotKnownYet(t *testing.T) {
	endpoint := ""
	client := newMemoryClient(t, always(200, nil, `{"active":true}`), func(c *Config) { c.Endpoint = func() string { return endpoint } })
	if err := client.Ready(); err == nil || err.Error() != "introspection endpoint is not known yet" {
		t.Errorf("Ready: got %v, want that the endpoint is not known yet", err)
	}
	resp, err := introspect(t.Context(), client, "t")
	expectVerdict(t, resp, err, introspection.ErrUnavailable)
	before := client.Authority()
	endpoint = "https://as.test/introspect"
	if err := client.Ready(); err != nil {
		t.Errorf("Ready: got %v, want none", err)
	}
	if resp, err := introspect(t.Context(), client, "t"); err != nil || resp == nil {
		t.Errorf("got %v (%v), want a response", resp, err)
	}
	if after := client.Authority(); after == before || !strings.HasPrefix(after, endpoint+"\x00") {
		t.Errorf("got authority %q, before %q, want another one, of the endpoint", after, before)
	}
	endpoint = "https://as.test:" + canary + "/" // a text that url.Parse quotes
	_, err = introspect(t.Context(), client, "t")
	introspectiontest.NoCanary(t, "error", failureOf(t, err).Error())
}

// TestAuthority: a verdict belongs to the endpoint and to the client that asked.
func TestAuthority(t *testing.T) {
	seen := map[string]bool{}
	for _, endpoint := range []string{"https://a.test/i", "https://b.test/i", "https://a.test/i2"} {
		for _, id := range []string{"sidecar", "sidecar2"} {
			client := newTestClient(t, endpoint, func(c *Config) {
				c.Credential = mustCredential(t, credential.Config{Auth: credential.AuthClientSecretBasic, ClientID: id, ClientSecret: fixed(canary)})
			})
			authority := client.Authority()
			introspectiontest.NoCanary(t, "authority", authority)
			if seen[authority] {
				t.Errorf("got %q twice, want it once", authority)
			}
			seen[authority] = true
		}
	}
}

// TestCredentialIsRenewedOnce: 401 is followed by one renewal and one more
// request, and never by a third.
func TestCredentialIsRenewedOnce(t *testing.T) {
	noLeaks(t)
	refuse := introspectiontest.Respond(http.StatusUnauthorized, nil, "Access Denied")
	for _, tt := range []struct {
		name          string
		auth          introspectiontest.Auth
		credential    func(as *introspectiontest.Server) credential.Config
		set           func(as *introspectiontest.Server)
		want          error
		calls, grants int
	}{
		{"granted token is accepted", introspectiontest.BearerToken, granted, func(*introspectiontest.Server) {}, nil, 1, 0},
		{"granted token was revoked", introspectiontest.BearerToken, granted, func(as *introspectiontest.Server) { as.AcceptBearers() }, nil, 2, 1},
		{"granted tokens are refused", introspectiontest.BearerToken, granted, func(as *introspectiontest.Server) { as.SetAnswer(refuse) }, introspection.ErrInvalidClient, 2, 1},
		{"no other token is granted", introspectiontest.BearerToken, granted, func(as *introspectiontest.Server) {
			as.SetAnswer(refuse)
			as.SetGrantAnswer(introspectiontest.Respond(500, nil, ""))
		}, introspection.ErrInvalidClient, 1, 1},
		{"fixed token is refused", introspectiontest.BearerToken, func(*introspectiontest.Server) credential.Config {
			return credential.Config{Auth: credential.AuthBearer, BearerToken: fixed("other")}
		}, nil, introspection.ErrInvalidClient, 1, 0},
		{"token file was replaced", introspectiontest.BearerToken, func(*introspectiontest.Server) credential.Config {
			rereads := 0
			return credential.Config{Auth: credential.AuthBearer, BearerToken: &transport.File{Read: func(reread bool) ([]byte, error) {
				if reread {
					rereads++
				}
				if rereads < 2 { // the first is at the start
					return []byte("other"), nil
				}
				return []byte(introspectiontest.DefaultBearer), nil
			}}}
		}, nil, nil, 2, 0},
		{"secret is refused", introspectiontest.ClientSecretBasic, func(*introspectiontest.Server) credential.Config {
			return credential.Config{Auth: credential.AuthClientSecretBasic, ClientID: introspectiontest.DefaultClientID, ClientSecret: fixed("other")}
		}, nil, introspection.ErrInvalidClient, 1, 0},
		{"assertions are refused", introspectiontest.ClientAssertion, signed(t), func(as *introspectiontest.Server) { as.SetAnswer(refuse) }, introspection.ErrInvalidClient, 2, 0},
		{"first assertion is refused", introspectiontest.ClientAssertion, signed(t), func(as *introspectiontest.Server) { as.SetAnswer(onceThen(refuse, nil)) }, nil, 2, 0},
		{"nothing to authenticate with", introspectiontest.NoAuth, func(*introspectiontest.Server) credential.Config {
			return credential.Config{Auth: credential.AuthNone}
		}, func(as *introspectiontest.Server) { as.SetAnswer(refuse) }, introspection.ErrInvalidClient, 1, 0},
		{"another failure after the renewal", introspectiontest.ClientAssertion, signed(t), func(as *introspectiontest.Server) {
			as.SetAnswer(onceThen(refuse, introspectiontest.Respond(503, nil, "")))
		}, introspection.ErrUnavailable, 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			as := introspectiontest.NewServerWith(t, introspectiontest.Config{Auth: tt.auth})
			as.AddToken("t", as.Claims())
			ahead, hasGrant := time.Duration(0), false
			client := newTestClient(t, as.Endpoint(), func(c *Config) {
				c.HTTPClient = mustClient(t, transport.Config{})
				config := tt.credential(as)
				config.HTTPClient, hasGrant = c.HTTPClient, config.TokenEndpoint != nil
				config.Now = func() time.Time { return time.Now().Add(ahead) }
				c.Credential = mustCredential(t, config)
			})
			if hasGrant {
				if _, err := introspect(t.Context(), client, "t"); err != nil { // brings the first token
					t.Fatalf("introspect: got error %v, want none", err)
				}
				ahead = time.Minute // another may be asked for only after a while
			}
			calls, grants := as.Introspections(), as.Grants()
			if tt.set != nil {
				tt.set(as)
			}
			resp, err := introspect(t.Context(), client, "t")
			expectVerdict(t, resp, err, tt.want)
			calls, grants = as.Introspections()-calls, as.Grants()-grants
			if calls != tt.calls || grants != tt.grants {
				t.Errorf("%d introspections, %d grants, want %d, %d", calls, grants, tt.calls, tt.grants)
			}
			if errors.Is(client.Ready(), introspection.ErrInvalidClient) {
				t.Errorf("Ready = %v, want it undecided by a client's token", client.Ready())
			}
			expectDifferentAssertions(t, as)
		})
	}
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// onceThen gives the first answer once. Nil is the correct answer.
func onceThen(first, then introspectiontest.Answer) introspectiontest.Answer {
	var asked atomic.Bool
	return func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		next := then
		if asked.CompareAndSwap(false, true) {
			next = first
		}
		if next == nil {
			introspectiontest.WriteJSON(w, http.StatusOK, correct)
			return
		}
		next(w, r, correct)
	}
}

func granted(as *introspectiontest.Server) credential.Config {
	return credential.Config{
		Auth: credential.AuthBearer, TokenEndpoint: as.TokenEndpoint,
		ClientID: introspectiontest.DefaultClientID, ClientSecret: fixed(introspectiontest.DefaultClientSecret),
	}
}

func signed(t *testing.T) func(*introspectiontest.Server) credential.Config {
	t.Helper()
	key := keyPEM(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	return func(*introspectiontest.Server) credential.Config {
		return credential.Config{Auth: credential.AuthClientAssertion, ClientID: introspectiontest.DefaultClientID, ClientKey: fixed(key), Algorithm: "ES256"}
	}
}

// expectDifferentAssertions: one that was refused is used up.
func expectDifferentAssertions(t *testing.T, as *introspectiontest.Server) {
	t.Helper()
	seen := map[string]bool{}
	for _, request := range as.Requests() {
		form, _ := url.ParseQuery(request.Body)
		if a := form.Get("client_assertion"); a != "" && seen[a] {
			t.Error("got an assertion twice, want each once")
		} else {
			seen[a] = true
		}
		for name := range form {
			if !slices.Contains([]string{"token", "client_assertion", "client_assertion_type", "grant_type"}, name) {
				t.Errorf("got parameter %q, want only those that are needed", name)
			}
		}
	}
}

// TestTimeoutIsExact: own credential, request and body share one deadline.
func TestTimeoutIsExact(t *testing.T) {
	hang := func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	for name, change := range map[string]func(*Config){
		"request": nil,
		"own credential": func(c *Config) {
			config := grantConfig(roundTrip(hang))
			c.Credential = must(credential.New(config))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newMemoryClient(t, hang, func(c *Config) {
					c.Timeout = 2 * time.Second
					if change != nil {
						change(c)
					}
				})
				began := time.Now()
				resp, err := introspect(t.Context(), client, "t")
				expectVerdict(t, resp, err, introspection.ErrUnavailable)
				if took := time.Since(began); took != 2*time.Second {
					t.Errorf("took %v, want 2s", took)
				}
				time.Sleep(10 * time.Second) // a token request outlives its caller, within bounds
			})
		})
	}
	t.Run("second request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			client := newMemoryClient(t, func(req *http.Request) (*http.Response, error) {
				calls++
				if calls == 1 {
					time.Sleep(1500 * time.Millisecond)
					return answer(http.StatusUnauthorized, ""), nil
				}
				return hang(req)
			}, func(c *Config) {
				c.Timeout = 2 * time.Second
				c.Credential = must(credential.New(signed(t)(nil)))
			})
			began := time.Now()
			resp, err := introspect(t.Context(), client, "t")
			expectVerdict(t, resp, err, introspection.ErrUnavailable)
			if took := time.Since(began); took != 2*time.Second || calls != 2 {
				t.Errorf("took %v and %d calls, want 2s and 2", took, calls)
			}
		})
	})
}

// TestConcurrency: never more calls than places, whatever comes.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const places, callers = 3, 20
		var now, most, served, busy atomic.Int64
		client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return answer(200, `{"active":true}`), nil
		}, func(c *Config) { c.MaxConcurrent, c.Timeout = places, 3500*time.Millisecond })
		began := time.Now()
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				resp, err := introspect(t.Context(), client, "t")
				switch {
				case err == nil && resp != nil:
					served.Add(1)
				case errors.Is(err, introspection.ErrBusy):
					busy.Add(1)
					if took := time.Since(began); took != 3500*time.Millisecond {
						t.Errorf("waited %v, want 3.5s", took)
					}
				default:
					t.Errorf("got %v (%v), want a response, or busy", resp, err)
				}
			})
		}
		all.Wait()
		// Those who got their place at 0, 1, 2 and 3 seconds.
		if most.Load() != places || served.Load() != 4*places || busy.Load() != callers-4*places {
			t.Errorf("got at most %d at once, %d served and %d busy, want %d, %d and %d", most.Load(), served.Load(), busy.Load(), places, 4*places, callers-4*places)
		}
		if client.queue.waiting.Load() != 0 || len(client.queue.slots) != 0 {
			t.Errorf("got %d waiting and %d places taken at the end, want none", client.queue.waiting.Load(), len(client.queue.slots))
		}
	})
}

// TestPlacesAreGivenBack after every kind of end.
func TestPlacesAreGivenBack(t *testing.T) {
	client := newMemoryClient(t, nil, func(c *Config) { c.MaxConcurrent = 1 })
	for _, respond := range []roundTrip{
		always(200, nil, `{"active":true}`), always(200, nil, `{"active":false}`), always(200, nil, ""), always(401, nil, ""),
		func(*http.Request) (*http.Response, error) { return nil, io.EOF },
		func(*http.Request) (*http.Response, error) { panic("in the transport") },
	} {
		client.config.HTTPClient.Transport = respond
		func() {
			defer func() { _ = recover() }()
			_, _ = introspect(t.Context(), client, "t")
		}()
		if len(client.queue.slots) != 0 {
			t.Fatal("a place is lost, want all free")
		}
	}
}

// TestQueueIsBounded is G33.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
			<-release
			return answer(200, `{"active":true}`), nil
		}, func(c *Config) { c.MaxConcurrent = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func() { _, _ = introspect(ctx, client, "t") }
		for range maxWaiting + 1 {
			all.Go(ask)
		}
		synctest.Wait()
		began := time.Now()
		resp, err := introspect(ctx, client, "t")
		expectVerdict(t, resp, err, introspection.ErrBusy)
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v, want no time", took)
		}
		cancel() // those who wait leave
		synctest.Wait()
		if n := client.queue.waiting.Load(); n != 0 {
			t.Errorf("got %d still waiting, want none", n)
		}
		close(release)
		all.Wait()
	})
}

// TestAbandonedCallsLeaveTheQueue: what nobody waits for any more takes no place and
// is never sent.
func TestAbandonedCallsLeaveTheQueue(t *testing.T) {
	release := make(chan struct{})
	var sent atomic.Int64
	client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
		sent.Add(1)
		<-release
		return answer(http.StatusOK, `{"active":false}`), nil
	}, func(c *Config) { c.MaxConcurrent, c.Timeout = 1, time.Minute })
	var calls sync.WaitGroup
	var queued atomic.Int64
	ask := func(token string, abandoned chan struct{}, waited bool) {
		calls.Go(func() {
			_, err := client.Introspect(t.Context(), introspection.Request{
				Token: token, Queued: func() { queued.Add(1) }, Abandoned: abandoned, Begin: func() bool { return waited },
			})
			if want := introspection.ErrInactive; waited != errors.Is(err, want) {
				t.Errorf("%s: got error %v, waited for %t, want %v if so", token, err, waited, want)
			}
		})
	}
	ask("first", nil, true)
	for sent.Load() == 0 {
		runtime.Gosched()
	}
	if n := queued.Load(); n != 0 {
		t.Errorf("%d calls told that they wait for their turn while there was a place, want 0", n)
	}
	abandoned := make(chan struct{})
	for i := range maxWaiting {
		ask(fmt.Sprint("junk", i), abandoned, false)
	}
	wait := func(want int64) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); client.queue.waiting.Load() != want; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("got %d calls that wait for a place, want %d", client.queue.waiting.Load(), want)
			}
		}
	}
	wait(maxWaiting)
	close(abandoned)
	wait(0) // nobody waits for them
	ask("late", nil, false)
	ask("good", nil, true)
	wait(2)
	close(release)
	calls.Wait()
	if got := sent.Load(); got != 2 {
		t.Errorf("%d tokens sent, want 2: nobody waited for the others", got)
	}
	if got := queued.Load(); got != maxWaiting+2 {
		t.Errorf("got %d calls that told that they wait for their turn, want %d", got, maxWaiting+2)
	}
}

func TestCallerLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
			<-release
			return answer(200, `{"active":true}`), nil
		}, func(c *Config) { c.MaxConcurrent = 1 })
		var first sync.WaitGroup
		first.Go(func() { _, _ = introspect(t.Context(), client, "t") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		resp, err := introspect(ctx, client, "t")
		expectVerdict(t, resp, err, introspection.ErrUnavailable)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
		close(release)
		first.Wait()
	})
}

// TestTraceHeaders: the ids of the request that caused the introspection.
func TestTraceHeaders(t *testing.T) {
	var seen []http.Header
	client := newMemoryClient(t, func(req *http.Request) (*http.Response, error) {
		seen = append(seen, req.Header)
		return answer(200, `{"active":true}`), nil
	}, nil)
	for _, want := range []introspection.Request{{}, {}, {CorrelationID: "corr-1"}, {TraceID: "trace-1"}, {CorrelationID: "corr-2", TraceID: "trace-2"}} {
		want.Token = "t"
		if _, err := client.Introspect(t.Context(), want); err != nil {
			t.Fatalf("client.Introspect: got error %v, want none", err)
		}
		header := seen[len(seen)-1]
		for name, value := range map[string]string{"X-Correlation-Id": want.CorrelationID, "X-Trace-Id": want.TraceID} {
			if _, there := header[name]; header.Get(name) != value || there != (value != "") {
				t.Errorf("%s = %q, want %q", name, header[name], value)
			}
		}
		if id := header.Get("X-Request-Id"); len(id) != 36 || id == want.CorrelationID {
			t.Errorf("got X-Request-Id %q, want a UUID of its own", id)
		}
	}
	if seen[0].Get("X-Request-Id") == seen[1].Get("X-Request-Id") {
		t.Error("got a request id twice, want each once")
	}
}

// TestNeverAcceptedTokensCostNoCall: the introspection of a launch token counts
// as a login of the patient.
func TestNeverAcceptedTokensCostNoCall(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.SetAnswer(introspectiontest.Respond(200, jsonHeader(), `{"active":true}`))
	client := newTestClient(t, as.Endpoint(), nil)
	for _, token := range []string{"NOOP", jwtOf(`{"aud":"Device/7"}`), jwtOf(`{"aud":["x","Device/7"]}`)} {
		resp, err := introspect(t.Context(), client, token)
		expectVerdict(t, resp, err, introspection.ErrInactive)
	}
	if n := as.Introspections(); n != 0 {
		t.Errorf("got %d calls, want none", n)
	}
	if _, err := introspect(t.Context(), client, jwtOf(`{"aud":"fhir-server"}`)); err != nil || as.Introspections() != 1 {
		t.Errorf("an access token: got error %v and %d calls, want none and 1", err, as.Introspections())
	}
}

// TestOneShotServer is D33: the first response must be the one that counts.
func TestOneShotServer(t *testing.T) {
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{OneShot: true})
	as.AddToken("t", as.Claims())
	client := newTestClient(t, as.Endpoint(), nil)
	if resp, err := introspect(t.Context(), client, "t"); err != nil || resp.Text(introspection.Patient) != "123" {
		t.Errorf("got %v (%v), want patient 123", resp, err)
	}
	resp, err := introspect(t.Context(), client, "t")
	expectVerdict(t, resp, err, introspection.ErrInactive)
}

func TestClientMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	var respond roundTrip
	inFlight := func() float64 {
		families := must(registry.Gather())
		for _, f := range families {
			if f.GetName() == "introspection_sidecar_introspections_in_flight" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	client := newMemoryClient(t, func(req *http.Request) (*http.Response, error) {
		if n := inFlight(); n != 1 {
			t.Errorf("got %v in flight during a call, want 1", n)
		}
		return respond(req)
	}, func(c *Config) { c.Registerer = registry })
	_, _ = introspect(t.Context(), client, "NOOP") // costs no call and counts as none
	for n, step := range []roundTrip{
		always(200, nil, `{"active":true}`), always(200, nil, `{"active":false}`), always(200, nil, `{}`),
		always(500, nil, ""), always(429, nil, ""), always(401, nil, ""),
	} {
		respond = step
		for range n + 1 {
			_, _ = introspect(t.Context(), client, "t")
		}
	}
	const want = `
# HELP introspection_sidecar_introspections_in_flight Calls to the introspection endpoint that are under way.
# TYPE introspection_sidecar_introspections_in_flight gauge
introspection_sidecar_introspections_in_flight 0
# HELP introspection_sidecar_introspections_total Calls to the introspection endpoint, by result.
# TYPE introspection_sidecar_introspections_total counter
introspection_sidecar_introspections_total{result="active"} 1
introspection_sidecar_introspections_total{result="inactive"} 2
introspection_sidecar_introspections_total{result="malformed"} 3
introspection_sidecar_introspections_total{result="unavailable"} 4
introspection_sidecar_introspections_total{result="throttled"} 5
introspection_sidecar_introspections_total{result="credential_rejected"} 6
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"introspection_sidecar_introspections_in_flight", "introspection_sidecar_introspections_total"); err != nil {
		t.Errorf("testutil.GatherAndCompare: got error %v, want none", err)
	}
	if n := must(testutil.GatherAndCount(registry, "introspection_sidecar_introspection_duration_seconds")); n != len(results) {
		t.Errorf("got %d durations, want %d", n, len(results))
	}
	if problems := must(testutil.GatherAndLint(registry)); len(problems) > 0 {
		t.Errorf("got problems %v, want none", problems)
	}
}

func TestResultLabel(t *testing.T) {
	for label, err := range map[string]error{
		"active": nil, "inactive": introspection.ErrInactive, "malformed": introspection.Failf(introspection.ErrMalformed, "x"), "throttled": introspection.Failf(introspection.ErrThrottled, "x"),
		"credential_rejected": fmt.Errorf("wrapped: %w", introspection.Failf(introspection.ErrInvalidClient, "x")), "unavailable": errors.New("any other"),
	} {
		if got := resultLabel(err); got != label {
			t.Errorf("%v: got %s, want %s", err, got, label)
		}
	}
}

func TestFailure(t *testing.T) {
	failure := introspection.Failf(introspection.ErrThrottled, "status %d", 429)
	if failure.Error() != "introspection endpoint asks to slow down: status 429" || !errors.Is(failure, introspection.ErrThrottled) || errors.Is(failure, introspection.ErrInactive) {
		t.Errorf("got %v, want a failure that says to slow down", failure)
	}
	if bare := (&introspection.Failure{Kind: introspection.ErrBusy}); bare.Error() != introspection.ErrBusy.Error() {
		t.Errorf("got %v, want %v", bare, introspection.ErrBusy)
	}
}

// TestNothingSecretInErrorsAndLogs: whatever goes wrong, with a secret in the
// token, the credential, the endpoint, the response's header and its body.
// L03 for the authorization server.
func TestNothingSecretInErrorsAndLogs(t *testing.T) {
	var log introspectiontest.Log
	for _, respond := range []roundTrip{
		always(200, http.Header{"Content-Type": {canary}}, ""),
		always(200, http.Header{"Content-Type": {"text/" + canary}}, ""),
		always(200, http.Header{"Content-Type": {"application/json; charset=" + canary}}, ""),
		always(200, http.Header{"Content-Encoding": {canary}}, ""),
		always(200, nil, canary),
		always(200, nil, `{"active":true,"sub":"`+canary+`\n"}`),
		always(200, nil, `{"active":true,"`+canary+`":}`),
		always(200, nil, `{"active":"`+canary+`"}`),
		always(302, http.Header{"Location": {"https://" + canary}}, ""),
		always(307, http.Header{"Location": {"::" + canary}}, ""),
		always(401, http.Header{"Www-Authenticate": {canary}}, canary),
		always(429, http.Header{"Retry-After": {canary}}, canary),
		always(500, nil, canary),
		func(*http.Request) (*http.Response, error) { return nil, errors.New(canary) },
		func(req *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Post", URL: req.URL.String(), Err: io.EOF}
		},
	} {
		client := newMemoryClient(t, respond, func(c *Config) {
			c.Logger = log.Logger()
			c.Endpoint = func() string {
				return "https://user:" + canary + "@as.test/" + canary + "?k=" + canary
			}
			c.Credential = mustCredential(t, credential.Config{Auth: credential.AuthBearer, BearerToken: fixed(canary), Logger: log.Logger()})
		})
		_, err := introspect(t.Context(), client, canary)
		if err == nil {
			t.Fatal("got no error, want one")
		}
		introspectiontest.NoCanary(t, "error", fmt.Sprintf("%v %+v %q", err, err, err))
		if err := client.Ready(); err != nil {
			introspectiontest.NoCanary(t, "readiness", err.Error())
		}
	}
	introspectiontest.NoCanary(t, "log", log.String())
}

// TestAsk: what the endpoint said comes as it came, active or inactive, and can
// be decoded again, here or where other claims are kept.
func TestAsk(t *testing.T) {
	now := time.Date(2014, time.December, 23, 12, 0, 0, 0, time.UTC)
	var status int
	var body string
	client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
		return answer(status, body), nil
	}, func(c *Config) { c.Now = func() time.Time { return now } })
	ask := func(s int, b string) (introspection.Answer, error) {
		status, body = s, b
		return client.Ask(t.Context(), introspection.Request{Token: "t"})
	}
	for _, tt := range []struct {
		body string
		want error
	}{
		{` {"active":true,"patient":"Patient/123"} `, nil},
		{`{"active":false,"patient":"123"}`, introspection.ErrInactive},
		{`{"active":true,"exp":1419336000}`, introspection.ErrInactive}, // noon
	} {
		got, err := ask(200, tt.body)
		if err != nil || string(got.Body) != tt.body || !got.ObtainedAt.Equal(now) {
			t.Errorf("Ask = %+v, %v, want %s of %v", got, err, tt.body, now)
		}
		resp, err := client.Decode(got)
		expectVerdict(t, resp, err, tt.want)
		if resp != nil && (resp.Text(introspection.Patient) != "123" || !resp.ObtainedAt().Equal(now)) {
			t.Errorf("got patient %q of %v, want 123 of %v", resp.Text(introspection.Patient), resp.ObtainedAt(), now)
		}
	}
	for _, tt := range []struct {
		status int
		body   string
		want   error
	}{
		{200, `{"active":"true"}`, introspection.ErrMalformed},
		{503, `{"active":false}`, introspection.ErrUnavailable},
		{401, ``, introspection.ErrInvalidClient},
	} {
		if got, err := ask(tt.status, tt.body); got.Body != nil || !got.ObtainedAt.IsZero() || !errors.Is(err, tt.want) {
			t.Errorf("Ask = %+v, %v, want no response and %v", got, err, tt.want)
		}
	}
}

// TestDecodeLater: time goes by in a store.
func TestDecodeLater(t *testing.T) {
	now := time.Unix(1419336000, 0)
	client := newMemoryClient(t, nil, func(c *Config) { c.Now = func() time.Time { return now } })
	kept := introspection.Answer{Body: []byte(`{"active":true,"exp":1419336010}`), ObtainedAt: now.Add(-time.Hour)}
	resp, err := client.Decode(kept)
	expectVerdict(t, resp, err, nil)
	if resp != nil && !resp.ObtainedAt().Equal(kept.ObtainedAt) {
		t.Errorf("got a response of %v, want %v", resp.ObtainedAt(), kept.ObtainedAt)
	}
	now = now.Add(10 * time.Second)
	resp, err = client.Decode(kept)
	expectVerdict(t, resp, err, introspection.ErrInactive)
	resp, err = client.Decode(introspection.Answer{Body: []byte(`{"active":true,"active":true}`)})
	expectVerdict(t, resp, err, introspection.ErrMalformed)
}

// TestRefuse: what needs no call gets none, and Ask doesn't look.
func TestRefuse(t *testing.T) {
	calls := 0
	client := newMemoryClient(t, func(*http.Request) (*http.Response, error) {
		calls++
		return answer(200, `{"active":true}`), nil
	}, nil)
	for token, want := range map[string]error{"NOOP": introspection.ErrInactive, jwtOf(`{"aud":"Device/1"}`): introspection.ErrInactive, "opaque": nil} {
		if err := client.Refuse(t.Context(), token); !errors.Is(err, want) {
			t.Errorf("Refuse(%q) = %v, want %v", token, err, want)
		}
	}
	if calls != 0 {
		t.Errorf("got %d calls, want none", calls)
	}
	if _, err := client.Ask(t.Context(), introspection.Request{Token: "NOOP"}); err != nil || calls != 1 {
		t.Errorf("Ask: %v and %d calls, want one call", err, calls)
	}
}
