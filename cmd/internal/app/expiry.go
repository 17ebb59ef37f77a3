package app

import (
	"bytes"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/doctor"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// certificateExpiry says when the certificates that are set end.
func certificateExpiry(s *config.Config) prometheus.Collector {
	e := expiries{desc: prometheus.NewDesc("introspection_sidecar_certificate_expiry_timestamp_seconds",
		"When the first certificate of the file ends: the listener's, the client's towards the authorization server, or one that its are checked against.",
		[]string{"use"}, nil)}
	for _, c := range []struct{ use, setting, path string }{
		{"listener", "SIDECAR_TLS_CERT_FILE", s.TLSCertFile},
		{"client", "SIDECAR_CLIENT_CERT_FILE", s.ClientCertFile},
		{"ca", "SIDECAR_CA_FILE", s.CAFile},
	} {
		if c.path != "" {
			e.files = append(e.files, &certificateFile{use: c.use, file: config.Watch(c.setting, c.path)})
		}
	}
	return e
}

// expiries is a prometheus.Collector that reads the files when it is asked.
type expiries struct {
	desc  *prometheus.Desc
	files []*certificateFile
}

// Describe implements prometheus.Collector.
func (e expiries) Describe(descs chan<- *prometheus.Desc) { descs <- e.desc }

// Collect implements prometheus.Collector.
func (e expiries) Collect(metrics chan<- prometheus.Metric) {
	for _, f := range e.files {
		if end, ok := f.end(); ok {
			metrics <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(end.Unix()), f.use)
		}
	}
}

// certificateFile is a file of certificates that may be replaced.
type certificateFile struct {
	use  string
	file *transport.File

	mu      sync.Mutex
	content []byte    // what was read last
	ends    time.Time // of the last content with certificates; zero: there was none
}

// end is when the first of the certificates ends. A file without one says nothing, and
// the last good one stays in use.
func (f *certificateFile) end() (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, err := f.file.Read(false)
	if err == nil && (f.content == nil || !bytes.Equal(content, f.content)) {
		f.content = content
		if ends, ok := doctor.CertificatesEnd(content); ok {
			f.ends = ends
		}
	}
	return f.ends, !f.ends.IsZero()
}
