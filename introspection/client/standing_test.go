package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// endpoint answers as the test says and remembers what it was asked.
type endpoint struct {
	mu     sync.Mutex
	answer func(token string) (status int, body string)
	asked  []string
}

func (e *endpoint) respond(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, _ := url.ParseQuery(string(body))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, form.Get("token"))
	status, text := e.answer(form.Get("token"))
	return answer(status, text), nil
}

func (e *endpoint) set(answer func(token string) (int, string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) probes() (probes []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, token := range e.asked {
		if strings.HasPrefix(token, "probe.") {
			probes = append(probes, token)
		}
	}
	return probes
}

func says(status int, body string) func(string) (int, string) {
	return func(string) (int, string) { return status, body }
}

var (
	accepts = says(http.StatusOK, `{"active":false}`)
	refuses = says(http.StatusUnauthorized, "Access Denied")
)

// knowsOnly refuses all tokens but one with a status of 401.
func knowsOnly(good, body string) func(string) (int, string) {
	return func(token string) (int, string) {
		if token == good {
			return http.StatusOK, `{"active":true}`
		}
		return http.StatusUnauthorized, body
	}
}

// standingTest runs a client in a bubble of fake time.
func standingTest(t *testing.T, test func(t *testing.T, c *Client, e *endpoint)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: accepts}
		c := newMemoryClient(t, e.respond, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		test(t, c, e)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

// watch asks about the tokens in turn, one each interval, and returns whether the
// client was ready all the time, and at the end.
func watch(t *testing.T, c *Client, d, interval time.Duration, tokens ...string) (always, now bool) {
	t.Helper()
	always = true
	for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
		if len(tokens) > 0 {
			_, _ = introspect(t.Context(), c, tokens[i%len(tokens)])
		}
		time.Sleep(interval)
		now = c.Ready() == nil
		always = always && now
	}
	return always, now
}

// TestRefusedCredential: one that was good and isn't any more turns readiness red
// within fifteen seconds, and green within five when it is good again.
func TestRefusedCredential(t *testing.T) {
	for name, refusal := range map[string]func(string) (int, string){
		"401":                      refuses,
		"401, invalid_client":      says(http.StatusUnauthorized, `{"error":"invalid_client"}`),
		"400, invalid_client":      says(http.StatusBadRequest, `{"error":"invalid_client","error_description":"x"}`),
		"400, unauthorized_client": says(http.StatusBadRequest, `{"error":"unauthorized_client"}`),
	} {
		t.Run(name, func(t *testing.T) {
			standingTest(t, func(t *testing.T, c *Client, e *endpoint) {
				if always, _ := watch(t, c, time.Minute, time.Second, "t"); !always || len(e.probes()) != 0 {
					t.Fatalf("ready %t with %d probes while all is well, want no probe", always, len(e.probes()))
				}
				e.set(refusal)
				_, err := introspect(t.Context(), c, "t")
				expectVerdict(t, nil, err, introspection.ErrInvalidClient)
				if c.Ready() != nil {
					t.Error("red by a client's token alone, want green")
				}
				if _, ready := watch(t, c, 15*time.Second, time.Second); ready || !errors.Is(c.Ready(), introspection.ErrInvalidClient) {
					t.Errorf("Ready = %v after fifteen seconds, want %v", c.Ready(), introspection.ErrInvalidClient)
				}
				before := len(e.probes())
				time.Sleep(time.Minute)
				if n := len(e.probes()) - before; n < 12 || n > 15 {
					t.Errorf("%d probes in a minute while refused, want 12 to 15", n)
				}
				e.set(accepts)
				time.Sleep(5*time.Second + 2*confirmInterval)
				if err := c.Ready(); err != nil {
					t.Errorf("Ready = %v five seconds after the end, want nil", err)
				}
				before = len(e.probes())
				time.Sleep(time.Minute)
				if n := len(e.probes()) - before; n != 0 {
					t.Errorf("%d probes afterwards, want 0", n)
				}
				probes := e.probes()
				slices.Sort(probes)
				if len(slices.Compact(probes)) != len(e.probes()) {
					t.Error("got a probe's token twice, want each once")
				}
			})
		})
	}
}

// TestRefusedFromTheStart: without any verdict refused probes are enough.
func TestRefusedFromTheStart(t *testing.T) {
	standingTest(t, func(t *testing.T, c *Client, e *endpoint) {
		e.set(refuses)
		_, _ = introspect(t.Context(), c, "t")
		if _, ready := watch(t, c, 5*time.Second, time.Second); ready {
			t.Error("green after five seconds, want red")
		}
		e.set(knowsOnly("good", "Access Denied"))
		if _, err := introspect(t.Context(), c, "good"); err != nil || c.Ready() != nil {
			t.Errorf("error %v, Ready = %v after a verdict, want both nil", err, c.Ready())
		}
	})
}

// TestStrangersDecideNothing: an authorization server that refuses tokens it doesn't
// know refuses the probes too; verdicts on others keep readiness green.
func TestStrangersDecideNothing(t *testing.T) {
	for name, body := range map[string]string{
		"django-oauth-toolkit 1.5": `{"active": false}`,
		"plain":                    "Access Denied",
	} {
		t.Run(name, func(t *testing.T) {
			standingTest(t, func(t *testing.T, c *Client, e *endpoint) {
				e.set(knowsOnly("good", body))
				if always, _ := watch(t, c, time.Minute, time.Second, "good", "junk", "junk", "junk"); !always {
					t.Error("red while there are verdicts, want green")
				}
				if always, _ := watch(t, c, time.Hour, time.Minute, "junk"); !always {
					t.Error("red by strangers in a quiet hour, want green: this server refuses probes, too")
				}
			})
		})
	}
	t.Run("said in so many words, before any verdict", func(t *testing.T) {
		standingTest(t, func(t *testing.T, c *Client, e *endpoint) {
			e.set(knowsOnly("good", `{"active": false}`))
			if always, _ := watch(t, c, time.Hour, time.Minute, "junk"); !always {
				t.Error("red by strangers, want green")
			}
			if _, err := introspect(t.Context(), c, "junk"); !errors.Is(err, introspection.ErrInvalidClient) {
				t.Errorf("error %v, want no verdict: %v", err, introspection.ErrInvalidClient)
			}
		})
	})
}

// TestNodesDisagree: one of two nodes that refuses our credential doesn't make
// readiness flap.
func TestNodesDisagree(t *testing.T) {
	for name, tokens := range map[string][]string{"busy": {"a", "b", "c"}, "quiet": nil} {
		t.Run(name, func(t *testing.T) {
			standingTest(t, func(t *testing.T, c *Client, e *endpoint) {
				calls := 0
				e.set(func(token string) (int, string) {
					if calls++; calls%2 == 0 {
						return refuses(token)
					}
					return accepts(token)
				})
				_, _ = introspect(t.Context(), c, "first")
				_, _ = introspect(t.Context(), c, "second")
				if always, _ := watch(t, c, 10*time.Minute, time.Second, tokens...); !always {
					t.Error("readiness flaps, want green")
				}
			})
		})
	}
}

// TestOutageSaysNothing: what isn't about our credential changes nothing.
func TestOutageSaysNothing(t *testing.T) {
	for _, status := range []int{http.StatusInternalServerError, http.StatusTooManyRequests, http.StatusForbidden, http.StatusBadRequest, http.StatusNotFound} {
		standingTest(t, func(t *testing.T, c *Client, e *endpoint) {
			e.set(says(status, `{"error":"invalid_request"}`))
			if always, _ := watch(t, c, time.Minute, time.Second, "t"); !always || len(e.probes()) != 0 {
				t.Errorf("%d: green %t with %d probes, want green without", status, always, len(e.probes()))
			}
			e.set(refuses)
			watch(t, c, 15*time.Second, time.Second, "t")
			e.set(says(status, ""))
			if _, ready := watch(t, c, time.Minute, time.Second, "t"); ready {
				t.Errorf("%d: green without a verdict, want red", status)
			}
		})
	}
}

// TestHealthIsTold: the beginning and the end of an outage are one line each, and an
// endpoint that fails every other call doesn't fill the log.
func TestHealthIsTold(t *testing.T) {
	var log bytes.Buffer
	lines := func() int { return strings.Count(log.String(), `"msg":"introspection endpoint`) }
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: accepts}
		c := newMemoryClient(t, e.respond, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
		ask := func(n int) {
			for range n {
				_, _ = introspect(t.Context(), c, "t")
			}
		}
		ask(10)
		if n := lines(); n != 0 {
			t.Errorf("%d lines while all is well, want 0", n)
		}
		e.set(says(http.StatusServiceUnavailable, ""))
		ask(10)
		time.Sleep(time.Minute)
		ask(10)
		e.set(accepts)
		ask(10)
		if n := lines(); n != 2 {
			t.Errorf("%d lines for an outage, want 2: %s", n, log.String())
		}
		if !strings.Contains(log.String(), `"msg":"introspection endpoint answers again","failed_calls":20,"after":"1m0s"`) {
			t.Errorf("log %s, want how long it was and how many calls failed", log.String())
		}
		log.Reset()
		for range 100 {
			e.set(refuses)
			ask(1)
			e.set(accepts)
			ask(1)
		}
		if n := lines(); n > edgeBurst {
			t.Errorf("%d lines for an endpoint that fails every other call, want %d at most", n, edgeBurst)
		}
	})
}
