package introspectiontest

import (
	"context"
	"crypto/rand"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

const (
	// maxBody is more than any token fits in, and stops a client gone mad.
	maxBody = 1 << 20
	// followedPath is where the redirects lead. It calls every token active, so
	// that a client which follows one is caught believing it.
	followedPath = "/followed-a-redirect"
)

// refusal is an error response of OAuth, RFC 6749 section 5.2.
type refusal struct {
	status            int
	code, description string
}

func (f *refusal) write(w http.ResponseWriter, r *http.Request) {
	switch f.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusUnauthorized: // the scheme the client used, RFC 6749 section 5.2
		scheme := "Bearer"
		if _, _, basic := r.BasicAuth(); basic {
			scheme = "Basic"
		}
		w.Header().Set("WWW-Authenticate", scheme+` realm="introspection"`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	WriteJSON(w, f.status, map[string]any{"error": f.code, "error_description": f.description})
}

func invalidClient() *refusal {
	return &refusal{http.StatusUnauthorized, "invalid_client", "The client authentication was invalid"}
}

func invalidRequest(description string) *refusal {
	return &refusal{http.StatusBadRequest, "invalid_request", description}
}

// ServeHTTP answers requests to the introspection endpoint, the token endpoint
// and the metadata.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, leave, ok := s.enter(r.Context())
	if !ok {
		panic(http.ErrAbortHandler) // closed: the client sees its connection break
	}
	defer leave()
	r = r.WithContext(ctx)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	s.record(r, body)
	if err != nil {
		invalidRequest("body not readable").write(w, r)
		return
	}
	switch r.URL.Path {
	case IntrospectionPath:
		s.introspect(w, r, string(body))
	case TokenPath:
		s.grant(w, r, string(body))
	case "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration":
		s.metadata(w, r)
	case followedPath:
		WriteJSON(w, http.StatusOK, map[string]any{"active": true})
	default:
		http.NotFound(w, r)
	}
}

// enter admits a request unless the server is closed. Both happen under the
// lock, so Close waits for every request that was let in. The context ends with
// the request or the server, whichever is first.
func (s *Server) enter(request context.Context) (ctx context.Context, leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, nil, false
	}
	s.inflight.Add(1)
	ctx, cancel := context.WithCancel(request)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() { stop(); cancel(); s.inflight.Done() }, true
}

func (s *Server) introspect(w http.ResponseWriter, r *http.Request, body string) {
	form, f := parseForm(r, body)
	if f == nil && !accepts(r, "application/json") {
		f = &refusal{http.StatusNotAcceptable, "invalid_request", "Accept must name application/json"}
	}
	if f == nil {
		f = s.authenticate(r, form) // before a look at the token: RFC 7662 section 2.1
	}
	if f == nil && (len(form) != 1 || form.Get("token") == "") {
		f = invalidRequest("token must be the only parameter")
	}
	if f != nil {
		f.write(w, r)
		return
	}
	token := form.Get("token")
	correct := s.lookup(token)
	s.mu.Lock()
	answer := s.answers[token]
	if answer == nil {
		answer = s.answer
	}
	s.mu.Unlock()
	answer.orCorrect()(w, r, correct)
}

// parseForm checks what both endpoints ask of a request.
func parseForm(r *http.Request, body string) (url.Values, *refusal) {
	if r.Method != http.MethodPost {
		return nil, &refusal{http.StatusMethodNotAllowed, "invalid_request", "only POST"}
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong in the body") // RFC 7662 section 4
	}
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/x-www-form-urlencoded" {
		return nil, &refusal{http.StatusUnsupportedMediaType, "invalid_request", "the body must be a form"}
	}
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, invalidRequest("the body is no form")
	}
	for _, values := range form {
		if len(values) != 1 { // RFC 6749 section 3.2
			return nil, invalidRequest("a parameter came more than once")
		}
	}
	return form, nil
}

func accepts(r *http.Request, want string) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && t == want {
			return true
		}
	}
	return false
}

// grant is the token endpoint: the client credentials grant of RFC 6749 section
// 4.4, with the client's secret or a signed assertion.
func (s *Server) grant(w http.ResponseWriter, r *http.Request, body string) {
	form, f := parseForm(r, body)
	if f == nil && form.Has("client_assertion") {
		f = s.assertion(form)
	} else if f == nil {
		f = s.basic(r)
	}
	if f == nil && form.Get("grant_type") != "client_credentials" {
		f = &refusal{http.StatusBadRequest, "unsupported_grant_type", "only client_credentials"}
	}
	if f != nil {
		f.write(w, r)
		return
	}
	bearer := rand.Text()
	correct := map[string]any{
		"access_token": bearer, "token_type": "Bearer",
		"expires_in": int(s.cfg.Lifetime.Seconds()), "scope": form.Get("scope"),
	}
	s.mu.Lock()
	s.bearers[bearer] = s.cfg.Now().Add(s.cfg.Lifetime)
	answer := s.grantAnswer
	s.mu.Unlock()
	w.Header().Set("Cache-Control", "no-store") // RFC 6749 section 5.1
	answer.orCorrect()(w, r, correct)
}

// metadata is the document of RFC 8414 and OpenID Connect Discovery.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	base := s.URL
	if base == "" { // a handler in somebody else's server
		base = "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
	}
	WriteJSON(w, http.StatusOK, map[string]any{
		"issuer": base, "introspection_endpoint": base + IntrospectionPath, "token_endpoint": base + TokenPath,
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "private_key_jwt"},
	})
}
