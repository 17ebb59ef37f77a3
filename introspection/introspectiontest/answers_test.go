package introspectiontest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Every deviation must come over the wire as its verdict presumes: what a client
// is to believe is JSON, and what it isn't differs from a clean answer.
func TestDeviations(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("clean", as.Claims())
	clean := ask(t, as, "clean")
	seen := map[string]bool{}
	for _, d := range introspectiontest.Deviations() {
		t.Run(d.Name, func(t *testing.T) {
			if seen[d.Name] {
				t.Error("got a name twice, want each once")
			}
			seen[d.Name] = true
			as.AddToken(d.Name, as.Claims())
			as.SetAnswerFor(d.Name, d.Answer)
			g, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {d.Name}}))
			switch d.Verdict {
			case introspectiontest.Active:
				if err != nil || g.status != 200 || g.members(t)["active"] != true {
					t.Errorf("got %v, %d %s, want active", err, g.status, g.body)
				}
			case introspectiontest.Inactive:
				if err != nil || g.status != 200 || g.members(t)["active"] == nil {
					t.Errorf("got %v, %d %s, want a member active", err, g.status, g.body)
				}
			case introspectiontest.Unavailable:
				same := g.body == clean.body && g.header.Get("Content-Type") == clean.header.Get("Content-Type")
				if err == nil && g.status == 200 && same {
					t.Error("got what doesn't deviate, want a deviation")
				}
			default:
				t.Errorf("got verdict %q, want one that there is", d.Verdict)
			}
		})
	}
}

func TestDeviationsInDetail(t *testing.T) {
	now := time.Unix(1790000000, 0)
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Now: func() time.Time { return now }})
	want := map[string]string{
		"exp as digits in a string": `"exp":"1790003600"`,
		"exp with a fraction":       `"exp":1790003600.5`,
		"exp with an exponent":      `"exp":1.7900036e+09`,
		"exp passed":                `"exp":1789996400`,
		"exp in milliseconds":       `"exp":1790003600000`,
		"exp as an object":          `"exp":{"date":"2026-09-21 15:13:20","timezone":"UTC"}`,
		"exp as ISO 8601":           `"exp":"2026-09-21T15:13:20Z"`,
		"nbf two seconds ahead":     `"nbf":1790000002`,
		"aud as an array":           `"aud":["https://fhir.example/eHealthModule/7","fhir-server"]`,
		"scope as an array":         `"scope":["launch","patient/Patient.rs","patient/Task.cruds"]`,
		"patient as a reference":    `"patient":"Patient/123"`,
		"azp instead of client_id":  `"azp":"module-7"`,
		"active twice":              `{"active":false,"active":true`,
		"launch claims below ext":   `"ext":{"fhirContext":["https://fhir.example/fhir/Task/55"],"intent":"view","patient":"123","user":"Practitioner/77"}`,
	}
	as.AddToken("t", as.Claims())
	for _, d := range introspectiontest.Deviations() {
		text, ok := want[d.Name]
		if !ok {
			continue
		}
		delete(want, d.Name)
		as.SetAnswer(d.Answer)
		if g := ask(t, as, "t"); !strings.Contains(g.body, text) {
			t.Errorf("%s: got %s, want %s in it", d.Name, g.body, text)
		}
	}
	for name := range want {
		t.Errorf("got no deviation called %q, want it", name)
	}
}

// A client that follows redirects ends where every token is active.
func TestRedirectsLeadIntoATrap(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.SetAnswer(introspectiontest.Respond(http.StatusTemporaryRedirect, http.Header{"location": {"/followed-a-redirect"}}, ""))
	c := client(t)
	c.CheckRedirect = nil
	g, err := do(c, request(t, as.Endpoint(), url.Values{"token": {"unknown"}}))
	if err != nil || g.body != `{"active":true}` {
		t.Errorf("got %v %s, want active", err, g.body)
	}
}

func TestAnswerForOneTokenGoesFirst(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.SetAnswer(introspectiontest.Respond(500, nil, ""))
	as.SetAnswerFor("a", introspectiontest.Respond(429, http.Header{"Retry-After": {"7"}}, ""))
	if g := ask(t, as, "a"); g.status != 429 || g.header.Get("Retry-After") != "7" || g.header["Content-Type"] != nil {
		t.Errorf("a: got %d %v, want 429 and Retry-After 7", g.status, g.header)
	}
	if g := ask(t, as, "b"); g.status != 500 {
		t.Errorf("b: got %d, want 500", g.status)
	}
	as.SetAnswerFor("a", nil)
	as.SetAnswer(nil)
	if g := ask(t, as, "a"); g.body != `{"active":false}` {
		t.Errorf("behaving again: got %s, want inactive", g.body)
	}
}

func TestMisbehavingDoesNotExcuseTheClient(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.SetAnswer(introspectiontest.Respond(503, nil, ""))
	g, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {"t"}, "x": {"y"}}))
	if err != nil || g.status != 400 {
		t.Errorf("got %v %d, want 400", err, g.status)
	}
}

func TestResets(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.SetAnswer(introspectiontest.Reset())
	if _, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {"t"}})); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: got %v, want ECONNRESET", err)
	}
	as.SetAnswer(introspectiontest.ResetMidBody())
	g, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {"t"}}))
	if !errors.Is(err, io.ErrUnexpectedEOF) || g.status != 200 {
		t.Errorf("reset within the body: got %v after status %d, want an unexpected EOF after 200", err, g.status)
	}
}

// started is an Answer that reports its start.
func started(c chan<- struct{}, a introspectiontest.Answer) introspectiontest.Answer {
	return func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		c <- struct{}{}
		a(w, r, correct)
	}
}

func TestHoldLetsManyIn(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("t", nil)
	const n = 10
	in, release := make(chan struct{}, n), make(chan struct{})
	as.SetAnswer(started(in, introspectiontest.Hold(release, nil)))
	c := client(t)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if g, err := do(c, request(t, as.Endpoint(), url.Values{"token": {"t"}})); err != nil || g.body != `{"active":true}` {
				t.Errorf("got %v %s, want active", err, g.body)
			}
		})
	}
	for range n {
		<-in
	}
	close(release)
	wg.Wait()
}

func TestDelay(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.SetAnswer(introspectiontest.Delay(20*time.Millisecond, introspectiontest.Respond(418, nil, "")))
	start := time.Now()
	if g := ask(t, as, "t"); g.status != 418 || time.Since(start) < 20*time.Millisecond {
		t.Errorf("got %d after %v, want 418 after at least 20ms", g.status, time.Since(start))
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	as := introspectiontest.NewServer(t)
	in, out := make(chan struct{}, 1), make(chan struct{})
	as.SetAnswer(started(in, func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		defer close(out)
		introspectiontest.Hang()(w, r, correct)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-in; cancel() }()
	_, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {"t"}}).WithContext(ctx))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	<-out
}

func TestCloseEndsWhatWaits(t *testing.T) {
	for name, answer := range map[string]introspectiontest.Answer{
		"hang":  introspectiontest.Hang(),
		"delay": introspectiontest.Delay(time.Hour, nil),
	} {
		t.Run(name, func(t *testing.T) {
			as := introspectiontest.NewServer(t)
			in, failed := make(chan struct{}, 1), make(chan error)
			as.SetAnswer(started(in, answer))
			req, c := request(t, as.Endpoint(), url.Values{"token": {"t"}}), client(t)
			go func() {
				_, err := do(c, req)
				failed <- err
			}()
			<-in
			as.Close()
			if err := <-failed; err == nil {
				t.Error("the request was answered, want an error")
			}
		})
	}
}

func TestCloseAndRestart(t *testing.T) {
	as := introspectiontest.NewServer(t)
	as.AddToken("t", nil)
	before := as.Endpoint()
	as.Close()
	as.Close()
	if _, err := do(client(t), request(t, as.Endpoint(), url.Values{"token": {"t"}})); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: got %v, want ECONNREFUSED", err)
	}
	if err := as.Restart(); err != nil {
		t.Fatalf("as.Restart: got error %v, want none", err)
	}
	if g := ask(t, as, "t"); g.body != `{"active":true}` || as.Endpoint() != before {
		t.Errorf("restarted: got %s from %s, want active from %s", g.body, as.Endpoint(), before)
	}
	if n := as.IntrospectionsOf("t"); n != 1 {
		t.Errorf("counted %d, want 1", n)
	}
}
