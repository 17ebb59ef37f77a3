package shared

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/cache"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	callTimeout = 2 * time.Second
	leaseTTL    = 2*callTimeout + leaseSlack
)

// testSecret returns a secret file of the given letters, one line for each.
func testSecret(t *testing.T, letters string) Secrets {
	t.Helper()
	var lines []string
	for _, letter := range letters {
		lines = append(lines, base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(letter), 32))))
	}
	secrets, err := ParseSecrets([]byte(strings.Join(lines, "\n") + "\n"))
	if err != nil {
		t.Fatalf("ParseSecrets: got error %v, want none", err)
	}
	return secrets
}

// authority is an authorization server. Of tokens that begin with "bad" it says
// that they are inactive.
type authority struct {
	mu    sync.Mutex
	calls map[string]int
	once  bool          // the truth is told once per token
	takes time.Duration // a call
	fails error
	extra string // further members
	exp   func() int64
}

func newAuthority() *authority {
	return &authority{
		calls: map[string]int{}, takes: 10 * time.Millisecond,
		exp: func() int64 { return time.Now().Add(time.Hour).Unix() },
	}
}

func (a *authority) ask(ctx context.Context, r introspection.Request) (introspection.Answer, error) {
	a.mu.Lock()
	a.calls[r.Token]++
	known, fails, takes := a.calls[r.Token], a.fails, a.takes
	a.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return introspection.Answer{}, ctx.Err()
	}
	if fails != nil {
		return introspection.Answer{}, fails
	}
	body := `{"active":false}`
	if !strings.HasPrefix(r.Token, "bad") && (!a.once || known == 1) {
		body = fmt.Sprintf(`{"active":true,"sub":"sub-of-%s","client_id":"app","patient":"p1","scope":"patient/*.rs"%s`, r.Token, a.extra)
		if a.exp != nil {
			body += fmt.Sprintf(`,"exp":%d`, a.exp())
		}
		body += "}"
	}
	return introspection.Answer{Body: []byte(body), ObtainedAt: time.Now()}, nil
}

func (a *authority) callsFor(token string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[token]
}

func (a *authority) failing(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fails = err
}

// replica is one sidecar's share of the cache.
type replica struct {
	*Cache
	t       *testing.T
	metrics *prometheus.Registry
	log     *introspectiontest.Log
	mu      sync.Mutex
	purged  []cache.Filter
	skew    time.Duration // its wall clock is ahead by
	paused  time.Duration // its clock that nobody can set
}

// newReplica starts one; change may set what matters to the test. It ends with
// the test.
func newReplica(t *testing.T, store Store, a *authority, change ...func(*Config)) *replica {
	t.Helper()
	r := &replica{t: t, metrics: prometheus.NewRegistry(), log: &introspectiontest.Log{}}
	secrets := testSecret(t, "a")
	start := time.Now()
	config := Config{
		Source: Source{
			Refuse: func(_ context.Context, token string) error {
				if token == "refused" {
					return introspection.ErrInactive
				}
				return nil
			},
			Ask: a.ask,
			Decode: func(answer introspection.Answer) (*introspection.Response, error) {
				return introspectiontest.Decode(answer.Body, introspection.NewClaimSet(introspection.Scope,
					introspection.Subject, introspection.ClientID, introspection.Patient), r.now())
			},
			Authority: func() string { return "https://as.example/introspect" },
			Timeout:   callTimeout,
		},
		Store: store, Secrets: func() Secrets { return secrets },
		Prefix: "fis", OperationTimeout: 100 * time.Millisecond,
		NoExpAge: 30 * time.Second, InactiveAge: 5 * time.Second, ClockSkew: 5 * time.Second,
		Purge: func(f cache.Filter, source string) int {
			r.mu.Lock()
			defer r.mu.Unlock()
			if source == Feed {
				r.purged = append(r.purged, f)
			}
			return 7
		},
		Now: r.now,
		Elapsed: func() time.Duration {
			r.mu.Lock()
			defer r.mu.Unlock()
			return time.Since(start) + r.paused
		},
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Registerer: r.metrics,
	}
	for _, f := range change {
		f(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatalf("New: got error %v, want none", err)
	}
	r.Cache = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return r
}

func (r *replica) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.skew)
}

func (r *replica) purges() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.purged)
}

// introspect asks the replica as the cache in front of it does.
func (r *replica) introspect(token string) (introspection.Verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*callTimeout+time.Second)
	defer cancel()
	return r.Introspect(ctx, introspection.Request{Token: token})
}

// active wants the token to be active.
func (r *replica) active(token string) introspection.Verdict {
	r.t.Helper()
	v, err := r.introspect(token)
	if err != nil || v.Response == nil {
		r.t.Fatalf("%s: got response %v, error %v, want an active verdict", token, v.Response, err)
	}
	if got, want := v.Response.Text(introspection.Subject), "sub-of-"+token; got != want {
		r.t.Fatalf("%s: got subject %q, want %q", token, got, want)
	}
	return v
}

// fails wants an error of this kind.
func (r *replica) fails(token string, want error) {
	r.t.Helper()
	v, err := r.introspect(token)
	if v.Response != nil || !errors.Is(err, want) {
		r.t.Fatalf("%s: got response %v, error %v, want %v", token, v.Response, err, want)
	}
}

// counted wants a metric's value, its labels' values in their order.
func (r *replica) counted(want float64, name string, labels ...string) {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatalf("metrics.Gather: got error %v, want none", err)
	}
	for _, family := range families {
		if family.GetName() != "introspection_sidecar_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if strings.Join(values, ",") != strings.Join(labels, ",") {
				continue
			}
			got := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if got != want {
				r.t.Errorf("%s%v: got %v, want %v", name, labels, got, want)
			}
			return
		}
	}
	r.t.Errorf("%s%v: got no such series, want %v", name, labels, want)
}

// wantCalls wants this many calls about the token.
func (a *authority) wantCalls(t *testing.T, token string, want int) {
	t.Helper()
	if got := a.callsFor(token); got != want {
		t.Errorf("calls about %s: got %d, want %d", token, got, want)
	}
}

func TestMetricsLint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, newFakeStore(), newAuthority())
		problems, err := testutil.GatherAndLint(r.metrics)
		if err != nil || len(problems) > 0 {
			t.Errorf("got problems %v, error %v, want none", problems, err)
		}
	})
}
