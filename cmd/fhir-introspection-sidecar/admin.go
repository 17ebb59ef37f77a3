package main

import (
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
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

// adminServer serves what operators and the kubelet ask.
func (sc *sidecar) adminServer() *http.Server {
	cfg := admin.Config{
		Token: sc.adminToken, Cache: sc.cache, JWKS: sc.credential.JWKS,
		Unready: sc.unready, Gatherer: sc.registry, Logger: sc.logger,
	}
	if sc.audit != nil {
		cfg.Audit = func(record proxy.AuditRecord) { sc.audit.Add(record) }
	}
	return &http.Server{
		Handler:           sc.counted(admin.New(cfg)),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       adminTimeout,
		WriteTimeout:      adminTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerRoom,
		ErrorLog:          slog.NewLogLogger(sc.logger.Handler(), slog.LevelDebug),
	}
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
