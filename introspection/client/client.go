package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/credential"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

// Config configures a Client.
type Config struct {
	// Endpoint returns the URL of the introspection endpoint, or "" while it is
	// not known yet. Required.
	Endpoint func() string
	// TokenEndpoint returns the URL of the token endpoint, or "" while it is not
	// known: a token for it is somebody's client assertion. Nil: never known.
	TokenEndpoint func() string
	// Credential authenticates the sidecar at the endpoint. Required.
	Credential *credential.Credential
	// HTTPClient is made by transport.NewClient: it follows no redirect and uses no
	// proxy. Required.
	HTTPClient *http.Client
	// Timeout bounds one introspection: own credential, request, whole body.
	// Waiting for a place may take as long once more. It must be above zero.
	Timeout time.Duration
	// MaxConcurrent bounds the calls to the endpoint. It must be above zero.
	MaxConcurrent int
	// Decoder says what is kept of a response. The zero value keeps no claim.
	Decoder introspection.Decoder
	// Precheck refuses tokens before the endpoint is asked. Nil: none.
	Precheck *Precheck
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets what no request's log line can tell. Nil discards.
	Logger *slog.Logger
	// Registerer gets the client's metrics. Nil: they are not exported.
	Registerer prometheus.Registerer
	// Tracer makes a span of each call to the endpoint. Nil: none.
	Tracer trace.Tracer
}

// Client asks an introspection endpoint (RFC 7662). It never caches, never
// follows a redirect and never sends a token twice, except once after the
// endpoint refused the sidecar's own credential.
type Client struct {
	config   Config
	metrics  *metrics
	queue    *queue
	parties  parties
	standing *standing
	health   *health
}

// New returns a Client. The caller runs Run beside it. The error says which field of
// the Config is missing or out of bounds.
func New(config Config) (*Client, error) {
	if config.Endpoint == nil || config.Credential == nil || config.HTTPClient == nil {
		return nil, errors.New("client: Endpoint, Credential and HTTPClient are required")
	}
	if config.Timeout <= 0 || config.MaxConcurrent <= 0 {
		return nil, errors.New("client: Timeout and MaxConcurrent must be above zero")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{
		config:   config,
		metrics:  newMetrics(config.Registerer),
		queue:    newQueue(config.MaxConcurrent, config.Timeout),
		standing: newStanding(),
		health:   &health{logger: config.Logger},
	}, nil
}

// Authority names who is asked and who asks: a verdict of one authority says
// nothing about the same token at another.
func (c *Client) Authority() string {
	return c.parties.name(c.config.Endpoint(), c.config.Credential.Identity())
}

// Ready returns nil when an introspection could succeed as far as the sidecar
// itself is concerned, else what is missing.
func (c *Client) Ready() error {
	if c.config.Endpoint() == "" {
		return errors.New("introspection endpoint is not known yet")
	}
	if !c.standing.ready() {
		return introspection.ErrInvalidClient
	}
	return c.config.Credential.Ready()
}

// Run asks about random tokens while it isn't clear whether the endpoint takes our
// credential, until ctx ends. Without it a sidecar that turned unready would get no
// more requests, and so never learn that its credential is accepted again.
func (c *Client) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.standing.woken:
		}
		for {
			c.probe(ctx)
			wait, needed := c.standing.next()
			if !needed {
				break
			}
			timer := time.NewTimer(wait + rand.N(wait/4))
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
		}
	}
}

// probe asks about a token that nobody has.
func (c *Client) probe(ctx context.Context) {
	r := introspection.Request{Token: "probe." + introspection.NewRequestID()}
	if c.queue.acquire(ctx, nil, nil) != nil {
		return
	}
	defer c.queue.release()
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	_, _, err := c.send(ctx, r)
	c.note(ctx, err, true)
}

// note keeps what a call says about the endpoint and about our credential there.
func (c *Client) note(ctx context.Context, err error, probe bool) {
	switch {
	case err == nil, errors.Is(err, introspection.ErrInactive), errors.Is(err, errUnknownToken):
		c.standing.judged(probe)
		c.health.note(nil)
	case errors.Is(ctx.Err(), context.Canceled): // says nothing: we end
	case errors.Is(err, introspection.ErrInvalidClient):
		// Without a token Ready says so by itself, and the grant tries on.
		if c.config.Credential.Ready() == nil {
			c.standing.refuse(probe)
		}
		c.health.note(err)
	default:
		c.health.note(err)
	}
}

// Introspect asks the endpoint about a token. It returns ErrInactive, or a
// *Failure when there is no verdict. Tokens that can only be refused are
// refused without a call.
func (c *Client) Introspect(ctx context.Context, r introspection.Request) (introspection.Verdict, error) {
	if err := c.Refuse(ctx, r.Token); err != nil {
		return introspection.Verdict{}, err
	}
	_, response, err := c.ask(ctx, r)
	return introspection.Verdict{Response: response}, err
}

// Refuse returns an ErrInactive for a token that needs no call to be refused: of a
// kind that is never accepted, or a JWT that fails the pre-check. Nil says
// nothing about the token but that the endpoint must be asked.
func (c *Client) Refuse(ctx context.Context, token string) error {
	tokenEndpoint := ""
	if c.config.TokenEndpoint != nil {
		tokenEndpoint = c.config.TokenEndpoint()
	}
	if err := neverAccepted(token, c.config.Endpoint(), tokenEndpoint); err != nil {
		return err
	}
	if c.config.Precheck != nil && c.config.Precheck.Refuses(ctx, token) {
		return introspection.ErrForged
	}
	return nil
}

// Ask asks the endpoint, without Refuse before, and returns its verdict as it
// came, active or inactive. The error is a *Failure: there is no verdict.
func (c *Client) Ask(ctx context.Context, r introspection.Request) (introspection.Answer, error) {
	answer, _, err := c.ask(ctx, r)
	if errors.Is(err, introspection.ErrInactive) {
		return answer, nil
	}
	return answer, err
}

// Decode reads what Ask returned, here or in another process, as of
// now. It returns ErrInactive, or a *Failure of kind ErrMalformed.
func (c *Client) Decode(answer introspection.Answer) (*introspection.Response, error) {
	return c.config.Decoder.Decode(answer, c.config.Now())
}

// ask waits for a place and asks. The Answer is set beside ErrInactive too.
func (c *Client) ask(ctx context.Context, r introspection.Request) (introspection.Answer, *introspection.Response, error) {
	if err := c.queue.acquire(ctx, r.Queued, r.Abandoned); err != nil {
		return introspection.Answer{}, nil, err
	}
	defer c.queue.release()
	if r.Begin != nil && !r.Begin() {
		return introspection.Answer{}, nil, errAbandoned()
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	answer, response, err := c.send(ctx, r)
	c.note(ctx, err, false)
	return answer, response, err
}

// send sends the token, and once more if the endpoint refused our credential and
// another one is at hand: that comes before the token is looked at (RFC 7662
// §2.3), so that even a server that consumes tokens hasn't consumed this one.
func (c *Client) send(ctx context.Context, r introspection.Request) (introspection.Answer, *introspection.Response, error) {
	for attempt := 1; ; attempt++ {
		answer, resp, gen, err := c.call(ctx, r)
		if !errors.Is(err, introspection.ErrInvalidClient) {
			return answer, resp, err
		}
		renewed := false
		if attempt == 1 {
			// A failure to renew leaves the refusal standing as the result.
			renewed, _ = c.config.Credential.Renew(ctx, gen)
		}
		if !renewed {
			return introspection.Answer{}, nil, err
		}
	}
}

// call makes one introspection request and counts it.
func (c *Client) call(ctx context.Context, r introspection.Request) (answer introspection.Answer, resp *introspection.Response, gen transport.Generation, err error) {
	ctx, span := c.startSpan(ctx, r.Span)
	defer func() { endSpan(span, err) }()
	req, gen, err := c.request(ctx, r)
	if err != nil {
		return answer, nil, gen, err
	}
	done := c.metrics.start()
	if answer, err = c.roundTrip(req); err == nil {
		resp, err = c.Decode(answer)
	}
	if err != nil && !errors.Is(err, introspection.ErrInactive) {
		answer = introspection.Answer{}
	}
	done(err)
	return answer, resp, gen, err
}

// request builds the request of RFC 7662 §2.1: a form with the token, and
// nothing else than what authenticates us.
func (c *Client) request(ctx context.Context, r introspection.Request) (*http.Request, transport.Generation, error) {
	var gen transport.Generation
	endpoint := c.config.Endpoint()
	if endpoint == "" {
		return nil, gen, introspection.Failf(introspection.ErrUnavailable, "introspection endpoint is not known yet")
	}
	header := http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/x-www-form-urlencoded"},
		"X-Request-Id": {introspection.NewRequestID()},
	}
	if r.CorrelationID != "" {
		header.Set("X-Correlation-Id", r.CorrelationID)
	}
	if r.TraceID != "" {
		header.Set("X-Trace-Id", r.TraceID)
	}
	c.injectTrace(ctx, header)
	form := url.Values{"token": {r.Token}}
	gen, err := c.config.Credential.Attach(ctx, endpoint, header, form)
	if err != nil {
		return nil, gen, credentialFailure(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, gen, introspection.Failf(introspection.ErrUnavailable, "%v", transport.Redact(err))
	}
	for name, values := range header {
		req.Header[name] = values
	}
	return req, gen, nil
}
