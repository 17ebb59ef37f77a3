package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func newRegistry() *prometheus.Registry {
	v, c := buildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "introspection_sidecar_build_info",
		Help:        "Always 1; version, commit and Go version are labels.",
		ConstLabels: prometheus.Labels{"version": v, "commit": c, "goversion": runtime.Version()},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// purgePath is there with an admin token only.
const purgePath = "/cache"

// adminServer serves what operators and the kubelet ask. It shares nothing with
// the data listener, so that a flood there leaves the probes alone.
func (sc *sidecar) adminServer() *http.Server {
	router := mux.NewRouter()
	router.MethodNotAllowedHandler = http.HandlerFunc(methodNotAllowed)
	if sc.adminToken != nil {
		router.HandleFunc(purgePath, sc.purge).Methods(http.MethodDelete)
		// Or the GET routes below would take it for a path that isn't there.
		router.HandleFunc(purgePath, methodNotAllowed)
	}
	get := router.Methods(http.MethodGet, http.MethodHead).Subrouter()
	get.HandleFunc("/jwks.json", sc.jwks)
	get.HandleFunc("/livez", livez)
	get.HandleFunc("/readyz", sc.readyz)
	get.Handle("/metrics", promhttp.HandlerFor(sc.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	return &http.Server{
		Handler:           sc.counted(router),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       adminTimeout,
		WriteTimeout:      adminTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerRoom,
		ErrorLog:          slog.NewLogLogger(sc.logger.Handler(), slog.LevelDebug),
	}
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
// doesn't mend an authorization server.
func livez(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, map[string]any{"status": "ok"})
}

// readyz says whether new requests should come here.
func (sc *sidecar) readyz(w http.ResponseWriter, _ *http.Request) {
	if reasons := sc.unready(); len(reasons) > 0 {
		writeStatus(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "reasons": reasons})
		return
	}
	writeStatus(w, http.StatusOK, map[string]any{"status": "ok"})
}

// readyGauge is /readyz for those who only see metrics: a sidecar that isn't ready
// gets no requests, so that no other series tells.
func (sc *sidecar) readyGauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "introspection_sidecar_ready",
		Help: "1 while /readyz is green, else 0.",
	}, func() float64 {
		if len(sc.unready()) > 0 {
			return 0
		}
		return 1
	})
}

// unready are the reasons not to send requests here.
func (sc *sidecar) unready() (reasons []string) {
	if sc.draining.Load() {
		reasons = append(reasons, "draining")
	}
	if err := sc.client.Ready(); err != nil {
		reasons = append(reasons, err.Error())
		if fault := sc.discoveryFault(); fault != nil {
			reasons = append(reasons, strings.Split(fault.Error(), "\n")...) // one for each document
		}
	}
	return reasons
}

// discoveryFault says why an endpoint isn't known.
func (sc *sidecar) discoveryFault() error {
	if sc.discovery == nil {
		return nil
	}
	return sc.discovery.Fault()
}

func writeStatus(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A prober that doesn't take its answer asks again.
	_ = json.NewEncoder(w).Encode(body)
}
