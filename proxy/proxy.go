package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/upstream"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/wire"
)

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
	transport := upstream.New(config.Upstream, config.UpstreamLimits)
	return &Proxy{
		trusted:       config.TrustedProxies,
		stripper:      &stripper{namespace: namespace, spoofed: metrics.spoofed, untrustedHTTPS: config.UntrustedHTTPS},
		router:        router,
		authenticator: &authenticator{config.Introspector, config.MaxTokenBytes},
		policy:        config.Policy,
		access:        config.Access,
		context:       context,
		forwarder: &forwarder{
			host: config.Upstream.Host, transport: transport, namespace: namespace,
			context: context, hop: router.hop, tracer: tracer, stripAuthorization: config.StripAuthorization,
			cors: router.published.cors, stallTimeout: config.StallTimeout,
		},
		refuser: newRefuser(router.published),
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
	s := &standard{w: w, r: r}
	x := newExchange(s, s.request(), s.protocol(), p.trusted, &p.draining)
	p.serve(r.Context(), x)
	x.end()
}

// Serve decides about one request whose head has been read, and has its response written
// by other. ctx ends when the client leaves.
func (p *Proxy) Serve(ctx context.Context, in *wire.Request, other remote) {
	var of protocol
	if !isHost(in.Host) {
		of.fault = refuseHost
	}
	x := newExchange(other, in, of, p.trusted, &p.draining)
	p.serve(ctx, x)
	x.end()
}

// serve decides about an exchange and ends it.
func (p *Proxy) serve(ctx context.Context, x *exchange) {
	x.ctx, x.span = p.tracer.start(ctx, x.fields)
	defer p.finish(x)
	p.stripper.strip(&x.request)
	if refused := p.decide(x); refused != nil {
		p.refuser.refuse(x, refused)
		return
	}
	if failed := p.respond(x); failed != nil {
		p.refuser.refuse(x, failed)
	}
}

// respond sends a response that is no refusal, or returns what to refuse with.
func (p *Proxy) respond(x *exchange) (failed *decision) {
	if x.decision.own {
		return p.router.published.serve(x)
	}
	return p.forwarder.forward(x)
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

// finish ends a request: it turns a panic into a 500, and counts and logs, once.
func (p *Proxy) finish(x *exchange) {
	panicked := recover()
	abort := panicked != nil
	if panicked != nil && !isAbort(panicked) {
		// The panic's text may hold anything; its type and place don't.
		p.observer.logger.Error("panic", "panic", fmt.Sprintf("%T", panicked), "stack", string(debug.Stack()),
			"request_id", x.requestID)
		abort = x.status != 0
		p.refuser.refuse(x, internalError)
	}
	p.observer.observe(x)
	if abort {
		// A response that has begun must not look complete.
		panic(http.ErrAbortHandler)
	}
}

func isAbort(panicked any) bool {
	err, _ := panicked.(error)
	return errors.Is(err, http.ErrAbortHandler)
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
	p.context.set(r, h.Set)
	return h
}
