package app

import (
	"io"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/doctor"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/sink"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/tracing"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
)

// options are what build needs beside the settings.
type options struct {
	logger   *slog.Logger
	registry *prometheus.Registry // nil: a new one
	stdout   io.Writer            // for audit records
	build    Build

	// wrap, if there is one, gets between us and those that we ask, and nothing is
	// traced: the calls of a check belong to no client's request.
	wrap func(http.RoundTripper) http.RoundTripper
}

// build assembles the program. It reads files and opens no connection. When the
// settings have faults it only looks for further ones.
func build(s *config.Config, o options) (*sidecar, []config.Fault) {
	sc := &sidecar{settings: s, logger: o.logger, build: o.build, registry: o.registry}
	if sc.registry == nil {
		sc.registry = newRegistry(o.build)
	}
	faults := config.AddFaults(slices.Clone(s.Faults), s.CheckEveryFile())
	faults = config.AddFaults(faults, sc.buildTLS())
	faults = config.AddFaults(faults, sc.buildAdminToken())
	faults = config.AddFaults(faults, sc.buildClients(o.wrap))
	faults = config.AddFaults(faults, sc.buildStore())
	if len(faults) == 0 {
		faults = config.AddFaults(faults, sc.buildDiscovery())
	}
	var err error
	sc.credential, err = credential.New(sc.credentialConfig())
	faults = config.AddFaults(faults, err)
	if len(faults) == 0 {
		faults = config.AddFaults(faults, sc.buildAudit(o.stdout))
	}
	if len(faults) == 0 {
		if o.wrap == nil {
			sc.tracing = tracing.New(o.build.Version, o.logger)
		}
		faults = config.AddFaults(faults, sc.buildPath())
	}
	if len(faults) > 0 {
		return nil, faults
	}
	sc.buildReadiness()
	for _, w := range s.Warnings() {
		sc.logger.Warn(w.Text, "setting", w.Variable)
	}
	return sc, nil
}

// buildReadiness makes what says whether requests should come here.
func (sc *sidecar) buildReadiness() {
	s := sc.settings
	sc.ready = &readiness{client: sc.client, discovery: sc.discovery, logger: sc.logger}
	if port, ok := s.BypassPort(); ok {
		sc.bypass = &bypassGuard{probe: doctor.Bypass{Port: port}, logger: sc.logger}
		sc.registry.MustRegister(sc.bypass.metric())
		if s.BypassGuard == "enforce" {
			sc.ready.bypass = sc.bypass
		}
	}
	sc.registry.MustRegister(sc.ready.metric())
	sc.registry.MustRegister(certificateExpiry(s))
}

func (sc *sidecar) buildAdminToken() (err error) {
	if sc.settings.AdminTokenFile == "" {
		return nil
	}
	file := config.Watch("SIDECAR_ADMIN_TOKEN_FILE", sc.settings.AdminTokenFile)
	sc.adminToken, err = admin.NewToken(file.Read, sc.logger)
	return config.AtFault(file.Name, err)
}

func (sc *sidecar) buildAudit(stdout io.Writer) (err error) {
	sc.protocolErrors = newProtocolErrors(sc.registry)
	if sc.settings.AuditLog == "off" {
		return nil
	}
	sc.audit, err = sink.NewAuditLog(sink.AuditConfig{
		Target: sc.settings.AuditLog, Stdout: stdout, Encode: auditEncoder(sc.settings), Logger: sc.logger, Registerer: sc.registry,
	})
	if err != nil {
		return config.AtFault("SIDECAR_AUDIT_LOG", err)
	}
	sc.protocolErrors.audit = auditTo(sc.audit, sc.settings)
	return nil
}
