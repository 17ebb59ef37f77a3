package credential

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	renewals *prometheus.CounterVec
	expiry   prometheus.Gauge // +Inf while no expiry is known
}

func newMetrics() *metrics {
	m := &metrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "introspection_sidecar_credential_renewals_total",
			Help: "Renewals of the sidecar's own credential (token requests, replaced files), by result.",
		}, []string{"result"}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "introspection_sidecar_credential_expiry_timestamp_seconds",
			Help: "When the sidecar's own token expires, in Unix time; +Inf when it doesn't or that is not known.",
		}),
	}
	m.expiry.Set(math.Inf(1)) // 0 would read as expired in 1970
	m.renewals.WithLabelValues("ok")
	m.renewals.WithLabelValues("failed")
	return m
}

func (m *metrics) count(err error) {
	if err != nil {
		m.renewals.WithLabelValues("failed").Inc()
		return
	}
	m.renewals.WithLabelValues("ok").Inc()
}

func (m *metrics) expires(t accessToken) {
	if t.life == 0 {
		m.expiresAt(time.Time{})
		return
	}
	m.expiresAt(t.obtained.Add(t.life))
}

// expiresAt tells when the token ends. The zero time: that is not known.
func (m *metrics) expiresAt(at time.Time) {
	if at.IsZero() {
		m.expiry.Set(math.Inf(1))
		return
	}
	m.expiry.Set(float64(at.Unix()))
}
