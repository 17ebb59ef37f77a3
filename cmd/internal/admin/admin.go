// Package admin answers operators and the kubelet: probes, metrics, the keys to
// register, and calls that make the cache forget. It shares nothing with the data
// listener, so that a flood there leaves the probes alone.
package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// The paths of the admin listener.
const (
	jwksPath    = "/jwks.json"
	livePath    = "/livez"
	readyPath   = "/readyz"
	metricsPath = "/metrics"
	// purgePath is there with an admin token only.
	purgePath = "/cache"
)

// Paths are all paths that the admin listener serves, for whoever must not serve
// them too.
func Paths() []string { return []string{jwksPath, livePath, readyPath, metricsPath, purgePath} }

const (
	// maxScrapes is the number of scrapes at the same time. Beyond it they get 503:
	// each one takes memory for the whole page.
	maxScrapes = 10
)

// Config is what New needs. Every field but Token and Audit is required.
type Config struct {
	// Token proves an admin. Nil: nothing can be changed, and the calls that would
	// change something don't exist.
	Token *Token

	// Purge makes the caches forget what a filter selects.
	Purge func(ctx context.Context, f cache.Filter) Purge

	// DigestRef returns the reference of a token in logs by its SHA-256.
	DigestRef func(digest [sha256.Size]byte) string

	// Audit records who made it forget what. Nil: nobody does.
	Audit func(proxy.AuditRecord)

	// JWKS returns the public keys of the client's assertions as a JWK Set, or nil
	// when there are none.
	JWKS func() ([]byte, error)

	// Unready returns why no requests should come here, or nothing.
	Unready func() []string

	// Gatherer collects the metrics.
	Gatherer prometheus.Gatherer

	// Logger logs purges.
	Logger *slog.Logger
}

// New returns the handler of the admin listener.
func New(cfg Config) http.Handler {
	router := mux.NewRouter()
	router.MethodNotAllowedHandler = http.HandlerFunc(methodNotAllowed)
	if cfg.Token != nil {
		purge := purger{token: cfg.Token, purge: cfg.Purge, ref: cfg.DigestRef, audit: cfg.Audit, logger: cfg.Logger}
		router.Handle(purgePath, purge).Methods(http.MethodDelete)
		// Or the GET routes below would take it for a path that isn't there.
		router.HandleFunc(purgePath, methodNotAllowed)
	}
	get := router.Methods(http.MethodGet, http.MethodHead).Subrouter()
	get.Handle(jwksPath, keys(cfg.JWKS))
	get.HandleFunc(livePath, livez)
	get.Handle(readyPath, readyz(cfg.Unready))
	get.Handle(metricsPath, promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	return router
}

// methodNotAllowed tells what is allowed (RFC 9110 §15.5.6).
func methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	allow := "GET, HEAD"
	if r.URL.Path == purgePath {
		allow = http.MethodDelete
	}
	w.Header().Set("Allow", allow)
	w.WriteHeader(http.StatusMethodNotAllowed)
}

// livez says that the process serves. It looks at nothing else: a restart
// doesn't fix an authorization server.
func livez(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, map[string]any{"status": "ok"})
}

// readyz says whether new requests should come here.
func readyz(unready func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if reasons := unready(); len(reasons) > 0 {
			writeStatus(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "reasons": reasons})
			return
		}
		writeStatus(w, http.StatusOK, map[string]any{"status": "ok"})
	}
}

func writeStatus(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // write errors are ignored: the client has gone
}
