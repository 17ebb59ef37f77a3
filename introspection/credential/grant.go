package credential

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// grantTimeout is for a client without a timeout of its own.
	grantTimeout = 10 * time.Second

	// ErrNoTokenEndpoint says that discovery hasn't found the token endpoint yet.
	ErrNoTokenEndpoint = transport.SafeText("token endpoint is not known yet")

	errNoToken      = transport.SafeText("no token yet")
	errTokenExpired = transport.SafeText("token has expired")
	errTooSoon      = transport.SafeText("token was renewed a moment ago")
)

// flight is one token request under way. The fields are read after done.
type flight struct {
	done   chan struct{}
	cancel context.CancelFunc
	err    error
}

// grant is the client credentials grant (RFC 6749 §4.4, SMART Backend Services)
// and the token it gave.
type grant struct {
	cfg     Config
	request tokenRequest
	metrics *metrics
	// renewNow wakes run when a renewal may be due before its time: a token was
	// refused, or a request failed.
	renewNow chan struct{}

	mu      sync.Mutex // guards all below
	current accessToken
	gen     transport.Generation // 0: none yet
	refused transport.Generation // the last one that the introspection endpoint refused
	flight  *flight
	pace    pace
	lastErr error // nil after a success
}

func newGrant(p *parts) *grant {
	cfg := p.cfg
	if cfg.TokenEndpoint == nil {
		p.fault(&transport.FieldError{Field: "TokenEndpoint", Err: transport.ErrRequired})
	}
	if cfg.HTTPClient == nil || cfg.HTTPClient.Transport == nil {
		p.fault(&transport.FieldError{Field: "HTTPClient", Err: transport.ErrRequired})
	}
	g := &grant{
		cfg: cfg, metrics: p.metrics, renewNow: make(chan struct{}, 1),
		request: tokenRequest{client: p.tokenClient(), scope: cfg.Scope, http: cfg.HTTPClient, now: cfg.Now},
	}
	p.run = g.run
	p.obtain = func(ctx context.Context) error {
		_, _, err := g.token(ctx)
		return err
	}
	return g
}

// attach sends the token, and asks for one if there is none.
func (g *grant) attach(ctx context.Context, _ string, h http.Header, _ url.Values) (transport.Generation, error) {
	token, gen, err := g.token(ctx)
	if err == nil {
		h.Set("Authorization", "Bearer "+token)
	}
	return gen, err
}

// ready returns nil while a token is at hand that hasn't expired.
func (g *grant) ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.current.valid(g.cfg.Now()) {
		return g.reason()
	}
	return nil
}

// reason tells why there is no token, or no other one. g.mu is held.
func (g *grant) reason() error {
	switch {
	case g.lastErr != nil:
		return g.lastErr
	case g.gen == 0:
		return errNoToken
	case g.current.valid(g.cfg.Now()):
		return errTooSoon
	}
	return errTokenExpired
}

// token returns the token, and asks for one if there is none.
func (g *grant) token(ctx context.Context) (string, transport.Generation, error) {
	g.mu.Lock()
	if !g.current.valid(g.cfg.Now()) {
		f, err := g.start(ctx)
		g.mu.Unlock()
		if err == nil {
			err = f.wait(ctx)
		}
		if err != nil {
			return "", 0, err
		}
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	if !g.current.valid(g.cfg.Now()) {
		return "", 0, errTokenExpired
	}
	return g.current.value, g.gen, nil
}

// renew replaces the token gen, which was refused. However many callers come
// with it, one request is made.
func (g *grant) renew(ctx context.Context, gen transport.Generation) (bool, error) {
	g.mu.Lock()
	if g.gen != gen {
		g.mu.Unlock()
		return true, nil
	}
	g.refused = gen
	g.wake()
	f, err := g.start(ctx)
	g.mu.Unlock()
	if err == nil {
		err = f.wait(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gen != gen {
		return true, nil
	}
	return false, err
}

// wait returns the flight's result, or sooner when the caller leaves.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start makes a token request, or joins the one under way. It outlives the
// caller that caused it, for others may have come to wait. g.mu is held.
func (g *grant) start(ctx context.Context) (*flight, error) {
	if g.flight != nil {
		return g.flight, nil
	}
	now := g.cfg.Now()
	if now.Before(g.pace.earliest(g.isRefused())) {
		return nil, g.reason()
	}
	endpoint := g.cfg.TokenEndpoint()
	if endpoint == "" {
		g.pace.retryAt, g.lastErr = now.Add(requestInterval), ErrNoTokenEndpoint
		return nil, ErrNoTokenEndpoint
	}
	g.pace.started(now, g.isRefused())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grantTimeout)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	g.flight = f
	go func() {
		defer cancel()
		token, err := g.request.send(ctx, endpoint)
		g.settle(f, token, err)
	}()
	return f, nil
}

func (g *grant) isRefused() bool { return g.gen > 0 && g.refused == g.gen }

// settle takes the result of a flight. A failure leaves the old token in use.
func (g *grant) settle(f *flight, token accessToken, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.metrics.count(err)
	g.lastErr, f.err, g.flight = err, err, nil
	g.pace.ended(g.cfg.Now(), err)
	if err == nil {
		g.current = token
		g.gen++
		g.metrics.expires(token)
	}
	g.wake()
	close(f.done)
}

// wake makes run look anew.
func (g *grant) wake() {
	select {
	case g.renewNow <- struct{}{}:
	default: // it will
	}
}

// run renews the token whenever it is due. It owns the flights: when it ends,
// none is left.
func (g *grant) run(ctx context.Context) error {
	defer g.end()
	reported := ""
	for {
		if !g.sleep(ctx) {
			return nil
		}
		g.mu.Lock()
		f, err := g.start(ctx)
		g.mu.Unlock()
		if err == nil {
			err = f.wait(ctx)
		}
		if ctx.Err() == nil {
			reported = logRenewal(g.cfg.Logger, err, reported)
		}
	}
}

// logRenewal logs a failure when it differs from the last, and its end.
func logRenewal(logger *slog.Logger, err error, reported string) string {
	switch {
	case err != nil && err.Error() != reported:
		logger.Warn("renewing the sidecar's own token failed", "error", err.Error())
		return err.Error()
	case err != nil:
		return reported
	case reported != "":
		logger.Info("renewing the sidecar's own token succeeds again")
	}
	return ""
}

// sleep returns true when a renewal is due, and false when ctx ends.
func (g *grant) sleep(ctx context.Context) bool {
	for {
		wait, ever := g.untilDue()
		if ever && wait <= 0 {
			return true
		}
		var due <-chan time.Time // nil: never
		if ever {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return false
		case <-g.renewNow:
		case <-due:
		}
	}
}

// untilDue is how long run may sleep; without ever, until it is woken.
func (g *grant) untilDue() (wait time.Duration, ever bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	due := now
	if g.current.valid(now) && !g.isRefused() {
		if g.current.life == 0 {
			return 0, false
		}
		due = g.current.due()
	}
	if at := g.pace.earliest(g.isRefused()); at.After(due) {
		due = at
	}
	return due.Sub(now), true
}

func (g *grant) end() {
	g.mu.Lock()
	f := g.flight
	g.mu.Unlock()
	if f != nil {
		f.cancel()
		<-f.done
	}
}
