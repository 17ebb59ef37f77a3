package proxy

import (
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
)

// Config configures a Proxy.
type Config struct {
	// Upstream is the FHIR base as the proxy reaches it. One path segment may
	// be {tenant}. Only requests at or below its path are forwarded.
	Upstream *url.URL
	// UpstreamLimits bound connections to the FHIR server.
	UpstreamLimits upstream.Limits
	// StallTimeout is how long reading a request's body may get nothing from the
	// client. 0 means no bound.
	StallTimeout time.Duration
	// Introspector gives the verdict on a token.
	Introspector introspection.Introspector
	// TokenRef returns a short keyed hash identifying a token in logs and audit
	// records.
	TokenRef func(token string) string
	// Policy is checked on every request, however its verdict came about.
	Policy policy.Policy
	// Access decides what a token may do. The zero value permits everything.
	Access policy.Access
	// MaxTokenBytes is the longest token that is introspected. 0 refuses every token.
	MaxTokenBytes int
	// PublicPaths are the paths below the base that need no token, exactly as
	// they stand in the request; GET and HEAD only. One that ends with /* stands for
	// all paths below it.
	PublicPaths []string
	// PublicURL is the FHIR base as clients write it, without a slash at its end. It has
	// {tenant} where Upstream has it.
	PublicURL string
	// CORSOrigins are the origins of pages that may read responses, or "*". Empty: the
	// FHIR server decides.
	CORSOrigins []string
	// ResourceMetadata returns the protected resource metadata (RFC 9728) of a FHIR
	// base, PublicURL with its tenant. Nil: it isn't served.
	ResourceMetadata func(publicBase string) []byte
	// SMARTConfiguration returns the SMART configuration. own false: the FHIR server's
	// is forwarded; a nil document isn't known yet. Nil: always forwarded.
	SMARTConfiguration func() (document []byte, own bool)
	// ReservedPaths are served on another listener. They must not look like FHIR
	// paths here, where an empty base, or one that begins with a tenant, would make
	// them so.
	ReservedPaths []string
	// Headers are the context headers to set; see ContextHeaders. Empty sets none.
	Headers []ContextHeader
	// HeaderPrefix begins the name of every context header.
	HeaderPrefix string
	// StripAuthorization keeps the client's Authorization from the FHIR server.
	StripAuthorization bool
	// TrustedProxies are the peers whose forwarding headers are kept.
	TrustedProxies []netip.Prefix
	// UntrustedHTTPS is called once, when the first peer that is not trusted says
	// that its client came over https. Nil: nobody is told.
	UntrustedHTTPS func(peer string)
	// Audit gets a record of every request; it must not wait. Nil: none.
	Audit func(AuditRecord)
	// AuditQuery puts the query into the records of requests with an accepted token.
	AuditQuery bool
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets one line per request. Nil discards.
	Logger *slog.Logger
	// Registerer gets the proxy's metrics. Nil: they are not exported.
	Registerer prometheus.Registerer
	// Tracer makes a span of each request and sets traceparent for the FHIR
	// server. Nil: none, and the client's trace headers pass as they are.
	Tracer trace.Tracer
}
