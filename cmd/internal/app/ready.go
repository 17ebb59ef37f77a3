package app

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

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
