package introspectiontest

import (
	"net/http"
	"slices"
)

// maxRequests bounds what is recorded: a demonstration may run for days.
const maxRequests = 4096

// Request is a request as it came in.
type Request struct {
	Method, URI, Host string
	Header            http.Header
	Body              string // raw, so that its encoding can be checked too
}

func (s *Server) record(r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.URL.Path {
	case IntrospectionPath:
		s.calls++
	case TokenPath:
		s.grants++
	}
	if len(s.requests) == maxRequests {
		s.requests = slices.Clone(s.requests[maxRequests/2:])
	}
	s.requests = append(s.requests, Request{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body)})
}

// Requests returns the requests so far, oldest first, to whatever path and
// whether answered or refused. Only the last few thousand are kept.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Introspections returns how many requests the introspection endpoint got,
// refused ones included.
func (s *Server) Introspections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// IntrospectionsOf returns how often a token was asked about, in requests that
// kept the rules.
func (s *Server) IntrospectionsOf(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callsOf[token]
}

// Grants returns how many requests the token endpoint got, refused ones included.
func (s *Server) Grants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants
}
