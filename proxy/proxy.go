package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// Config configures a Proxy.
type Config struct {
	// Upstream is the FHIR base as the proxy reaches it. One path segment may
	// be {tenant}. Only requests at or below its path are forwarded.
	Upstream *url.URL
	// UpstreamHeaderTimeout bounds the wait for the FHIR server's response headers.
	UpstreamHeaderTimeout time.Duration
	// Introspector gives the verdict on a token.
	Introspector introspection.Introspector
	// TokenRef makes the short text that stands for a token in logs.
	TokenRef func(token string) string
	// Policy is checked on every request, however its verdict came about.
	Policy Policy
	// MaxTokenBytes is the longest token that is introspected.
	MaxTokenBytes int
	// PublicPaths are the paths below the base that need no token, exactly as
	// they stand in the request; GET and HEAD only.
	PublicPaths []string
	// Headers are the context headers to set; see ContextHeaders.
	Headers []ContextHeader
	// HeaderPrefix begins the name of every context header.
	HeaderPrefix string
	// StripAuthorization keeps the client's Authorization from the FHIR server.
	StripAuthorization bool
	// TrustedProxies are the peers whose forwarding headers are kept.
	TrustedProxies []netip.Prefix
	// Audit gets a record of every request; it must not wait. Nil: none.
	Audit func(AuditRecord)
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
	config   Config
	base     base
	public   map[string]bool
	family   family
	routes   *mux.Router
	reverse  *httputil.ReverseProxy
	direct   bool      // GET and HEAD go over directTransport
	headers  sync.Pool // of http.Header, for relay
	metrics  *metrics
	hop      string // stands in every request that this process has forwarded
	draining atomic.Bool
}

// New returns a Proxy, or says what is wrong with the configuration.
func New(config Config) (*Proxy, error) {
	if config.Upstream == nil || config.Introspector == nil || config.TokenRef == nil {
		return nil, errors.New("proxy: Upstream, Introspector and TokenRef are required")
	}
	family, err := newFamily(config.HeaderPrefix)
	if err != nil {
		return nil, err
	}
	base, err := newBase(config.Upstream.EscapedPath())
	if err != nil {
		return nil, err
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{
		config:  config,
		base:    base,
		family:  family,
		public:  make(map[string]bool),
		metrics: newMetrics(config.Registerer, config.Headers, family),
		hop:     newHop(),
	}
	for _, path := range config.PublicPaths {
		if err := CheckPublicPath(path); err != nil {
			return nil, fmt.Errorf("public path %q %w", path, err)
		}
		p.public[path] = true
	}
	transport := p.newTransport()
	p.direct = transport.host != ""
	p.reverse = p.newReverseProxy(transport)
	p.routes = p.newRoutes()
	return p, nil
}

// newRoutes lists who is forwarded and who is not. The first match decides.
// The router never cleans a path, because what it would decide on must be what
// the FHIR server sees; it is asked for the handler only, as its own ServeHTTP
// copies the request twice.
func (p *Proxy) newRoutes() *mux.Router {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	route := func(matches func(*exchange, *http.Request) bool, handle func(*exchange, *http.Request)) {
		router.MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool {
			return matches(exchangeOf(r), r)
		}).HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			handle(exchangeOf(r), r)
		})
	}
	route(unknownMethod, p.refuse(&refuseMethod))
	route(ambiguousPath, p.refuse(&refusePath))
	route(oddHost, p.refuse(&refuseHost))
	route(blankAtEnd, p.refuse(&refuseField))
	route(unframedBody, p.refuse(&refuseBody))
	route(unknownExpectation, p.refuse(&refuseExpectation))
	route(p.cameBack, p.refuse(&refuseLoop))
	route(p.outsideBase, p.refuse(&refuseNotFound))
	route(p.publicPath, p.passUnverified(public))
	route(preflightRequest, p.passUnverified(preflight))
	route(func(*exchange, *http.Request) bool { return true }, p.protected)
	return router
}

// ServeHTTP decides about one request and answers or forwards it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.newExchange(w, r)
	p.startSpan(x, r.Header)
	x.in = *r.WithContext(x)
	r = &x.in
	defer p.finish(x, r)
	p.strip(x, r)
	// The last route matches everything.
	p.routes.Match(r, &x.match)
	x.match.Handler.ServeHTTP(x, r)
}

// Drain makes every further answer ask the client to leave the connection, so
// that closing it later surprises nobody.
func (p *Proxy) Drain() { p.draining.Store(true) }

// CloseIdleConnections closes the unused connections to the FHIR server.
func (p *Proxy) CloseIdleConnections() {
	if t, ok := p.reverse.Transport.(*directTransport); ok {
		t.CloseIdleConnections()
	}
}

// protected is the way of every request that needs a token.
func (p *Proxy) protected(x *exchange, r *http.Request) {
	response, refused := p.authenticate(x, r)
	if refused == nil {
		x.verdict = response
		refused = p.config.Policy.check(response, p.config.Now())
	}
	if refused == nil && p.config.Policy.Interactions {
		refused = checkInteraction(x, r)
	}
	if refused != nil {
		p.reject(x, r, refused)
		return
	}
	x.response = response
	x.decision = allowed
	p.forward(x, r)
}

// passUnverified forwards without looking at a token.
func (p *Proxy) passUnverified(d decision) func(*exchange, *http.Request) {
	return func(x *exchange, r *http.Request) {
		x.decision = d
		p.forward(x, r)
	}
}

func (p *Proxy) refuse(why *refusal) func(*exchange, *http.Request) {
	return func(x *exchange, r *http.Request) { p.reject(x, r, why) }
}

// unknownMethod holds for everything but FHIR's methods and OPTIONS. CONNECT
// and TRACE must never reach httputil.ReverseProxy: forwarding CONNECT lets the
// client write the next request on a shared upstream connection (CVE-2026-56866).
func unknownMethod(x *exchange, r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return x.target.path == "*"
	}
	return true
}

// oddHost holds for a Host that would read as more than a host in the headers
// and links that are made from it; net/http lets most characters pass. HTTP/2 may
// have it in two places, of which net/http believes one, or in none (RFC 9113
// §8.3.1): the FHIR server would get its own address.
func oddHost(_ *exchange, r *http.Request) bool {
	if r.ProtoMajor > 1 {
		hosts := r.Header["Host"]
		if r.Host == "" || len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], r.Host) {
			return true
		}
	}
	return !isHost(r.Host)
}

// blankAtEnd holds for a field whose value begins or ends with a blank, which makes
// an HTTP/2 request malformed (RFC 9113 §8.2.1). HTTP/1.1 has no such value: it
// would be decided on here and trimmed on its way.
func blankAtEnd(_ *exchange, r *http.Request) bool {
	if r.ProtoMajor == 1 {
		return false
	}
	for _, values := range r.Header {
		for _, value := range values {
			if value != strings.Trim(value, " \t") {
				return true
			}
		}
	}
	return false
}

// ambiguousPath also holds for an absolute target over HTTP/2, which has the
// authority in a place of its own (RFC 9113 §8.3.1).
func ambiguousPath(x *exchange, r *http.Request) bool {
	return !x.target.unambiguous() || r.ProtoMajor > 1 && !strings.HasPrefix(r.RequestURI, "/")
}

func (p *Proxy) outsideBase(x *exchange, _ *http.Request) bool {
	rest, ok := p.base.below(x.target.path)
	x.path = rest
	return !ok || ownPaths[x.target.path]
}

// ownPaths are served on the admin listener. They must not look like FHIR paths
// here, where an empty base, or one that begins with a tenant, would make them so.
var ownPaths = map[string]bool{
	"/livez": true, "/readyz": true, "/metrics": true, "/cache": true, "/jwks.json": true,
}

// publicPath compares the raw path: nothing else in a request can widen it.
func (p *Proxy) publicPath(x *exchange, r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && p.public[x.path]
}

// preflightRequest recognises a CORS preflight (Fetch §4.8), which never
// carries a token.
func preflightRequest(_ *exchange, r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" &&
		r.Header.Get("Access-Control-Request-Method") != ""
}
