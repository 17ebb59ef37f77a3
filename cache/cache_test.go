package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when tests on set clocks begin.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clocks are the two clocks of a cache, in the hands of a test.
type clocks struct{ wall, elapsed atomic.Int64 }

func (c *clocks) now() time.Time             { return noon.Add(time.Duration(c.wall.Load())) }
func (c *clocks) sinceStart() time.Duration  { return time.Duration(c.elapsed.Load()) }
func (c *clocks) setWall(step time.Duration) { c.wall.Add(int64(step)) }

// pass lets time pass.
func (c *clocks) pass(d time.Duration) {
	c.wall.Add(int64(d))
	c.elapsed.Add(int64(d))
}

type sourceFunc func(ctx context.Context, token string) (*introspection.Response, error)

func (f sourceFunc) Introspect(ctx context.Context, r introspection.Request) (introspection.Verdict, error) {
	if r.Begin != nil {
		r.Begin()
	}
	response, err := f(ctx, r.Token)
	return introspection.Verdict{Response: response}, err
}

// fixture is a cache on set clocks before a source that counts.
type fixture struct {
	*Cache
	clocks
	registry *prometheus.Registry
	calls    atomic.Int64
}

// newFixture makes a cache before source; change may be nil.
func newFixture(t *testing.T, source sourceFunc, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{registry: prometheus.NewPedanticRegistry()}
	config := Config{
		Source: sourceFunc(func(ctx context.Context, token string) (*introspection.Response, error) {
			f.calls.Add(1)
			return source(ctx, token)
		}),
		Authority:   func() string { return "https://as.test/introspect" },
		Timeout:     time.Minute,
		MaxEntries:  100,
		NoExpAge:    30 * time.Second,
		InactiveAge: 5 * time.Second,
		Now:         f.now,
		Elapsed:     f.sinceStart,
		Registerer:  f.registry,
	}
	if change != nil {
		change(&config)
	}
	// Few are ready to use, so that every test meets packed ones as well.
	c, err := newCache(config, 2)
	if err != nil {
		t.Fatalf("newCache: got error %v, want none", err)
	}
	t.Cleanup(c.Close)
	f.Cache = c
	return f
}

// ask returns how the token was looked up, what was found and how old it is.
func (f *fixture) ask(t *testing.T, token string) (string, *introspection.Response, error) {
	t.Helper()
	v, err := f.Introspect(t.Context(), introspection.Request{Token: token})
	if (v.Response == nil) == (err == nil) {
		t.Fatalf("Introspect = %+v, %v: want either a response or an error", v, err)
	}
	return v.Lookup, v.Response, err
}

func (f *fixture) wantLookup(t *testing.T, token, want string) {
	t.Helper()
	if got, _, _ := f.ask(t, token); got != want {
		t.Fatalf("lookup of %q = %s, want %s", token, got, want)
	}
}

func (f *fixture) wantCalls(t *testing.T, want int64) {
	t.Helper()
	if got := f.calls.Load(); got != want {
		t.Errorf("source was called %d times, want %d", got, want)
	}
}

// wantMetrics compares counters and gauges, named without the common prefix.
// Those not named must be zero.
func (f *fixture) wantMetrics(t *testing.T, want map[string]float64) {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatalf("registry.Gather: got error %v, want none", err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "introspection_sidecar_cache_")
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if h := m.GetHistogram(); h != nil {
				got[name+" count"], got[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
			}
		}
	}
	for name, value := range got {
		if value != want[name] {
			t.Errorf("%s = %v, want %v", name, value, want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("got no %s, want it", name)
		}
	}
}

// decode reads a response as the client does.
func decode(t *testing.T, body string, now time.Time) *introspection.Response {
	t.Helper()
	r, err := introspectiontest.Decode([]byte(body), 0, now)
	if err != nil {
		t.Fatalf("introspectiontest.Decode: got error %v, want none", err)
	}
	return r
}

// expiring is an active answer with `exp` so long after noon.
func expiring(t *testing.T, after time.Duration) *introspection.Response {
	t.Helper()
	exp := noon.Add(after).Unix()
	return decode(t, fmt.Sprintf(`{"active":true,"exp":%d}`, exp), time.Unix(exp-1, 0))
}

func always(r *introspection.Response, err error) sourceFunc {
	return func(context.Context, string) (*introspection.Response, error) { return r, err }
}

// isUnavailable reports whether err is a Failure, as the callers expect, and of
// the kind that says nothing about the token.
func isUnavailable(err error) bool {
	_, ok := errors.AsType[*introspection.Failure](err)
	return ok && errors.Is(err, introspection.ErrUnavailable)
}

// raceEnabled reports whether the race detector is on: it empties pools and
// makes everything larger.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// step is a moment of TestAge: time passes, the wall clock is set, then a lookup.
type step struct {
	pass, set time.Duration
	want      string
}

// TestAge is how long each answer is believed. The source answers as the
// client does: what has expired by the wall clock is inactive. Steps of the wall
// clock (J14) never make a verdict live longer.
func TestAge(t *testing.T) {
	const s, day = time.Second, 24 * time.Hour
	at := func(after time.Duration) string {
		return fmt.Sprintf(`{"active":true,"exp":%d}`, noon.Add(after).Unix())
	}
	const noExp = `{"active":true}`
	for _, test := range []struct {
		name   string
		body   string
		change func(*Config)
		steps  []step
	}{
		{"until exp", at(2 * s), nil, []step{{want: Miss}, {want: Hit}, {pass: s, want: Hit}, {pass: 1100 * time.Millisecond, want: Expired}, {want: InactiveHit}}},
		{"exp to the nanosecond", at(2 * s), nil, []step{{want: Miss}, {pass: 2*s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"exp between seconds", at(2 * s), nil, []step{{set: s / 2, want: Miss}, {pass: 1499 * time.Millisecond, want: Hit}, {pass: time.Millisecond, want: Expired}}},
		{"fraction of exp is cut", fmt.Sprintf(`{"active":true,"exp":%d.9}`, noon.Unix()+1), nil, []step{{want: Miss}, {pass: s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"exp as digits", fmt.Sprintf(`{"active":true,"exp":"%d"}`, noon.Unix()+2), nil, []step{{want: Miss}, {pass: s, want: Hit}, {pass: s, want: Expired}}},
		{"exp is now", at(0), nil, []step{{want: Miss}, {want: InactiveHit}}},
		{"exp is past", at(-s), nil, []step{{want: Miss}, {want: InactiveHit}}},
		{"exp is zero", `{"active":true,"exp":0}`, nil, []step{{want: Miss}, {want: InactiveHit}}},
		{"exp is null", `{"active":true,"exp":null}`, nil, []step{{want: Miss}, {pass: 29 * s, want: Hit}, {pass: s, want: Expired}}},
		{"exp is malformed", `{"active":true,"exp":true}`, nil, []step{{want: Miss}, {want: Miss}}},
		// F05: without exp there is a limit all the same. F13: the shorter one counts.
		{"no exp", noExp, nil, []step{{want: Miss}, {pass: 30*s - 1, want: Hit}, {pass: 1, want: Expired}, {want: Hit}}},
		{"no exp, not kept", noExp, func(c *Config) { c.NoExpAge = 0 }, []step{{want: Miss}, {want: Miss}}},
		{"no exp, MaxAge above", noExp, func(c *Config) { c.MaxAge = time.Hour }, []step{{want: Miss}, {pass: 30*s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"no exp, MaxAge below", noExp, func(c *Config) { c.MaxAge = 10 * s }, []step{{want: Miss}, {pass: 10*s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"no exp, not kept whatever MaxAge", noExp, func(c *Config) { c.NoExpAge, c.MaxAge = 0, time.Hour }, []step{{want: Miss}, {want: Miss}}},
		{"no exp, for ever", noExp, func(c *Config) { c.NoExpAge = math.MaxInt64 }, []step{{pass: s, want: Miss}, {pass: 3000 * day, want: Hit}}},
		{"MaxAge below exp", at(time.Hour), func(c *Config) { c.MaxAge = 10 * s }, []step{{want: Miss}, {pass: 10*s - 1, want: Hit}, {pass: 1, want: Expired}, {want: Hit}}},
		{"MaxAge above exp", at(5 * s), func(c *Config) { c.MaxAge = 10 * s }, []step{{want: Miss}, {pass: 5*s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"MaxAge for ever", at(5 * s), func(c *Config) { c.MaxAge = math.MaxInt64 }, []step{{pass: s, want: Miss}, {pass: 3 * s, want: Hit}, {pass: s, want: Expired}}},
		{"hits don't prolong", at(time.Hour), func(c *Config) { c.MaxAge = 3 * s }, []step{{want: Miss}, {pass: s, want: Hit}, {pass: s, want: Hit}, {pass: s, want: Expired}}},
		// F07: by the wall clock this token has another hour.
		{"wall clock set back", at(2 * s), nil, []step{{want: Miss}, {set: -time.Hour, want: Hit}, {pass: 2*s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"wall clock set back, MaxAge", at(day), func(c *Config) { c.MaxAge = 60 * s }, []step{{want: Miss}, {set: -time.Hour, pass: 60*s - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"wall clock set back, no exp", noExp, nil, []step{{want: Miss}, {set: -time.Hour, pass: 30 * s, want: Expired}}},
		{"wall clock set back by a day", at(day), nil, []step{{want: Miss}, {set: -day, want: Hit}, {pass: day - 1, want: Hit}, {pass: 1, want: Expired}}},
		{"wall clock set forward by a day", at(day + s), nil, []step{{want: Miss}, {set: day, want: Hit}, {pass: s, want: Expired}}},
		{"leap second", at(2 * s), nil, []step{{want: Miss}, {set: -s, pass: s, want: Hit}, {pass: s, want: Expired}}},
		// F08: by its age this token has another hour.
		{"wall clock set forward", at(time.Hour), nil, []step{{want: Miss}, {set: time.Hour - 1, want: Hit}, {set: 1, want: Expired}, {want: InactiveHit}}},
		{"wall clock forward and back", at(time.Hour), nil, []step{{want: Miss}, {set: 2 * time.Hour, want: Expired}, {set: -2 * time.Hour, want: InactiveHit}, {pass: 5 * s, want: Miss}, {want: Hit}}},
		{"wall clock forward, no exp", noExp, nil, []step{{want: Miss}, {set: 1000 * time.Hour, want: Hit}}},
		{"last second of year 9999", `{"active":true,"exp":253402300799}`, nil, []step{{want: Miss}, {want: Hit}, {pass: 3000 * day, want: Hit}, {pass: 649 * day, want: Hit}, {pass: day, want: Expired}, {want: Hit}}},
		{"largest exp", `{"active":true,"exp":9223372036854775807}`, nil, []step{{want: Miss}, {want: Hit}, {pass: 3000 * day, want: Hit}}},
		{"exp beyond int64", `{"active":true,"exp":1e300}`, nil, []step{{want: Miss}, {want: Hit}, {pass: 3000 * day, want: Hit}}},
		{"smallest exp", `{"active":true,"exp":-9223372036854775808}`, nil, []step{{want: Miss}, {want: InactiveHit}}},
		{"inactive", `{"active":false}`, nil, []step{{want: Miss}, {want: InactiveHit}, {pass: 5*s - 1, want: InactiveHit}, {pass: 1, want: Miss}, {want: InactiveHit}}},
		{"inactive with exp", `{"active":false,"exp":253402300799}`, nil, []step{{want: Miss}, {pass: 5 * s, want: Miss}}},
		{"inactive, wall clock set back", `{"active":false}`, nil, []step{{want: Miss}, {set: -time.Hour, pass: 5 * s, want: Miss}}},
		{"inactive, not kept", `{"active":false}`, func(c *Config) { c.InactiveAge = 0 }, []step{{want: Miss}, {want: Miss}}},
		{"inactive, for ever", `{"active":false}`, func(c *Config) { c.InactiveAge = math.MaxInt64 }, []step{{pass: s, want: Miss}, {pass: 3000 * day, want: InactiveHit}}},
		{"malformed", `{"active":"true"}`, nil, []step{{want: Miss}, {want: Miss}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f *fixture
			f = newFixture(t, func(context.Context, string) (*introspection.Response, error) {
				return introspectiontest.Decode([]byte(test.body), 0, f.now())
			}, test.change)
			var asked int64
			for i, step := range test.steps {
				f.pass(step.pass)
				f.setWall(step.set)
				got, r, err := f.ask(t, "token")
				if got != step.want {
					t.Fatalf("step %d: %s, want %s", i, got, step.want)
				}
				if got == Hit && r == nil || got == InactiveHit && !errors.Is(err, introspection.ErrInactive) {
					t.Fatalf("step %d: got %s with %v (%v), want what belongs to it", i, got, r, err)
				}
				if got == Miss || got == Expired {
					asked++
				}
			}
			f.wantCalls(t, asked)
		})
	}
}

// FuzzAge holds the arithmetic of exp against one without limits: nothing is
// believed at or past exp, or longer than configured, and what could be is kept.
func FuzzAge(f *testing.F) {
	for _, exp := range []int64{0, 1, -1, 1_800_000_001, 1_800_000_000, 253402300799, math.MaxInt32, math.MaxInt64, math.MinInt64, math.MaxInt64 / int64(time.Second)} {
		f.Add(exp, int64(1_800_000_000), int64(999_999_999), int64(0))
		f.Add(exp, int64(0), int64(0), int64(time.Minute))
	}
	var now time.Time
	c, err := New(Config{
		Source: always(nil, nil), Authority: func() string { return "" }, Timeout: time.Second, MaxEntries: 1, Now: func() time.Time { return now },
	})
	if err != nil {
		f.Fatalf("New: got error %v, want none", err)
	}
	f.Fuzz(func(t *testing.T, exp, seconds, nanoseconds, limit int64) {
		const century = 100 * 365 * 24 * 3600
		seconds, nanoseconds = seconds%(100*century), max(0, nanoseconds%int64(time.Second))
		now, c.config.MaxAge = time.Unix(seconds, nanoseconds), time.Duration(max(0, limit))
		r, err := introspection.Decoder{}.Decode(introspection.Answer{Body: fmt.Appendf(nil, `{"active":true,"exp":%d}`, exp), ObtainedAt: now}, time.Unix(math.MinInt64, 0))
		if err != nil {
			return // milliseconds
		}
		age := c.left(r)
		left := new(big.Int).Mul(big.NewInt(exp), big.NewInt(int64(time.Second)))
		left.Sub(left, new(big.Int).Add(new(big.Int).Mul(big.NewInt(seconds), big.NewInt(int64(time.Second))), big.NewInt(nanoseconds)))
		want := big.NewInt(int64(maxAge))
		if c.config.MaxAge > 0 && c.config.MaxAge < maxAge {
			want.SetInt64(int64(c.config.MaxAge))
		}
		if left.Cmp(want) < 0 {
			want = left
		}
		if want.Sign() <= 0 && age > 0 || want.Sign() > 0 && want.Cmp(big.NewInt(int64(age))) != 0 {
			t.Errorf("exp %d at %d.%09d, at most %v: believed for %v, want %v ns", exp, seconds, nanoseconds, c.config.MaxAge, age, want)
		}
	})
}

// TestSourceThatDoesNotLook is F02 for a source that lets expired answers pass:
// they are its responsibility, but they are not kept.
func TestSourceThatDoesNotLook(t *testing.T) {
	for _, after := range []time.Duration{0, -time.Second, -time.Hour} {
		f := newFixture(t, always(expiring(t, after), nil), func(c *Config) { c.MaxAge = time.Hour })
		f.wantLookup(t, "token", Miss)
		f.wantLookup(t, "token", Miss)
		f.wantCalls(t, 2)
	}
}

// TestNewerAnswerCounts: a response that can't be kept still ends the older
// one, or a wall clock set forward and back would bring that to life again.
func TestNewerAnswerCounts(t *testing.T) {
	answer := expiring(t, time.Hour)
	f := newFixture(t, func(context.Context, string) (*introspection.Response, error) { return answer, nil },
		func(c *Config) { c.NoExpAge = 0 })
	f.wantLookup(t, "token", Miss)
	answer = decode(t, `{"active":true}`, noon)
	f.setWall(2 * time.Hour)
	f.wantLookup(t, "token", Expired)
	f.setWall(-2 * time.Hour)
	f.wantLookup(t, "token", Miss)
	f.wantMetrics(t, map[string]float64{
		"lookups_total miss": 2, "lookups_total expired": 1, "evictions_total expired active": 1,
	})
}

// TestExpiredBecomesInactive: a revoked token leaves nothing behind in the
// active store, also when inactive verdicts aren't kept.
func TestExpiredBecomesInactive(t *testing.T) {
	for _, age := range []time.Duration{0, 5 * time.Second} {
		var f *fixture
		revoked := false
		f = newFixture(t, func(context.Context, string) (*introspection.Response, error) {
			if revoked {
				return nil, fmt.Errorf("asking: %w", introspection.ErrInactive)
			}
			return expiring(t, time.Hour), nil
		}, func(c *Config) { c.MaxAge, c.InactiveAge = 10*time.Second, age })
		f.wantLookup(t, "token", Miss)
		revoked = true
		f.pass(10*time.Second - 1)
		f.wantLookup(t, "token", Hit) // F15: at most MaxAge
		f.pass(1)
		if lookup, _, err := f.ask(t, "token"); lookup != Expired || !errors.Is(err, introspection.ErrInactive) {
			t.Fatalf("after MaxAge: got %s (%v), want expired, and inactive", lookup, err)
		}
		if n := f.active.Len(); n != 0 {
			t.Errorf("got %d active entries, want none", n)
		}
		want := map[bool]string{true: InactiveHit, false: Miss}[age > 0]
		f.wantLookup(t, "token", want)
		f.pass(age)
		f.wantLookup(t, "token", Miss)
	}
}

// TestVerdictChangesUnderReaders is F28: with a hundred readers each sees
// either verdict, whole.
func TestVerdictChangesUnderReaders(t *testing.T) {
	var revoked atomic.Bool
	active := expiring(t, time.Hour)
	f := newFixture(t, func(context.Context, string) (*introspection.Response, error) {
		if revoked.Load() {
			return nil, introspection.ErrInactive
		}
		return active, nil
	}, func(c *Config) { c.MaxAge, c.InactiveAge = time.Second, time.Second })
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 200 {
				v, err := f.Introspect(t.Context(), introspection.Request{Token: "token"})
				if (v.Response != active || err != nil) && (v.Response != nil || !errors.Is(err, introspection.ErrInactive)) {
					t.Errorf("got torn verdict %+v (%v), want one or the other", v, err)
				}
			}
		})
	}
	for i := range 100 {
		revoked.Store(i%2 == 0)
		f.pass(time.Second)
	}
	wg.Wait()
}

// TestFailuresAreNotKept is F24, in both directions: a failure neither becomes
// a verdict nor ends one.
func TestFailuresAreNotKept(t *testing.T) {
	failures := []error{context.DeadlineExceeded, context.Canceled, errors.New("any")}
	for _, kind := range []error{
		introspection.ErrUnavailable, introspection.ErrMalformed, introspection.ErrThrottled,
		introspection.ErrInvalidClient, introspection.ErrBusy,
	} {
		failures = append(failures, kind, &introspection.Failure{Kind: kind, RetryAfter: 5 * time.Second})
	}
	for _, failure := range failures {
		t.Run(fmt.Sprintf("%T %[1]v", failure), func(t *testing.T) {
			answer, err := (*introspection.Response)(nil), failure
			f := newFixture(t, func(context.Context, string) (*introspection.Response, error) { return answer, err },
				func(c *Config) { c.MaxAge = time.Minute })
			want := func(lookup string, want error) {
				t.Helper()
				if got, _, err := f.ask(t, "token"); got != lookup || !errors.Is(err, want) {
					t.Fatalf("%s, %v, want %s, %v", got, err, lookup, want)
				}
			}
			want(Miss, failure)
			want(Miss, failure)
			answer, err = expiring(t, time.Hour), nil
			want(Miss, nil)
			answer, err = nil, failure
			want(Hit, nil)
			f.pass(time.Minute)
			want(Expired, failure)
			want(Expired, failure)
			err = introspection.ErrInactive
			want(Expired, introspection.ErrInactive)
			err = failure
			want(InactiveHit, introspection.ErrInactive)
			f.pass(5 * time.Second)
			want(Miss, failure)
			f.wantCalls(t, 7)
		})
	}
}

// TestResponseBesideAnError: an error decides, whatever else a source returns.
func TestResponseBesideAnError(t *testing.T) {
	f := newFixture(t, always(expiring(t, time.Hour), introspection.ErrUnavailable), nil)
	for range 2 {
		v, err := f.Introspect(t.Context(), introspection.Request{Token: "token"})
		if v != (introspection.Verdict{Lookup: Miss}) || !errors.Is(err, introspection.ErrUnavailable) {
			t.Errorf("got %+v, %v, want a miss and %v", v, err, introspection.ErrUnavailable)
		}
	}
}

// TestNeitherResponseNorError: a source's bug must not look like a verdict.
func TestNeitherResponseNorError(t *testing.T) {
	f := newFixture(t, always(nil, nil), nil)
	for range 2 {
		lookup, _, err := f.ask(t, "token")
		if !isUnavailable(err) || lookup != Miss {
			t.Errorf("got %s (%v), want a miss, and unavailable", lookup, err)
		}
	}
}

// TestAuthority is F11 and F16: a verdict counts for the authority that gave it.
func TestAuthority(t *testing.T) {
	authority := "one"
	f := newFixture(t, func(context.Context, string) (*introspection.Response, error) {
		if authority == "one" {
			return expiring(t, time.Hour), nil
		}
		return nil, introspection.ErrInactive
	}, func(c *Config) { c.Authority = func() string { return authority } })
	one := f.TokenRef("token")
	f.wantLookup(t, "token", Miss)
	f.wantLookup(t, "token", Hit)
	authority = "two"
	f.wantLookup(t, "token", Miss)
	f.wantLookup(t, "token", InactiveHit)
	if f.TokenRef("token") == one {
		t.Error("got one reference for two authorities, want two")
	}
	authority = "one"
	f.wantLookup(t, "token", Hit)
}

// TestAuthorityChangesMeanwhile: the source may have asked the new authority;
// its response must not be found under the name of the old.
func TestAuthorityChangesMeanwhile(t *testing.T) {
	var authority atomic.Value
	authority.Store("one")
	f := newFixture(t, func(context.Context, string) (*introspection.Response, error) {
		authority.Store("two")
		return expiring(t, time.Hour), nil
	}, func(c *Config) { c.Authority = func() string { s, _ := authority.Load().(string); return s } })
	f.wantLookup(t, "token", Miss)
	authority.Store("one")
	f.wantLookup(t, "token", Miss)
	f.wantLookup(t, "token", Miss) // authority two now, which has been asked under the name of one only
	f.wantLookup(t, "token", Hit)
}

// TestSimilarTokens is F14 through the front door.
func TestSimilarTokens(t *testing.T) {
	long := strings.Repeat("x", 8192)
	good := []string{"a", long, long[:1000], long[:64], long[:8]}
	f := newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		if slices.Contains(good, token) {
			return expiring(t, time.Hour), nil
		}
		return nil, introspection.ErrInactive
	}, nil)
	for _, token := range good {
		f.wantLookup(t, token, Miss)
	}
	for _, token := range []string{
		"", "A", "a ", " a", "a\x00", "aa", long + "x", long[1:], long[:8191] + "y", long[:1001], long[:999], long[:65], long[:63], long[:9], long[:7],
	} {
		if lookup, _, err := f.ask(t, token); lookup != Miss || !errors.Is(err, introspection.ErrInactive) {
			t.Errorf("token of %d bytes: got %s (%v), want a miss, and inactive", len(token), lookup, err)
		}
	}
	for _, token := range good {
		f.wantLookup(t, token, Hit)
	}
}

// TestCapacity is F29: the least recently used verdict goes.
func TestCapacity(t *testing.T) {
	for _, test := range []struct {
		capacity int
		asks     string
		stays    string
		evicted  float64
	}{
		{1, "a", "a", 0},
		{1, "ab", "b", 1},
		{1, "abab", "b", 3},
		{2, "ab", "ab", 0},
		{2, "abc", "bc", 1},
		{2, "abac", "ac", 1},
		{2, "abaabbac", "ac", 1},
		{4, "abcdef", "cdef", 2},
		{4, "abcdaef", "daef", 2},
	} {
		f := newFixture(t, always(expiring(t, time.Hour), nil), func(c *Config) { c.MaxEntries = test.capacity })
		for _, token := range test.asks {
			f.ask(t, string(token))
			if n := f.active.Len(); n > test.capacity {
				t.Fatalf("got %d entries, want at most %d", n, test.capacity)
			}
		}
		calls := f.calls.Load()
		for _, token := range test.stays {
			f.wantLookup(t, string(token), Hit)
		}
		f.wantCalls(t, calls)
		if got := testutil.ToFloat64(f.metrics.evictions.WithLabelValues(activeLabel, reasonCapacity)); got != test.evicted {
			t.Errorf("%d, %s: %v evictions, want %v", test.capacity, test.asks, got, test.evicted)
		}
	}
}

// TestJunk is F30: however many junk tokens come, the good ones stay, and the
// junk is bounded.
func TestJunk(t *testing.T) {
	if testing.Short() {
		t.Skip("looks up 100,000 tokens")
	}
	const good, junk = 100, 100_000
	f := newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		if strings.HasPrefix(token, "good") {
			return expiring(t, time.Hour), nil
		}
		return nil, introspection.ErrInactive
	}, func(c *Config) { c.MaxEntries = good })
	for i := range good {
		f.wantLookup(t, fmt.Sprint("good", i), Miss)
	}
	for i := range junk {
		if _, err := f.Introspect(t.Context(), introspection.Request{Token: fmt.Sprint("junk", i)}); !errors.Is(err, introspection.ErrInactive) {
			t.Fatalf("f.Introspect: got error %v, want none", err)
		}
	}
	for i := range good {
		f.wantLookup(t, fmt.Sprint("good", i), Hit)
	}
	for range 1000 { // F31
		f.wantLookup(t, fmt.Sprint("junk", junk-1), InactiveHit)
	}
	f.wantLookup(t, fmt.Sprint("junk", junk-maxInactive-1), Miss)
	f.wantCalls(t, good+junk+1)
	f.wantMetrics(t, map[string]float64{
		"entries active": good, "entries inactive": maxInactive,
		"evictions_total capacity inactive": junk - maxInactive + 1,
		"lookups_total miss":                good + junk + 1, "lookups_total hit": good, "lookups_total inactive_hit": 1000,
		"hit_age_seconds count": good,
	})
}

// TestExpiredAreRemoved: verdicts nobody asks for any more go with the next
// insertions, a few each, and living ones aren't evicted in their place.
func TestExpiredAreRemoved(t *testing.T) {
	f := newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		switch token[0] {
		case 's':
			return expiring(t, time.Second), nil
		case 'j':
			return nil, introspection.ErrInactive
		}
		return expiring(t, time.Hour), nil
	}, func(c *Config) { c.MaxEntries = 6 })
	for _, token := range []string{"s1", "s2", "s3", "l1", "l2", "l3", "j1", "j2", "j3"} {
		f.wantLookup(t, token, Miss)
	}
	f.pass(5 * time.Second)
	f.wantLookup(t, "l4", Miss)
	f.wantLookup(t, "j4", Miss)
	f.wantMetrics(t, map[string]float64{
		"entries active": 5, "entries inactive": 2, "lookups_total miss": 11,
		"evictions_total expired active": 2, "evictions_total expired inactive": 2,
	})
	f.wantLookup(t, "l5", Miss)
	f.wantLookup(t, "l6", Miss)
	f.wantLookup(t, "l7", Miss) // only now a living one has to go
	f.wantLookup(t, "j5", Miss)
	f.wantLookup(t, "l2", Hit)
	f.wantMetrics(t, map[string]float64{
		"entries active": 6, "entries inactive": 2, "lookups_total miss": 15, "lookups_total hit": 1,
		"evictions_total expired active": 3, "evictions_total expired inactive": 3, "evictions_total capacity active": 1,
		"hit_age_seconds count": 1, "hit_age_seconds sum": 5,
	})
}

// TestExpiredByWallClockAreRemoved is the same for a wall clock set forward.
func TestExpiredByWallClockAreRemoved(t *testing.T) {
	f := newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		return expiring(t, map[string]time.Duration{"short": time.Hour, "long": 3 * time.Hour}[token]), nil
	}, nil)
	f.wantLookup(t, "short", Miss)
	f.setWall(2 * time.Hour)
	f.wantLookup(t, "long", Miss)
	if n := f.active.Len(); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
}

// TestMetrics counts each kind of lookup once more than the one before it.
func TestMetrics(t *testing.T) {
	f := newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		if token == "junk" {
			return nil, introspection.ErrInactive
		}
		return expiring(t, time.Hour), nil
	}, func(c *Config) { c.MaxAge = 10 * time.Second })
	for _, ask := range []struct {
		pass        time.Duration
		token, want string
		age         time.Duration
	}{
		{0, "good", Miss, 0},
		{3 * time.Second, "good", Hit, 3 * time.Second},
		{4 * time.Second, "good", Hit, 7 * time.Second},
		{3 * time.Second, "good", Expired, 0},
		{time.Second / 2, "good", Hit, time.Second / 2},
		{0, "junk", Miss, 0},
		{time.Second, "junk", InactiveHit, 0},
		{0, "junk", InactiveHit, 0},
	} {
		f.pass(ask.pass)
		if v, _ := f.Introspect(t.Context(), introspection.Request{Token: ask.token}); v.Lookup != ask.want || v.Age != ask.age {
			t.Errorf("got %s, %v, want %s, %v", v.Lookup, v.Age, ask.want, ask.age)
		}
	}
	f.wantLookup(t, "good", Hit)
	f.wantMetrics(t, map[string]float64{
		"lookups_total miss": 2, "lookups_total hit": 4, "lookups_total expired": 1, "lookups_total inactive_hit": 2,
		"entries active": 1, "entries inactive": 1, "evictions_total expired active": 1,
		"hit_age_seconds count": 4, "hit_age_seconds sum": 3 + 7 + 0.5 + 1.5,
	})
}

// TestMetricsAreThere holds the series that exist before anything happens, so
// that a rate over them begins at zero, and their spelling.
func TestMetricsAreThere(t *testing.T) {
	f := newFixture(t, always(nil, nil), nil)
	want := map[string]float64{}
	for _, name := range []string{
		"lookups_total hit", "lookups_total miss", "lookups_total expired", "lookups_total inactive_hit", "lookups_total coalesced",
		"entries active", "entries inactive", "hit_age_seconds", "hit_age_seconds count", "hit_age_seconds sum",
		"evictions_total capacity active", "evictions_total expired active", "evictions_total purged active",
		"evictions_total capacity inactive", "evictions_total expired inactive", "evictions_total purged inactive",
	} {
		want[name] = 0
	}
	f.wantMetrics(t, want)
	if problems, err := testutil.GatherAndLint(f.registry); err != nil || len(problems) > 0 {
		t.Errorf("got %v (%v), want no problems", problems, err)
	}
}

// TestAgeIsNotNegative: a verdict that lands while a lookup is under way isn't
// from the future; a histogram's sum that falls looks like a restart.
func TestAgeIsNotNegative(t *testing.T) {
	var f *fixture
	armed := false
	f = newFixture(t, always(expiring(t, time.Hour), nil), func(c *Config) {
		c.MaxAge = 10 * time.Second
		c.Elapsed = func() time.Duration {
			read := f.sinceStart()
			if armed {
				armed = false
				f.pass(time.Second)
				f.ask(t, "token")
			}
			return read
		}
	})
	for _, pass := range []time.Duration{0, 10 * time.Second} { // an unknown token, an expired verdict
		f.pass(pass)
		armed = true
		if v := f.lookup(f.keys.key(f.config.Authority(), "token")); v.Age < 0 {
			t.Errorf("got %s, %v old, want no negative age", v.Lookup, v.Age)
		}
		armed = false
		f.ask(t, "token")
	}
}

// TestOwnClocks uses the clocks a cache has by itself.
func TestOwnClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := decode(t, fmt.Sprintf(`{"active":true,"exp":%d}`, time.Now().Unix()+60), time.Now())
		f := newFixture(t, always(r, nil), func(c *Config) { c.Now, c.Elapsed = nil, nil })
		defer f.Close()
		f.wantLookup(t, "token", Miss)
		time.Sleep(time.Minute - 1)
		f.wantLookup(t, "token", Hit)
		time.Sleep(time.Nanosecond)
		f.wantLookup(t, "token", Expired)
		f.wantLookup(t, "token", Miss)
	})
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no source":             func(c *Config) { c.Source = nil },
		"no authority":          func(c *Config) { c.Authority = nil },
		"no entries":            func(c *Config) { c.MaxEntries = 0 },
		"negative entries":      func(c *Config) { c.MaxEntries = -1 },
		"no timeout":            func(c *Config) { c.Timeout = 0 },
		"negative timeout":      func(c *Config) { c.Timeout = -1 },
		"negative max age":      func(c *Config) { c.MaxAge = -1 },
		"negative no-exp age":   func(c *Config) { c.NoExpAge = -1 },
		"negative inactive age": func(c *Config) { c.InactiveAge = -1 },
	} {
		config := Config{Source: always(nil, nil), Authority: func() string { return "" }, Timeout: 1, MaxEntries: 1}
		if _, err := New(config); err != nil {
			t.Fatalf("New: got error %v, want none", err)
		}
		change(&config)
		if c, err := New(config); c != nil || err == nil {
			t.Errorf("%s: got %v (%v), want an error", name, c, err)
		}
	}
}
