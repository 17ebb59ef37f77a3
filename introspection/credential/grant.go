package credential

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/transport"
)

const (
	// requestInterval is the least time between two token requests.
	requestInterval = time.Second
	// maxBackoff and the jitter of a quarter stay far enough below five seconds
	// that a request which hangs two seconds at the moment of recovery still
	// has its successor in time.
	maxBackoff = 2 * time.Second
	// maxForcedInterval is reached when new tokens are refused like the old one.
	maxForcedInterval = 5 * time.Second
	// forcedCalm is how long a token must have served for the next refusal to
	// count as a first one.
	forcedCalm = 30 * time.Second
	// lookInterval bounds Run's sleep: a refusal may make a renewal due before
	// its time.
	lookInterval = time.Second
	// grantTimeout is for a client without a timeout of its own.
	grantTimeout = 10 * time.Second

	errNoTokenEndpoint = transport.SafeText("token endpoint is not known yet")
	errNoToken         = transport.SafeText("no token yet")
	errTokenExpired    = transport.SafeText("token has expired")
	errTooSoon         = transport.SafeText("token was renewed a moment ago")
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
	cfg        Config
	secret     *transport.Watched[string] // nil when the client signs
	assertions *assertions
	client     *http.Client
	metrics    *metrics

	mu        sync.Mutex // guards all below
	current   accessToken
	gen       transport.Generation // 0: none yet
	refused   transport.Generation // the last one that the introspection endpoint refused
	flight    *flight
	lastStart time.Time // of a token request
	retryAt   time.Time
	failures  int   // in a row
	forced    int   // renewals in a row that were made because of a refusal
	lastErr   error // nil after a success
}

func newGrant(cfg Config, m *metrics) *grant {
	g := &grant{cfg: cfg, metrics: m}
	if cfg.HTTPClient != nil {
		client := *cfg.HTTPClient
		client.Transport = &tokenTransport{base: client.Transport}
		g.client = &client
	}
	return g
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
	if now.Before(g.earliest()) {
		return nil, g.reason()
	}
	if g.cfg.TokenEndpoint() == "" {
		g.retryAt, g.lastErr = now.Add(requestInterval), errNoTokenEndpoint
		return nil, errNoTokenEndpoint
	}
	if g.isRefused() {
		if now.Sub(g.lastStart) > forcedCalm {
			g.forced = 0
		}
		g.forced++
	}
	g.lastStart = now
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grantTimeout)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	g.flight = f
	go func() {
		defer cancel()
		token, err := g.request(ctx)
		g.settle(f, token, err)
	}()
	return f, nil
}

func (g *grant) isRefused() bool { return g.gen > 0 && g.refused == g.gen }

// earliest is when the next token request may be made. g.mu is held.
func (g *grant) earliest() time.Time {
	if g.lastStart.IsZero() {
		return g.retryAt
	}
	interval := requestInterval
	if g.isRefused() {
		// A token may be revoked a moment after it was obtained, so that the first
		// refusal is met at once. New tokens that are refused too must not be asked
		// for ever faster.
		interval = 0
		if g.forced > 0 {
			interval = min(requestInterval<<min(g.forced-1, 3), maxForcedInterval)
		}
	}
	if at := g.lastStart.Add(interval); at.After(g.retryAt) {
		return at
	}
	return g.retryAt
}

// settle takes the result of a flight. A failure leaves the old token in use.
func (g *grant) settle(f *flight, token accessToken, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.metrics.count(err)
	g.lastErr, f.err, g.flight = err, err, nil
	if err == nil {
		g.current, g.failures = token, 0
		g.gen++
		g.metrics.expires(token)
	} else {
		wait := min(requestInterval<<min(g.failures, 8), maxBackoff)
		g.retryAt = g.cfg.Now().Add(wait + rand.N(wait/4)) // jitter: replicas must not ask in step
		g.failures++
	}
	close(f.done)
}

// run renews the token whenever it is due. It owns the flights: when it ends,
// none is left.
func (g *grant) run(ctx context.Context) error {
	defer g.end()
	reported := ""
	for {
		timer := time.NewTimer(g.untilDue())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if g.untilDue() > 0 {
			continue
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

// untilDue is how long run may sleep.
func (g *grant) untilDue() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	due := now
	if g.current.valid(now) && !g.isRefused() {
		if g.current.life == 0 {
			return lookInterval
		}
		due = g.current.due()
	}
	if at := g.earliest(); at.After(due) {
		due = at
	}
	return min(max(due.Sub(now), 0), lookInterval)
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
