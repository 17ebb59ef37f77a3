package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// The tokens of the story. Real ones can't be guessed.
const (
	annaToken    = "demo-token-of-anna"
	bramToken    = "demo-token-of-bram"
	revokedToken = "demo-token-revoked"
)

// story sends requests to the sidecar and checks what became of them, at all
// three parties.
type story struct {
	out    *printer
	as     *introspectiontest.Server
	fhir   *fhirServer
	sc     *sidecar
	client *http.Client

	pause func(context.Context) // before each step but the first; nil for none

	expectations, failed int
	hits                 int   // answers that must have come from the cache
	err                  error // the first call without any answer; ends the story
}

// call is a request of the story.
type call struct {
	method, path string
	token        string
	lines        []string // further header lines, sent as they stand here
	body         string
}

// answer is what came of a call.
type answer struct {
	status         int
	header         http.Header
	body           string
	seen           []sighting // by the FHIR server
	introspections int
}

func newStory(out *printer, as *introspectiontest.Server, fhir *fhirServer, sc *sidecar) *story {
	add := func(token, patient, task string) {
		claims := as.Claims()
		claims["exp"] = time.Now().Add(24 * time.Hour).Unix()
		claims["patient"] = patient
		claims["fhirContext"] = []any{fhir.base + "/Task/" + task}
		as.AddToken(token, claims)
	}
	add(annaToken, "123", "55")
	add(bramToken, "456", "57")
	add(revokedToken, "999", "58")
	as.Revoke(revokedToken)
	return &story{out: out, as: as, fhir: fhir, sc: sc, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// tell plays all steps. It goes on after a failed expectation, as the following
// ones tell more about it, and stops when there is no response at all.
func (s *story) tell(ctx context.Context) error {
	for i, step := range []struct {
		title string
		play  func(context.Context)
	}{
		{"The capability statement is public", s.capabilities},
		{"Everything else needs a token", s.noToken},
		{"With an active token the FHIR server learns the launch context", s.activeToken},
		{"The same token again: nobody is asked twice", s.sameToken},
		{"An inactive token is refused", s.inactiveToken},
		{"A forged launch context does not arrive", s.forgedHeaders},
		{"The introspection endpoint is down", s.outage},
		{"The introspection endpoint is back", s.recovery},
		{"What the cache was worth", s.hitRate},
	} {
		if s.pause != nil && i > 0 {
			s.pause(ctx)
		}
		s.out.heading(i+1, step.title)
		if step.play(ctx); s.err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, step.title, s.err)
		}
		if s.out.err != nil {
			return fmt.Errorf("telling the story: %w", s.out.err)
		}
	}
	s.client.CloseIdleConnections() // what the sidecar drains at its end is not ours
	s.out.verdict(s.expectations, s.failed)
	if s.failed > 0 {
		return fmt.Errorf("%d of %d expectations failed", s.failed, s.expectations)
	}
	return nil
}

func (s *story) capabilities(ctx context.Context) {
	a := s.do(ctx, call{method: "GET", path: "/fhir/metadata"})
	s.expectStatus(a, http.StatusOK)
	s.expect(strings.Contains(a.body, `"CapabilityStatement"`), "it is the FHIR server's own CapabilityStatement")
	s.expectIntrospections(a, 0)
}

func (s *story) noToken(ctx context.Context) {
	a := s.do(ctx, call{method: "GET", path: "/fhir/Task"})
	s.expectRefusal(a, http.StatusUnauthorized)
	challenge := a.header.Get("WWW-Authenticate")
	// RFC 6750 section 3.1: who sent no credentials did no wrong, so no error code.
	s.expect(strings.HasPrefix(challenge, "Bearer") && !strings.Contains(challenge, "error="),
		"WWW-Authenticate asks for a bearer token and names no error")
	s.expectIntrospections(a, 0)
}

func (s *story) activeToken(ctx context.Context) {
	a := s.do(ctx, call{method: "GET", path: "/fhir/Task", token: annaToken})
	s.expectStatus(a, http.StatusOK)
	s.expectLaunch(a, "X-Launch-Patient", "123")
	s.expectLaunch(a, "X-Launch-User", "Practitioner/77")
	s.expectLaunch(a, "X-Launch-Intent", "view")
	s.expectLaunch(a, "X-Launch-Fhir-Context", `[{"reference":"`+s.fhir.base+`/Task/55"}]`)
	s.expect(strings.Contains(a.body, `"total":2,`), "the bundle holds the two tasks of patient 123, of four in all")
	s.expectIntrospections(a, 1)
}

func (s *story) sameToken(ctx context.Context) {
	for _, c := range []struct {
		call
		status int
	}{
		{call{method: "GET", path: "/fhir/Task/55", token: annaToken}, http.StatusOK},
		{call{method: "GET", path: "/fhir/Task/58", token: annaToken}, http.StatusNotFound}, // of patient 999
		{call{
			method: "POST", path: "/fhir/Task", token: annaToken, lines: []string{"Content-Type: application/fhir+json"},
			body: `{"resourceType":"Task","status":"requested","intent":"order","for":{"reference":"Patient/123"}}`,
		}, http.StatusCreated},
	} {
		a := s.do(ctx, c.call)
		s.expectStatus(a, c.status)
		s.expectLaunch(a, "X-Launch-Patient", "123")
		s.expectHit(a)
	}
}

func (s *story) inactiveToken(ctx context.Context) {
	a := s.do(ctx, call{method: "GET", path: "/fhir/Task", token: revokedToken})
	s.expectRefusal(a, http.StatusUnauthorized)
	s.expect(strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`),
		"WWW-Authenticate says invalid_token")
	s.expectIntrospections(a, 1)
}

func (s *story) forgedHeaders(ctx context.Context) {
	forged := []string{"X-Launch-Patient: 999", "X_Launch_Patient: 999", "X-Launch.Patient: 999", "X-Launch-Admin: true"}
	s.out.remark("An app with a token for patient 123 asks for patient 999, in three spellings, " +
		"adds a header of its own, and names the true one in Connection, so that proxies drop it.")
	a := s.do(ctx, call{
		method: "GET", path: "/fhir/Patient", token: annaToken,
		lines: append(slices.Clone(forged), "Connection: X-Launch-Patient"),
	})
	s.expectStatus(a, http.StatusOK)
	s.expectLaunch(a, "X-Launch-Patient", "123")
	s.expectNoneOf(a, forged)
	s.expect(strings.Contains(a.body, `"Anna de Vries"`) && !strings.Contains(a.body, `"Carla Smit"`),
		"the response holds patient 123 and not 999")
	s.expectHit(a)
	s.out.remark("Public paths are no way in either.")
	a = s.do(ctx, call{method: "GET", path: "/fhir/metadata", lines: forged})
	s.expectStatus(a, http.StatusOK)
	s.expectNoneOf(a, forged)
}

func (s *story) outage(ctx context.Context) {
	s.as.Close()
	s.out.remark("A token seen before still works; a new one can't be judged. " +
		"That is not the app's fault, so no 401: a 503 tells it to try again and keep its token.")
	a := s.do(ctx, call{method: "GET", path: "/fhir/Task/56", token: annaToken})
	s.expectStatus(a, http.StatusOK)
	s.expectHit(a)
	a = s.do(ctx, call{method: "GET", path: "/fhir/Task", token: bramToken})
	s.expectRefusal(a, http.StatusServiceUnavailable)
	s.expect(a.header.Get("Retry-After") != "", "Retry-After says when")
}

func (s *story) recovery(ctx context.Context) {
	if s.err = s.as.Restart(); s.err != nil {
		return
	}
	s.out.remark("The failure was kept for nobody: the refused token is judged now.")
	a := s.do(ctx, call{method: "GET", path: "/fhir/Task", token: bramToken})
	s.expectStatus(a, http.StatusOK)
	s.expectLaunch(a, "X-Launch-Patient", "456")
	s.expectIntrospections(a, 1)
}

func (s *story) hitRate(ctx context.Context) {
	const family = "introspection_sidecar_cache_lookups_total"
	_, body, err := s.send(ctx, s.sc.admin, call{method: "GET", path: "/metrics"})
	if err != nil {
		s.err = err
		return
	}
	hits, total := 0.0, 0.0
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, family+"{") {
			continue
		}
		s.out.detail("     %s", line)
		fields := strings.Fields(line)
		n, _ := strconv.ParseFloat(fields[len(fields)-1], 64)
		total += n
		if strings.Contains(line, `result="hit"`) {
			hits += n
		}
	}
	s.expect(hits == float64(s.hits), "the metrics count the %d hits of this story", s.hits)
	s.expect(total > hits, "and the lookups that were none")
	if total > 0 {
		s.out.remark(fmt.Sprintf("Hit rate %.0f%%: %.0f of %.0f lookups needed no introspection.", 100*hits/total, hits, total))
	}
}

// do sends a call to the sidecar and prints what came of it. After a call without
// any answer nothing is sent or expected any more.
func (s *story) do(ctx context.Context, c call) answer {
	if s.err != nil {
		return answer{}
	}
	s.out.request(c)
	s.fhir.forget()
	before := s.as.Introspections()
	resp, body, err := s.send(ctx, s.sc.data, c)
	if err != nil {
		s.err = err
		return answer{}
	}
	a := answer{
		status: resp.StatusCode, header: resp.Header, body: body,
		seen: s.fhir.seen(), introspections: s.as.Introspections() - before,
	}
	s.out.answer(a)
	return a
}

func (s *story) send(ctx context.Context, base string, c call) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, base+c.path, strings.NewReader(c.body))
	if err != nil {
		return nil, "", err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, line := range c.lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header[name] = append(req.Header[name], value) // Set would tidy the name up
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp, string(body), err
}
