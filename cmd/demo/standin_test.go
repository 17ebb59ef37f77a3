package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for the sidecar, so that the story can
// be tested against sidecars with known faults.
func TestMain(m *testing.M) {
	if fault, ok := os.LookupEnv("DEMO_STAND_IN"); ok {
		os.Exit(standInMain(fault))
	}
	os.Exit(m.Run())
}

// standIn is the least that satisfies the story, but for its fault.
type standIn struct {
	fault, endpoint, bearer string
	forward                 *httputil.ReverseProxy

	mu     sync.Mutex
	cache  map[string]map[string]any
	counts map[string]int
}

func standInMain(fault string) int {
	if fault == "dies" {
		fmt.Println("bad configuration: no reason")
		return 2
	}
	bearer, err := os.ReadFile(os.Getenv("SIDECAR_BEARER_TOKEN_FILE"))
	if err != nil {
		fmt.Println(err)
		return 2
	}
	upstream, _ := url.Parse(os.Getenv("SIDECAR_UPSTREAM_URL"))
	s := &standIn{
		fault: fault, endpoint: os.Getenv("SIDECAR_INTROSPECTION_ENDPOINT"), bearer: strings.TrimSpace(string(bearer)),
		cache: map[string]map[string]any{}, counts: map[string]int{},
	}
	s.forward = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: upstream.Scheme, Host: upstream.Host})
		for name := range r.Out.Header {
			if s.fault != "believes" && strings.HasPrefix(fold(name), "x-launch-") {
				delete(r.Out.Header, name)
			}
		}
		claims, _ := r.In.Context().Value(s).(map[string]any)
		for _, member := range []string{"patient", "user", "intent"} {
			if value, ok := claims[member].(string); ok {
				r.Out.Header.Set("X-Launch-"+member, value)
			}
		}
		if list, ok := claims["fhirContext"].([]any); ok {
			r.Out.Header.Set("X-Launch-Fhir-Context", fmt.Sprintf(`[{"reference":%q}]`, list[0]))
		}
	}}
	admin := http.NewServeMux()
	admin.HandleFunc("GET /readyz", s.ready)
	admin.HandleFunc("GET /metrics", s.metrics)
	go func() { _ = http.ListenAndServe(os.Getenv("SIDECAR_ADMIN_ADDRESS"), admin) }()
	go func() { _ = http.ListenAndServe(os.Getenv("SIDECAR_LISTEN_ADDRESS"), s) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	if fault == "ends badly" {
		return 1
	}
	return 0
}

func (s *standIn) ready(w http.ResponseWriter, _ *http.Request) {
	// The data port isn't watched here: only the story's requests need it, and
	// they come later than the listening above in all but theory.
	if conn, err := http.Get("http://" + os.Getenv("SIDECAR_LISTEN_ADDRESS") + "/fhir/metadata"); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		_ = conn.Body.Close()
	}
}

func (s *standIn) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, result := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(w, "introspection_sidecar_cache_lookups_total{result=%q} %d\n", result, s.counts[result])
	}
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path == "/fhir/metadata" || s.fault == "lets all in" {
		s.forward.ServeHTTP(w, r)
		return
	}
	if token == "" {
		refuse(w, http.StatusUnauthorized, "Bearer", "login")
		return
	}
	claims, err := s.introspect(token)
	switch {
	case err != nil && s.fault == "says 401":
		refuse(w, http.StatusUnauthorized, `Bearer error="invalid_token"`, "login")
	case err != nil:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "", "transient")
	case claims["active"] != true:
		refuse(w, http.StatusUnauthorized, `Bearer error="invalid_token"`, "login")
	case s.fault == "hangs up":
		panic(http.ErrAbortHandler)
	default:
		s.forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), s, claims)))
	}
}

func refuse(w http.ResponseWriter, status int, challenge, code string) {
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	outcome(w, status, code, "")
}

func (s *standIn) introspect(token string) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if claims := s.cache[token]; claims != nil && s.fault != "forgets" {
		s.counts["hit"]++
		return claims, nil
	}
	s.counts["miss"]++
	req, err := http.NewRequest(http.MethodPost, s.endpoint, strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.bearer)
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal(body, &claims); err != nil {
		return nil, err
	}
	s.cache[token] = claims
	return claims, nil
}
