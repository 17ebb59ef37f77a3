package app

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/admin"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/config"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/sink"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cmd/internal/tracing"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/client"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/discovery"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy"
)

// sidecar is the assembled program.
type sidecar struct {
	build      Build
	settings   *config.Config
	logger     *slog.Logger
	httpClient *http.Client         // to the authorization server
	fhirClient *http.Client         // to the FHIR server, for its own documents
	discovery  *discovery.Discovery // nil: every endpoint is configured
	credential *credential.Credential
	client     *client.Client
	cache      *cache.Cache
	replicas   *replicas // nil: nothing is shared
	purges     *prometheus.CounterVec
	proxy      *proxy.Proxy
	smart      func() (document []byte, own bool) // nil: the FHIR server's is forwarded
	audit      *sink.AuditLog                     // nil: off
	tracing    *tracing.Provider                  // nil: off
	adminToken *admin.Token                       // nil: nothing can be changed by admin calls
	tls        *tls.Config                        // nil: plain HTTP
	registry   *prometheus.Registry
	bypass     *bypassGuard // nil: off, or the FHIR server is elsewhere
	ready      *readiness
	inFlight   atomic.Int64 // handlers that run

	protocolErrors *protocolErrors
}
