package main

import (
	"fmt"
	"net/http"
	"strings"
)

// expect prints whether an expectation held, and counts.
func (s *story) expect(held bool, format string, args ...any) {
	if s.err != nil {
		return // there is no response to judge
	}
	s.expectations++
	if !held {
		s.failed++
	}
	s.out.expectation(held, fmt.Sprintf(format, args...))
}

func (s *story) expectStatus(a answer, want int) {
	s.expect(a.status == want, "status %d %s", want, http.StatusText(want))
}

// expectRefusal expects a response of the sidecar's own, in FHIR's form, to a
// request that the FHIR server never sees.
func (s *story) expectRefusal(a answer, want int) {
	s.expectStatus(a, want)
	s.expect(strings.HasPrefix(a.header.Get("Content-Type"), "application/fhir+json") &&
		strings.Contains(a.body, `"OperationOutcome"`), "the body is an OperationOutcome")
	s.expect(len(a.seen) == 0, "the FHIR server saw nothing of it")
}

func (s *story) expectIntrospections(a answer, want int) {
	s.expect(a.introspections == want, "introspections: %d", want)
}

// expectHit expects that the cache knew the token.
func (s *story) expectHit(a answer) {
	s.hits++
	s.expectIntrospections(a, 0)
}

// expectLaunch expects the FHIR server to have seen one header of this name, by
// any spelling, with this value.
func (s *story) expectLaunch(a answer, name, want string) {
	var values []string
	for _, seen := range a.seen {
		for _, line := range seen.launch {
			if spelled, value, _ := strings.Cut(line, ": "); fold(spelled) == fold(name) {
				values = append(values, value)
			}
		}
	}
	s.expect(len(values) == 1 && values[0] == want, "the FHIR server saw %s: %s", name, want)
}

// expectNoneOf expects none of the header lines to have arrived, in whatever
// spelling.
func (s *story) expectNoneOf(a answer, forged []string) {
	arrived := len(a.seen) != 1
	for _, seen := range a.seen {
		for _, line := range seen.launch {
			for _, f := range forged {
				arrived = arrived || fold(line) == fold(f)
			}
		}
	}
	s.expect(!arrived, "the request arrived, and none of the forged headers with it")
}
