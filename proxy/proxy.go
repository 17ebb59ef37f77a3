package proxy

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
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
	// UpstreamHeaderTimeout bounds the wait for the FHIR server's response headers.
	// 0 means no bound.
	UpstreamHeaderTimeout time.Duration
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

// Proxy forwards requests with an active token and refuses all others.
type Proxy struct {
	trusted       []netip.Prefix
	stripper      *stripper
	router        *router
	authenticator *authenticator
	policy        policy.Policy
	access        policy.Access
	context       *contextHeaders
	forwarder     *forwarder
	refuser       *refuser
	observer      *observer
	tracer        tracer
	transport     *upstream.Transport
	now           func() time.Time
	draining      atomic.Bool
}

// New returns a Proxy. Its error says what is missing, or what of Upstream,
// PublicPaths and HeaderPrefix can't be used.
func New(config Config) (*Proxy, error) {
	if config.Upstream == nil || config.Introspector == nil || config.TokenRef == nil {
		return nil, errors.New("proxy: Upstream, Introspector and TokenRef are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	namespace, err := newNamespace(config.HeaderPrefix)
	if err != nil {
		return nil, err
	}
	router, err := newRouter(&config)
	if err != nil {
		return nil, err
	}
	metrics := newMetrics(config.Registerer, &config.Access)
	context := newContextHeaders(config.Headers, namespace, config.Registerer)
	tracer := tracer{config.Tracer}
	transport := upstream.New(config.Upstream, config.UpstreamHeaderTimeout)
	return &Proxy{
		trusted:       config.TrustedProxies,
		stripper:      &stripper{namespace: namespace, spoofed: metrics.spoofed, untrustedHTTPS: config.UntrustedHTTPS},
		router:        router,
		authenticator: &authenticator{config.Introspector, config.MaxTokenBytes},
		policy:        config.Policy,
		access:        config.Access,
		context:       context,
		forwarder: &forwarder{
			scheme: config.Upstream.Scheme, host: config.Upstream.Host, transport: transport, namespace: namespace,
			context: context, hop: router.hop, tracer: tracer, stripAuthorization: config.StripAuthorization,
			cors: router.published.cors,
		},
		refuser: &refuser{router.published},
		observer: &observer{
			metrics: metrics, logger: config.Logger, audit: config.Audit, auditQuery: config.AuditQuery, tokenRef: config.TokenRef, tracer: tracer, now: config.Now,
		},
		tracer:    tracer,
		transport: transport,
		now:       config.Now,
	}, nil
}

// ServeHTTP decides about one request and refuses or forwards it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(w, r, p.trusted, &p.draining)
	x.ctx, x.span = p.tracer.start(r.Context(), r.Header)
	defer p.finish(x)
	p.stripper.strip(&x.request, r.Header)
	if refused := p.decide(x); refused != nil {
		p.refuser.refuse(x, refused)
		return
	}
	if failed := p.respond(x, r); failed != nil {
		p.refuser.refuse(x, failed)
	}
}

// respond sends a response that is no refusal, or returns what to refuse with.
func (p *Proxy) respond(x *exchange, r *http.Request) (failed *decision) {
	if x.decision.own {
		return p.router.published.serve(x)
	}
	return p.forwarder.forward(x, r)
}

// decide returns nil for a request that is forwarded.
func (p *Proxy) decide(x *exchange) (refused *decision) {
	at, decided := p.router.route(&x.request)
	x.place = at
	switch {
	case decided == nil:
		if refused := p.authorize(x); refused != nil {
			return refused
		}
		decided = allowed
	case decided == refuseLoop:
		x.failure = errLoop
	}
	if decided.status != 0 {
		return decided
	}
	x.decision = decided
	return nil
}

// authorize is for every request that needs a token.
func (p *Proxy) authorize(x *exchange) (refused *decision) {
	token, refused, reason := p.authenticator.token(&x.request)
	if refused != nil {
		x.reason = reason
		return refused
	}
	x.token = token
	if refused = p.authenticator.introspect(x); refused != nil {
		return refused
	}
	return p.judge(x)
}

// judge decides about an active token, and about what is asked with it.
func (p *Proxy) judge(x *exchange) (refused *decision) {
	response := x.verdict.Response
	if x.reason = p.policy.Check(response, p.now()); x.reason != "" {
		x.neededScopes = p.policy.Cure(x.reason, response)
		return refusalFor(x.reason, x.neededScopes)
	}
	outcome := p.access.Check(&policy.Request{
		Method: x.method, Path: x.path, Query: x.target.query, Condition: x.condition, Tenant: x.tenant,
	}, response)
	x.reported, x.guarded = outcome.Reported, outcome.Guarded
	if x.reason, x.neededScopes = outcome.Denied, outcome.Scopes; x.reason != "" {
		return refusalFor(x.reason, x.neededScopes)
	}
	x.authorized = true
	return nil
}

// Drain makes every further response ask the client to leave the connection, so
// that closing it later surprises nobody.
func (p *Proxy) Drain() { p.draining.Store(true) }

// CloseIdleConnections closes the unused connections to the FHIR server.
func (p *Proxy) CloseIdleConnections() { p.transport.CloseIdleConnections() }

// PolicyResults applies all rules of the policy to an active token, for an operator.
func (p *Proxy) PolicyResults(r *introspection.Response) []policy.Result {
	return p.policy.Results(r, p.now())
}

// ContextFor returns the headers that the FHIR server would get.
func (p *Proxy) ContextFor(r *introspection.Response) http.Header {
	h := make(http.Header)
	p.context.set(h, r, &valueList{})
	return h
}
