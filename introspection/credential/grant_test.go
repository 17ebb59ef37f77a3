package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// answers is a token endpoint that always answers 200.
func answers(body func(*http.Request) string) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		return answer(http.StatusOK, body(req)), nil
	})
}

func tokenAnswer(token string, seconds int) string {
	return fmt.Sprintf(`{"access_token":%q,"token_type":"bearer","expires_in":%d}`, token, seconds)
}

func grantConfig(transport http.RoundTripper) Config {
	return Config{
		Auth:          AuthBearer,
		ClientID:      "sidecar",
		ClientSecret:  fixed(canary),
		TokenEndpoint: func() string { return "https://as.test/token" },
		HTTPClient:    &http.Client{Transport: transport},
	}
}

// tokenEndpoint is a token endpoint in memory, for tests on a fake clock. It
// numbers its tokens and notes when each was asked for.
type tokenEndpoint struct {
	mu      sync.Mutex
	began   time.Time
	asked   []time.Duration
	seconds int   // expires_in; 0 leaves it out
	fault   error // instead of a response
	hang    bool  // until the caller gives up
}

func newTokenEndpoint(seconds int) *tokenEndpoint {
	return &tokenEndpoint{began: time.Now(), seconds: seconds}
}

func (e *tokenEndpoint) RoundTrip(req *http.Request) (*http.Response, error) {
	e.mu.Lock()
	e.asked = append(e.asked, time.Since(e.began))
	n, seconds, fault, hang := len(e.asked), e.seconds, e.fault, e.hang
	e.mu.Unlock()
	switch {
	case hang:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case fault != nil:
		return nil, fault
	case seconds == 0:
		return answer(200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer"}`, n)), nil
	}
	return answer(200, tokenAnswer(fmt.Sprintf("token-%d", n), seconds)), nil
}

func (e *tokenEndpoint) set(fault error, hang bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault, e.hang = fault, hang
}

func (e *tokenEndpoint) requests() []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

// running starts Run, and returns what ends it and waits for it.
func running(t *testing.T, c *Credential) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want none", err)
		}
	}
}

func TestGrantRequest(t *testing.T) {
	var got *http.Request
	var form url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_ = r.ParseForm()
		form = r.PostForm
		_, _ = io.WriteString(w, tokenAnswer("t", 300))
	}))
	defer server.Close()
	client := must(transport.NewClient(transport.Config{Timeout: 5 * time.Second, UserAgent: "sidecar/1"}))
	defer client.CloseIdleConnections()
	cfg := grantConfig(nil)
	cfg.HTTPClient, cfg.Scope = client, "system/Patient.rs  introspect"
	cfg.ClientID, cfg.ClientSecret = "urn:c", fixed("a+b")
	cfg.TokenEndpoint = func() string { return server.URL + "/token" }

	t.Run("client secret", func(t *testing.T) {
		mustAttach(t, mustCredential(t, cfg))
		if id, secret, _ := got.BasicAuth(); id != "urn%3Ac" || secret != "a%2Bb" {
			t.Errorf("got Basic %q %q, want them encoded as in a form", id, secret)
		}
		if want := "grant_type=client_credentials&scope=system%2FPatient.rs+introspect"; form.Encode() != want {
			t.Errorf("form %q, want %q", form.Encode(), want)
		}
		if got.Header.Get("Accept") != "application/json" || got.UserAgent() != "sidecar/1" {
			t.Errorf("got headers %v, want Accept JSON and our User-Agent", got.Header)
		}
	})
	t.Run("private key", func(t *testing.T) {
		cfg.ClientKey = fixed(keyPEM(t, p384()))
		h, _, _ := mustAttach(t, mustCredential(t, cfg))
		if h.Get("Authorization") != "Bearer t" {
			t.Errorf("got headers %v, want Bearer t", h)
		}
		if got.Header.Get("Authorization") != "" {
			t.Errorf("got %q beside the assertion, want nothing", got.Header.Get("Authorization"))
		}
		if form.Has("client_id") || form.Has("client_secret") || len(form) != 4 {
			t.Errorf("got form %v, want four members without client_id and secret", form)
		}
		if _, claims := assertionOf(t, form, p384().Public(), "ES384"); claims["aud"] != server.URL+"/token" {
			t.Errorf("got aud %v, want the token endpoint", claims["aud"])
		}
	})
}

// TestTokenAuth: the grant authenticates as it is told, and by what there is.
func TestTokenAuth(t *testing.T) {
	for _, tt := range []struct {
		name   string
		auth   TokenAuth
		secret bool
		key    bool
		want   []string // members of the form beside grant_type
		basic  bool
	}{
		{"by the secret", "", true, false, nil, true},
		{"by the key", "", true, true, []string{"client_assertion", "client_assertion_type"}, false},
		{"basic beside a key", TokenAuthSecretBasic, true, true, nil, true},
		{"post", TokenAuthSecretPost, true, true, []string{"client_id", "client_secret"}, false},
		{"assertion", TokenAuthPrivateKeyJWT, true, true, []string{"client_assertion", "client_assertion_type"}, false},
		{"certificate", TokenAuthTLSClient, false, false, []string{"client_id"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var form url.Values
			var basic bool
			cfg := grantConfig(answers(func(req *http.Request) string {
				_ = req.ParseForm()
				_, _, basic = req.BasicAuth()
				form = req.PostForm
				return tokenAnswer("t", 300)
			}))
			cfg.TokenAuth = tt.auth
			if !tt.secret {
				cfg.ClientSecret = nil
			}
			if tt.key {
				cfg.ClientKey = fixed(keyPEM(t, p384()))
			}
			mustAttach(t, mustCredential(t, cfg))
			want := append([]string{"grant_type"}, tt.want...)
			if got := slices.Sorted(maps.Keys(form)); !slices.Equal(got, slices.Sorted(slices.Values(want))) || basic != tt.basic {
				t.Errorf("got form %q, basic %t, want %q, %t", got, basic, want, tt.basic)
			}
		})
	}
}

// TestModesHaveOneName: each way of authenticating is a row, and each row builds.
func TestModesHaveOneName(t *testing.T) {
	if got, want := Auths(), []string{"bearer", "client_assertion", "client_secret_basic", "client_secret_post", "tls_client_auth", "none"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := TokenAuths(), []string{"private_key_jwt", "client_secret_basic", "client_secret_post", "tls_client_auth"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGrantAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   string // the error; "" for a token
		life   time.Duration
	}{
		{"plain", 200, tokenAnswer("t", 300), "", 5 * time.Minute},
		{"type in capitals", 200, `{"access_token":"t","token_type":"BEARER","expires_in":300}`, "", 5 * time.Minute},
		{"digits", 200, `{"access_token":"t","token_type":"bearer","expires_in":"300"}`, "", 5 * time.Minute},
		{"no expiry", 200, `{"access_token":"t","token_type":"bearer"}`, "", 0},
		{"null expiry", 200, `{"access_token":"t","token_type":"bearer","expires_in":null}`, "", 0},
		{"for ever", 200, `{"access_token":"t","token_type":"bearer","expires_in":9223372036854775807}`, "", maxTokenLife * time.Second},
		{"expired", 200, `{"access_token":"t","token_type":"bearer","expires_in":0}`, "token endpoint's response can't be used: expires_in is not above zero: the token has expired as it came", 0},
		{"long expired", 200, `{"access_token":"t","token_type":"bearer","expires_in":-5}`, "token endpoint's response can't be used: expires_in is not above zero: the token has expired as it came", 0},
		{"half seconds", 200, `{"access_token":"t","token_type":"bearer","expires_in":1.5}`, "token endpoint's response can't be used: expires_in is not a whole number of seconds", 0},
		{"odd expiry", 200, `{"access_token":"t","token_type":"bearer","expires_in":"` + canary + `"}`, "token endpoint's response can't be used: expires_in is not a whole number of seconds", 0},
		{"array expiry", 200, `{"access_token":"t","token_type":"bearer","expires_in":[1]}`, "token endpoint's response can't be used: expires_in is not a whole number of seconds", 0},
		{"no type", 200, `{"access_token":"t"}`, "token endpoint's response can't be used: token_type is missing", 0},
		{"other type", 200, `{"access_token":"t","token_type":"DPoP"}`, "token endpoint's response can't be used: token_type is not Bearer", 0},
		{"no token", 200, `{"token_type":"bearer"}`, "token endpoint's response can't be used: access_token is missing", 0},
		{"twice", 200, `{"access_token":"t","access_token":"t","token_type":"bearer"}`, "token endpoint's response can't be used: access_token stands twice, or in another case", 0},
		{"in another case", 200, `{"access_token":"t","Token_Type":"bearer"}`, "token endpoint's response can't be used: token_type stands twice, or in another case", 0},
		{"unused members", 200, `{"access_token":"t","token_type":"bearer","scope":1,"Scope":[2],"scope":{}}`, "", 0},
		{"line break", 200, `{"access_token":"` + canary + `\r\nX-Evil: 1","token_type":"bearer"}`, "token endpoint's response can't be used: access_token is not a string of visible ASCII characters", 0},
		{"space", 200, `{"access_token":"a b","token_type":"bearer"}`, "token endpoint's response can't be used: access_token is not a string of visible ASCII characters", 0},
		{"not ASCII", 200, `{"access_token":"é","token_type":"bearer"}`, "token endpoint's response can't be used: access_token is not a string of visible ASCII characters", 0},
		{"HTML", 200, "<html>" + canary + "</html>", "token endpoint's response can't be used: it is not one JSON object", 0},
		{"two values", 200, tokenAnswer("t", 300) + tokenAnswer("t", 300), "token endpoint's response can't be used: it is not one JSON object", 0},
		{"form", 200, "access_token=t&token_type=bearer", "token endpoint's response can't be used: it is not one JSON object", 0},
		{"too large", 200, `{"access_token":"t","token_type":"bearer","x":"` + strings.Repeat("x", maxTokenBody) + `"}`, "token endpoint's response can't be used: it is larger than 64 KiB", 0},
		{"error with 200", 200, `{"error":"invalid_client"}`, "token endpoint answered 200 invalid_client", 0},
		{"invalid_client", 400, `{"error":"invalid_client","error_description":"` + canary + `"}`, "token endpoint answered 400 invalid_client", 0},
		{"other error", 400, `{"error":"` + canary + `"}`, "token endpoint answered 400", 0},
		{"error without JSON", 503, canary, "token endpoint answered 503", 0},
		{"slow down", 429, "", "token endpoint answered 429", 0},
		{"redirect", 307, "", "token endpoint answered 307", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := grantConfig(roundTrip(func(*http.Request) (*http.Response, error) {
				res := answer(tt.status, tt.body)
				res.Header.Set("Content-Type", "text/plain") // as some servers do
				return res, nil
			}))
			cfg.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			c := mustCredential(t, cfg)
			_, _, err := grantOf(c).token(t.Context())
			if tt.want == "" {
				if err != nil || grantOf(c).current.life != tt.life || c.Ready() != nil {
					t.Fatalf("got error %v, life %v and Ready %v, want none, %v and none", err, grantOf(c).current.life, c.Ready(), tt.life)
				}
				return
			}
			if err == nil || err.Error() != tt.want {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
			if ready := c.Ready(); ready == nil || ready.Error() != tt.want {
				t.Errorf("Ready = %v, want %s", ready, tt.want)
			}
			if said, ok := errors.AsType[*TokenError](err); !ok || said.Status != tt.status {
				t.Errorf("error %#v, want a *TokenError of status %d", err, tt.status)
			}
			introspectiontest.NoCanary(t, "error", fmt.Sprintf("%+v", err))
		})
	}
}

// TestGrantRedirect: an assertion or a secret goes nowhere else (attack G25).
func TestGrantRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(other.URL, status))
		defer server.Close()
		cfg := grantConfig(nil)
		cfg.HTTPClient = must(transport.NewClient(transport.Config{Timeout: 5 * time.Second}))
		defer cfg.HTTPClient.CloseIdleConnections()
		cfg.TokenEndpoint = func() string { return server.URL }
		_, err := mustCredential(t, cfg).Attach(t.Context(), "", http.Header{}, nil)
		if want := fmt.Sprintf("token endpoint answered %d", status); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if elsewhere.Load() != 0 {
		t.Errorf("got %d requests to where the redirects lead, want none", elsewhere.Load())
	}
}

func TestGrantTransportErrors(t *testing.T) {
	cfg := grantConfig(roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, errors.New("dialing " + canary)
	}))
	cfg.TokenEndpoint = func() string { return "https://user:" + canary + "@as.test/token" }
	_, err := mustCredential(t, cfg).Attach(t.Context(), "", http.Header{}, nil)
	if err == nil || err.Error() != "token endpoint: request failed" {
		t.Errorf("got error %v, want that the request failed", err)
	}
}

// TestRenewStorm is H05: a thousand refusals of one token ask for one new token.
func TestRenewStorm(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(300)
		c := mustCredential(t, grantConfig(endpoint))
		_, _, gen := mustAttach(t, c)
		time.Sleep(time.Minute) // of the fake clock
		var renewed atomic.Int64
		var callers sync.WaitGroup
		for range 1000 {
			callers.Go(func() {
				if ok, err := c.Renew(t.Context(), gen); ok && err == nil {
					renewed.Add(1)
				}
			})
		}
		callers.Wait()
		if n := len(endpoint.requests()); n != 2 || renewed.Load() != 1000 {
			t.Errorf("got %d token requests and %d callers with another token, want 2 and 1000", n, renewed.Load())
		}
		if h, _, next := mustAttach(t, c); h.Get("Authorization") != "Bearer token-2" || next == gen {
			t.Errorf("got %v of generation %d, want token-2 of another", h, next)
		}
		time.Sleep(time.Minute)
		expectRenew(t, c, gen, true) // the response to one of them came late
		if n := len(endpoint.requests()); n != 2 {
			t.Errorf("got %d token requests after a late refusal of the old token, want 2", n)
		}
	})
}

// TestRenewStormInFailure: no caller of a thousand makes a second request.
func TestRenewStormInFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(300)
		c := mustCredential(t, grantConfig(endpoint))
		_, _, gen := mustAttach(t, c)
		time.Sleep(time.Minute)
		endpoint.set(errors.New("down"), false)
		var callers sync.WaitGroup
		for range 1000 {
			callers.Go(func() {
				if ok, err := c.Renew(t.Context(), gen); ok || err == nil {
					t.Errorf("renew: got %t (%v), want false and an error", ok, err)
				}
			})
		}
		callers.Wait()
		if n := len(endpoint.requests()); n != 2 {
			t.Errorf("got %d token requests, want 2", n)
		}
		if h, _, _ := mustAttach(t, c); h.Get("Authorization") != "Bearer token-1" {
			t.Errorf("got %v after a failed renewal, want token-1 still", h)
		}
	})
}

// TestRefusedTokensAreNotRenewedEverFaster: with an introspection endpoint that
// refuses every token, the token endpoint sees less and less.
func TestRefusedTokensAreNotRenewedEverFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(3600)
		c := mustCredential(t, grantConfig(endpoint))
		stop := running(t, c)
		refuse := func(span time.Duration) {
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if _, _, gen := mustAttach(t, c); gen > 0 {
					_, _ = c.Renew(t.Context(), gen)
				}
			}
		}
		refuse(30 * time.Second)
		asked := endpoint.requests()
		want := []time.Duration{0, 0, 1, 3, 7, 12, 17, 22, 27} // seconds
		if len(asked) != len(want) {
			t.Fatalf("got token requests at %v, want them at %v", asked, want)
		}
		for i, at := range asked {
			if off := at - want[i]*time.Second; off < 0 || off > time.Second {
				t.Errorf("token request %d at %v, want about %ds", i, at, want[i])
			}
		}
		time.Sleep(time.Minute) // the token serves again
		before := len(endpoint.requests())
		refuse(2500 * time.Millisecond)
		if n := len(endpoint.requests()) - before; n != 2 { // at once, and a second later
			t.Errorf("got %d token requests for the first refusals after a calm, want 2", n)
		}
		stop()
	})
}

// TestFreshTokenRefused: a token may be revoked a moment after it was obtained;
// the first refusal must not have to wait.
func TestFreshTokenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(3600)
		c := mustCredential(t, grantConfig(endpoint))
		stop := running(t, c)
		synctest.Wait()
		_, _, gen := mustAttach(t, c)
		expectRenew(t, c, gen, true)
		if asked := endpoint.requests(); len(asked) != 2 || asked[1] != asked[0] {
			t.Errorf("token requests at %v, want a second one at once", asked)
		}
		stop()
	})
}

// TestRunRenewsInTime: at start, then at 80 % of each life.
func TestRunRenewsInTime(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(300)
		c := mustCredential(t, grantConfig(endpoint))
		if err := c.Ready(); err == nil || err.Error() != "no token yet" {
			t.Errorf("Ready: got %v before Run, want that there is no token yet", err)
		}
		stop := running(t, c)
		synctest.Wait()
		if err := c.Ready(); err != nil {
			t.Errorf("Ready: got %v, want none", err)
		}
		time.Sleep(time.Hour)
		stop()
		asked := endpoint.requests()
		if len(asked) != 16 {
			t.Fatalf("got %d token requests in an hour of five-minute tokens, want 16", len(asked))
		}
		for i, at := range asked {
			if want := time.Duration(i) * 240 * time.Second; at != want {
				t.Errorf("token request %d at %v, want %v", i, at, want)
			}
		}
	})
}

// TestRunSleeps: thousands of idle sidecars wake up when there is something to do.
func TestRunSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		cfg := grantConfig(newTokenEndpoint(3600))
		cfg.Now = func() time.Time { looks.Add(1); return time.Now() }
		stop := running(t, mustCredential(t, cfg))
		time.Sleep(12 * time.Hour) // fifteen tokens
		if n := looks.Load(); n > 15*20 {
			t.Errorf("looked at the clock %d times in 12 hours, want a few times for each of 15 tokens", n)
		}
		stop()
	})
}

func TestRunKeepsATokenWithoutExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(0)
		c := mustCredential(t, grantConfig(endpoint))
		stop := running(t, c)
		time.Sleep(24 * time.Hour)
		if n := len(endpoint.requests()); n != 1 || c.Ready() != nil {
			t.Errorf("got %d token requests and Ready %v, want 1 and none", n, c.Ready())
		}
		_, _, gen := mustAttach(t, c)
		expectRenew(t, c, gen, true) // until it is refused
		stop()
	})
}

// TestTokenEndpointDownAtStart is H06, and the pace of H08.
func TestTokenEndpointDownAtStart(t *testing.T) {
	for name, hang := range map[string]bool{"refusing": false, "hanging": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log introspectiontest.Log
				endpoint := newTokenEndpoint(300)
				endpoint.set(errors.New(canary), hang)
				cfg := grantConfig(endpoint)
				cfg.Logger, cfg.HTTPClient.Timeout = log.Logger(), 2*time.Second
				c := mustCredential(t, cfg)
				stop := running(t, c)
				time.Sleep(10*time.Minute + 123*time.Millisecond)
				if c.Ready() == nil {
					t.Error("ready without a token, want it not to be")
				}
				asked := endpoint.requests()
				for i := range asked[1:] {
					if gap := asked[i+1] - asked[i]; gap < time.Second || gap > 5*time.Second {
						t.Errorf("got token requests %v apart, want 1s to 5s", gap)
					}
				}
				endpoint.set(nil, false)
				time.Sleep(5 * time.Second)
				if err := c.Ready(); err != nil {
					t.Errorf("not ready five seconds after recovery (%v), want it to be", err)
				}
				stop()
				if lines := strings.Count(log.String(), "\n"); lines != 2 {
					t.Errorf("got %d log lines for one outage, want 2:\n%s", lines, log.String())
				}
				introspectiontest.NoCanary(t, "log", log.String())
			})
		})
	}
}

// TestTokenEndpointDownAtRenewal is H07: the old token serves until it expires.
func TestTokenEndpointDownAtRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		endpoint := newTokenEndpoint(300)
		cfg := grantConfig(endpoint)
		cfg.Registerer = registry
		c := mustCredential(t, cfg)
		stop := running(t, c)
		synctest.Wait()
		endpoint.set(errors.New("down"), false)
		time.Sleep(299 * time.Second)
		if h, _, _ := mustAttach(t, c); h.Get("Authorization") != "Bearer token-1" || c.Ready() != nil {
			t.Errorf("got %v and Ready %v before expiry, want token-1 and none", h, c.Ready())
		}
		time.Sleep(time.Second)
		h := http.Header{}
		if _, err := c.Attach(t.Context(), "", h, nil); err == nil || len(h) != 0 || c.Ready() == nil {
			t.Errorf("got %v, error %v and Ready %v after expiry, want no token", h, err, c.Ready())
		}
		endpoint.set(nil, false)
		time.Sleep(3 * time.Second)
		if c.Ready() != nil {
			t.Errorf("Ready: got %v after recovery, want none", c.Ready())
		}
		stop()
		failed := len(endpoint.requests()) - 2
		if failed < 20 {
			t.Errorf("got %d attempts in a minute of outage, want at least 20", failed)
		}
		expectRenewals(t, registry, 2, failed)
	})
}

// TestRefusedAndUnrenewed: a refused token is due, without any more traffic.
func TestRefusedAndUnrenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(3600)
		c := mustCredential(t, grantConfig(endpoint))
		stop := running(t, c)
		time.Sleep(time.Minute)
		endpoint.set(errors.New("down"), false)
		_, _, gen := mustAttach(t, c)
		if ok, err := c.Renew(t.Context(), gen); ok || err == nil {
			t.Errorf("renew: got %t (%v), want false and an error", ok, err)
		}
		time.Sleep(time.Minute)
		endpoint.set(nil, false)
		time.Sleep(6 * time.Second)
		if _, _, now := mustAttach(t, c); now == gen {
			t.Error("Run left the refused token in place, want another")
		}
		stop()
	})
}

func TestTokenEndpointUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(300)
		var known atomic.Bool
		cfg := grantConfig(endpoint)
		cfg.TokenEndpoint = func() string {
			if known.Load() {
				return "https://as.test/token"
			}
			return ""
		}
		registry := prometheus.NewRegistry()
		cfg.Registerer = registry
		c := mustCredential(t, cfg)
		stop := running(t, c)
		time.Sleep(time.Minute)
		if err := c.Ready(); err == nil || err.Error() != "token endpoint is not known yet" {
			t.Errorf("Ready: got %v, want that the token endpoint is not known yet", err)
		}
		expectRenewals(t, registry, 0, 0) // nothing was asked, nothing failed
		known.Store(true)
		time.Sleep(2 * time.Second)
		if err := c.Ready(); err != nil {
			t.Errorf("Ready: got %v, want none", err)
		}
		stop()
	})
}

// TestWaitingForAToken: a caller waits as long as it likes, and one that leaves
// takes nothing away from the others.
func TestWaitingForAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var requests atomic.Int64
		c := mustCredential(t, grantConfig(roundTrip(func(req *http.Request) (*http.Response, error) {
			requests.Add(1)
			select {
			case <-release:
				return answer(200, tokenAnswer("t", 300)), nil
			case <-req.Context().Done():
				return nil, req.Context().Err()
			}
		})))
		first, leave := context.WithCancel(t.Context())
		results := make(chan error, 3)
		attach := func(ctx context.Context) {
			_, err := c.Attach(ctx, "", http.Header{}, nil)
			results <- err
		}
		go attach(first)
		synctest.Wait()
		hurried, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go attach(hurried)
		go attach(t.Context())
		synctest.Wait()
		leave()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left got %v, want context.Canceled", err)
		}
		if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the hurried one got %v, want context.DeadlineExceeded", err)
		}
		close(release)
		if err := <-results; err != nil {
			t.Errorf("the patient one got %v, want none", err)
		}
		if requests.Load() != 1 {
			t.Errorf("got %d token requests, want 1", requests.Load())
		}
	})
}

// TestTokenRequestEnds: a hanging token endpoint is given up even by a client
// without a timeout, and at the end of Run at once.
func TestTokenRequestEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		endpoint := newTokenEndpoint(300)
		endpoint.set(nil, true)
		var log introspectiontest.Log
		cfg := grantConfig(endpoint)
		cfg.Logger = log.Logger()
		c := mustCredential(t, cfg)
		began := time.Now()
		if _, err := c.Attach(t.Context(), "", http.Header{}, nil); err == nil {
			t.Error("got a token from a hanging endpoint, want an error")
		}
		if took := time.Since(began); took != grantTimeout {
			t.Errorf("gave up after %v, want %v", took, grantTimeout)
		}
		stop := running(t, c)
		time.Sleep(2 * time.Second) // the next request is under way
		began = time.Now()
		stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("Run ended %v late, want at once", took)
		}
		if log.String() != "" {
			t.Errorf("got log %s, want no failure at the end", log.String())
		}
		grantOf(c).mu.Lock()
		defer grantOf(c).mu.Unlock()
		if grantOf(c).flight != nil {
			t.Error("Run left a token request behind, want none")
		}
	})
}

// TestGrantFollowsItsSecret: the next token request sends the new secret.
func TestGrantFollowsItsSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		file := introspectiontest.NewFile("one")
		cfg := grantConfig(answers(func(req *http.Request) string {
			_, secret, _ := req.BasicAuth()
			sent = append(sent, secret)
			return tokenAnswer("t", 300)
		}))
		cfg.ClientSecret = fileOf(file)
		c := mustCredential(t, cfg)
		_, _, gen := mustAttach(t, c)
		file.Replace("two")
		time.Sleep(time.Minute)
		expectRenew(t, c, gen, true)
		if !slices.Equal(sent, []string{"one", "two"}) {
			t.Errorf("sent %q, want one and two", sent)
		}
		if file.Rereads() != 3 {
			t.Errorf("looked at the disk %d times, want at start and for each token request", file.Rereads())
		}
	})
}

// TestGrantFollowsItsKey: as with a secret.
func TestGrantFollowsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []url.Values
		file := introspectiontest.NewFile(keyPEM(t, p256()))
		cfg := grantConfig(answers(func(req *http.Request) string {
			_ = req.ParseForm()
			sent = append(sent, req.PostForm)
			return tokenAnswer("t", 300)
		}))
		cfg.ClientKey = fileOf(file)
		c := mustCredential(t, cfg)
		_, _, gen := mustAttach(t, c)
		file.Replace(keyPEM(t, p384()))
		time.Sleep(time.Minute)
		expectRenew(t, c, gen, true)
		assertionOf(t, sent[0], p256().Public(), "ES256")
		assertionOf(t, sent[1], p384().Public(), "ES384")
		if file.Rereads() != 3 {
			t.Errorf("looked at the disk %d times, want at start and for each token request", file.Rereads())
		}
	})
}

// TestTokenAgesFromTheRequest: expires_in counts from when the server wrote it,
// which may be long before the response came.
func TestTokenAgesFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mustCredential(t, grantConfig(answers(func(*http.Request) string {
			time.Sleep(5 * time.Second)
			return tokenAnswer("t", 300)
		})))
		mustAttach(t, c)
		time.Sleep(295 * time.Second)
		if c.Ready() == nil {
			t.Error("the token is still used 300 s after it was asked for, want another")
		}
	})
}

// grantOf is the grant of a credential that has one.
func grantOf(c *Credential) *grant {
	g, _ := c.authenticator.(*grant)
	return g
}
