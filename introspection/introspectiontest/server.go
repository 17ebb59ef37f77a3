package introspectiontest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Auth is how a caller of the introspection endpoint proves who it is.
type Auth string

// The ways to authenticate; the names are those of the OAuth registry where it
// has one.
const (
	BearerToken       Auth = "bearer"              // Authorization: Bearer, RFC 7662 section 2.1
	ClientSecretBasic Auth = "client_secret_basic" // RFC 6749 section 2.3.1
	ClientSecretPost  Auth = "client_secret_post"  // RFC 6749 section 2.3.1, in the form
	ClientAssertion   Auth = "client_assertion"    // RFC 7523 section 2.2, in the form
	NoAuth            Auth = "none"                // nothing is asked, as on loopback
)

// The credentials accepted unless Config names others.
const (
	DefaultBearer       = "resource-server-token"
	DefaultClientID     = "resource-server"
	DefaultClientSecret = "resource-server-secret"
)

// Where the endpoints are below Server.URL.
const (
	IntrospectionPath = "/oauth2/introspect"
	TokenPath         = "/oauth2/token"
)

// Config describes a Server. The zero value is the one most tests want.
type Config struct {
	// Auth is the credential asked for; "" is BearerToken.
	Auth Auth
	// Bearer is accepted in BearerToken mode, next to the tokens that the
	// token endpoint issues; "" is DefaultBearer.
	Bearer string
	// ClientID and ClientSecret are the caller's registration, for the other
	// modes and for the token endpoint; "" are the defaults.
	ClientID, ClientSecret string
	// AssertionAudience must be in the aud of a client assertion; "" accepts
	// any, as servers disagree on which URL belongs there.
	AssertionAudience string
	// OneShot makes the second introspection of a token answer inactive, as
	// Koppeltaal's reference server does by consuming the token's jti.
	OneShot bool
	// Lifetime of the tokens from the token endpoint; 0 is five minutes, the
	// most that SMART Backend Services advises.
	Lifetime time.Duration
	// Now is the server's clock; nil is time.Now.
	Now func() time.Time
}

// Server is a reference introspection endpoint. It is a http.Handler; Start and
// NewServer also make it listen. Its methods may be called at any time from any
// goroutine, but Close and Restart only from one that isn't running an Answer.
type Server struct {
	// URL is the base of the listening server and the issuer of its tokens,
	// http://127.0.0.1:port. It stays the same over Close and Restart, and is
	// empty for a Server made by New.
	URL string

	cfg      Config
	inflight sync.WaitGroup
	http     *http.Server
	served   chan struct{} // closed when http's Serve has returned

	mu          sync.Mutex // guards all below
	life        context.Context
	end         context.CancelFunc // ends life, and with it every Answer that waits
	tokens      map[string]*token
	bearers     map[string]time.Time // accepted bearer to its expiry, zero for none
	assertions  map[string]bool      // jti of the assertions seen
	answer      Answer
	answers     map[string]Answer
	grantAnswer Answer
	calls       int
	callsOf     map[string]int
	grants      int
	requests    []Request
}

// token is one the server knows. Claims are kept as JSON: every response gets a
// copy of its own, whatever tests do with their maps.
type token struct {
	claims              []byte
	foreign, gone, used bool
}

// New makes a Server that doesn't listen: it is a handler for a server of the
// test's own, one with TLS for example.
func New(cfg Config) *Server {
	orElse := func(s *string, or string) {
		if *s == "" {
			*s = or
		}
	}
	orElse((*string)(&cfg.Auth), string(BearerToken))
	orElse(&cfg.Bearer, DefaultBearer)
	orElse(&cfg.ClientID, DefaultClientID)
	orElse(&cfg.ClientSecret, DefaultClientSecret)
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg: cfg, tokens: map[string]*token{}, assertions: map[string]bool{},
		bearers: map[string]time.Time{cfg.Bearer: {}},
		answers: map[string]Answer{}, callsOf: map[string]int{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Start makes a Server listening on a free loopback port. The caller closes it.
func Start(cfg Config) (*Server, error) {
	s := New(cfg)
	return s, s.listen("127.0.0.1:0")
}

// NewServer starts a Server with the default Config that ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	return NewServerWith(t, Config{})
}

// NewServerWith starts a Server that ends with the test.
func NewServerWith(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *Server) listen(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("starting introspection endpoint: %w", err)
	}
	if s.URL == "" { // only once: others may be reading it
		s.URL = "http://" + ln.Addr().String()
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	s.http, s.served = srv, served
	go func() {
		defer close(served)
		_ = srv.Serve(ln) // always ErrServerClosed, or the test sees a refused connection
	}()
	return nil
}

// Close ends the Server: waiting answers are cut off, connections closed, and
// when it returns no goroutine of the Server answers any more. Tokens, counts
// and requests stay, for Restart and for the test to look at.
func (s *Server) Close() {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close()
		<-s.served
	}
	s.inflight.Wait()
}

// Restart makes a closed Server listen again at the same address: an outage is
// over. It fails when the port has been taken meanwhile, and for a Server that
// never listened.
func (s *Server) Restart() error {
	if s.URL == "" {
		return errors.New("restarting introspection endpoint: never started")
	}
	s.mu.Lock()
	s.life, s.end = context.WithCancel(context.Background())
	s.mu.Unlock()
	return s.listen(strings.TrimPrefix(s.URL, "http://"))
}

// Endpoint is the URL of the introspection endpoint.
func (s *Server) Endpoint() string { return s.URL + IntrospectionPath }

// TokenEndpoint is the URL of the token endpoint.
func (s *Server) TokenEndpoint() string { return s.URL + TokenPath }

// Claims returns a response that has every element a FHIR launch may bring, good
// for an hour, for the test to change and give to AddToken.
func (s *Server) Claims() map[string]any {
	now := s.cfg.Now()
	return map[string]any{
		"scope":       "launch patient/Patient.rs patient/Task.cruds",
		"client_id":   "module-7",
		"username":    "p.jansen",
		"exp":         now.Add(time.Hour).Unix(),
		"iat":         now.Unix(),
		"sub":         "p-42",
		"aud":         "https://fhir.example/eHealthModule/7",
		"iss":         s.URL,
		"user":        "Practitioner/77",
		"patient":     "123",
		"fhirContext": []any{"https://fhir.example/fhir/Task/55"},
		"intent":      "view",
	}
}

// AddToken makes a token known, in place of an earlier one of that name. Its
// answer has active true and the claims; nil claims make the shortest legal
// answer. The server answers inactive when a numeric exp has passed. It panics
// when the claims aren't JSON.
func (s *Server) AddToken(name string, claims map[string]any) { s.add(name, claims, false) }

// AddForeignToken makes a token known that this caller may not introspect:
// it is issued to another, so its response is inactive (RFC 7662 section 4).
func (s *Server) AddForeignToken(name string, claims map[string]any) { s.add(name, claims, true) }

func (s *Server) add(name string, claims map[string]any, foreign bool) {
	if claims == nil {
		claims = map[string]any{} // else null, which would wipe out the response
	}
	encoded, err := json.Marshal(claims)
	if err != nil {
		panic("introspectiontest: encoding claims: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[name] = &token{claims: encoded, foreign: foreign}
}

// Revoke makes a token inactive, now and for good.
func (s *Server) Revoke(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tokens[name]; t != nil {
		t.gone = true
	}
}

// AcceptBearers replaces all bearer tokens accepted from callers, issued ones
// included: without arguments every caller's credential is revoked.
func (s *Server) AcceptBearers(bearers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.bearers)
	for _, b := range bearers {
		s.bearers[b] = time.Time{}
	}
}

// lookup counts an introspection and returns its correct answer.
func (s *Server) lookup(name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callsOf[name]++
	inactive := map[string]any{"active": false}
	t := s.tokens[name]
	if t == nil || t.foreign || t.gone || (s.cfg.OneShot && t.used) {
		return inactive
	}
	t.used = true
	answer := map[string]any{"active": true}
	dec := json.NewDecoder(bytes.NewReader(t.claims))
	dec.UseNumber() // a number leaves as it came in
	_ = dec.Decode(&answer)
	if exp, ok := answer["exp"].(json.Number); ok {
		if seconds, err := exp.Float64(); err == nil && float64(s.cfg.Now().Unix()) >= seconds {
			return inactive
		}
	}
	return answer
}
