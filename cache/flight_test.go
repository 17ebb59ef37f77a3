package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// result is what one of many callers got.
type result struct {
	response *introspection.Response
	err      error
	lookup   string
}

// askAll asks n times at once and returns when all are waiting or done; the
// results are complete once the source has answered. It needs a bubble.
func (f *fixture) askAll(ctx context.Context, n int, token string) []result {
	results := make([]result, n)
	for i := range results {
		go func() {
			v, err := f.Introspect(ctx, introspection.Request{Token: token})
			results[i] = result{v.Response, err, v.Lookup}
		}()
	}
	synctest.Wait()
	return results
}

func wantAll(t *testing.T, results []result, response *introspection.Response, err error) {
	t.Helper()
	for i, r := range results {
		if r.response != response || !errors.Is(r.err, err) {
			t.Fatalf("caller %d of %d: %v, %v, want %v, %v", i, len(results), r.response, r.err, response, err)
		}
	}
}

// gate is a source that answers when the test says so, or fails when its context ends.
type gate struct {
	open     chan struct{}
	response *introspection.Response
	err      error
}

func (g *gate) introspect(ctx context.Context, _ string) (*introspection.Response, error) {
	select {
	case <-g.open:
		return g.response, g.err
	case <-ctx.Done():
		return nil, &introspection.Failure{Kind: introspection.ErrUnavailable, Reason: ctx.Err().Error()}
	}
}

// TestParallelMisses is F20: a thousand requests, one call.
func TestParallelMisses(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		then string
	}{
		{"active", nil, Hit},
		{"inactive", introspection.ErrInactive, InactiveHit},
		{"failure is shared and kept for nobody", introspection.ErrThrottled, Miss},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{open: make(chan struct{}), err: test.err}
				if test.err == nil {
					g.response = expiring(t, time.Hour)
				}
				f := newFixture(t, g.introspect, nil)
				defer f.Close()
				results := f.askAll(t.Context(), 1000, "token")
				f.wantCalls(t, 1)
				close(g.open)
				synctest.Wait()
				f.wantCalls(t, 1)
				wantAll(t, results, g.response, test.err)
				lookups := map[string]int{}
				for _, r := range results {
					lookups[r.lookup]++
				}
				if lookups[Miss] != 1 || lookups[Coalesced] != 999 {
					t.Errorf("got lookups %v, want 1 miss and 999 coalesced", lookups)
				}
				f.wantLookup(t, "token", test.then)
			})
		})
	}
}

// TestTokensDoNotWaitForEachOther, nor do authorities (F12).
func TestTokensDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		var authority atomic.Int64
		f := newFixture(t, g.introspect, func(c *Config) {
			c.Authority = func() string { return fmt.Sprint(authority.Load()) }
		})
		defer f.Close()
		f.askAll(t.Context(), 10, "one")
		f.askAll(t.Context(), 10, "two")
		f.wantCalls(t, 2)
		authority.Add(1)
		results := f.askAll(t.Context(), 10, "one")
		f.wantCalls(t, 3)
		close(g.open)
		synctest.Wait()
		wantAll(t, results, g.response, nil)
	})
}

// TestLeaderLeaves is F21: the request that started a call doesn't take it along.
func TestLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, g.introspect, nil)
		defer f.Close()
		ctx, leave := context.WithCancel(t.Context())
		leader := f.askAll(ctx, 1, "token")
		followers := f.askAll(t.Context(), 10, "token")
		leave()
		synctest.Wait()
		wantAll(t, leader, nil, context.Canceled)
		close(g.open)
		synctest.Wait()
		wantAll(t, followers, g.response, nil)
		f.wantLookup(t, "token", Hit)
		f.wantCalls(t, 1)
	})
}

// TestAllLeave is G34: the answer nobody waits for is kept, because the token
// may have been consumed.
func TestAllLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, g.introspect, nil)
		defer f.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		results := f.askAll(ctx, 3, "token")
		time.Sleep(time.Second)
		synctest.Wait()
		wantAll(t, results, nil, context.DeadlineExceeded)
		close(g.open)
		synctest.Wait()
		f.wantLookup(t, "token", Hit)
		f.wantCalls(t, 1)
	})
}

// queued is a source whose calls wait for their turn, as long as somebody waits for
// them.
type queued struct {
	turn           chan struct{}
	begun, dropped atomic.Int64
}

func (q *queued) Introspect(_ context.Context, r introspection.Request) (introspection.Verdict, error) {
	r.Queued()
	select {
	case <-q.turn:
		if r.Begin() {
			q.begun.Add(1)
			return introspection.Verdict{}, introspection.ErrInactive
		}
	case <-r.Abandoned:
	}
	q.dropped.Add(1)
	return introspection.Verdict{}, introspection.ErrUnavailable
}

// TestAbandonedCallIsDropped: a call that hasn't begun ends with the last who waits
// for it, and who comes after that gets one of his own.
func TestAbandonedCallIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queued{turn: make(chan struct{})}
		f := newFixture(t, nil, func(c *Config) { c.Source = q })
		defer f.Close()
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		defer leaveSecond()
		f.askAll(first, 2, "token")
		f.askAll(second, 1, "token")
		leaveFirst()
		synctest.Wait()
		if n := q.dropped.Load(); n != 0 {
			t.Fatalf("%d calls dropped while somebody waits, want 0", n)
		}
		leaveSecond()
		synctest.Wait()
		if n := q.dropped.Load(); n != 1 {
			t.Fatalf("%d calls dropped when all have left, want 1", n)
		}
		later := f.askAll(t.Context(), 2, "token")
		q.turn <- struct{}{}
		synctest.Wait()
		wantAll(t, later, nil, introspection.ErrInactive)
		if n := q.begun.Load(); n != 1 {
			t.Errorf("%d calls begun, want 1", n)
		}
		f.wantLookup(t, "token", InactiveHit)
	})
}

// TestLeavingEndsTheWaitForAPlace: a client that says that it won't send more may have
// gone; it waits for a call that has begun, and for none that hasn't.
func TestLeavingEndsTheWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queued{turn: make(chan struct{})}
		f := newFixture(t, nil, func(c *Config) { c.Source = q })
		defer f.Close()
		leaving, left := make(chan struct{}), make(chan error, 1)
		ask := func(token string) {
			_, err := f.Introspect(t.Context(), introspection.Request{Token: token, Leaving: leaving})
			left <- err
		}
		go ask("token")
		synctest.Wait()
		close(leaving)
		synctest.Wait()
		if err := <-left; !errors.Is(err, context.Canceled) || q.dropped.Load() != 1 {
			t.Errorf("before the call has begun: got %v, %d calls dropped, want %v and 1", err, q.dropped.Load(), context.Canceled)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, nil, func(c *Config) {
			c.Source = begins{g}
		})
		defer f.Close()
		leaving, left := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := f.Introspect(t.Context(), introspection.Request{Token: "token", Leaving: leaving})
			left <- err
		}()
		synctest.Wait()
		close(leaving)
		synctest.Wait()
		close(g.open)
		if err := <-left; err != nil {
			t.Errorf("after the call has begun: got %v, want the verdict", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, g.introspect, nil)
		defer f.Close()
		leaving, left := make(chan struct{}), make(chan error, 1)
		close(leaving) // with its request
		go func() {
			_, err := f.Introspect(t.Context(), introspection.Request{Token: "token", Leaving: leaving})
			left <- err
		}()
		synctest.Wait()
		close(g.open)
		if err := <-left; err != nil {
			t.Errorf("of a call that waits for no turn: got %v, want the verdict", err)
		}
	})
}

// begins is a source whose calls begin at once.
type begins struct{ *gate }

func (b begins) Introspect(ctx context.Context, r introspection.Request) (introspection.Verdict, error) {
	if !r.Begin() {
		return introspection.Verdict{}, introspection.ErrUnavailable
	}
	response, err := b.introspect(ctx, r.Token)
	return introspection.Verdict{Response: response}, err
}

// TestBegunCallGoesOn: once it has begun, its token may be gone.
func TestBegunCallGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, g.introspect, nil)
		defer f.Close()
		ctx, leave := context.WithCancel(t.Context())
		f.askAll(ctx, 1, "token")
		leave()
		synctest.Wait()
		followers := f.askAll(t.Context(), 1, "token")
		close(g.open)
		synctest.Wait()
		wantAll(t, followers, g.response, nil)
		f.wantCalls(t, 1)
	})
}

// TestFollowerLeaves: one who leaves takes nobody along.
func TestFollowerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, g.introspect, nil)
		defer f.Close()
		leader := f.askAll(t.Context(), 1, "token")
		ctx, leave := context.WithCancelCause(t.Context())
		follower := f.askAll(ctx, 1, "token")
		leave(errors.New("gone"))
		synctest.Wait()
		wantAll(t, follower, nil, context.Canceled)
		close(g.open)
		synctest.Wait()
		wantAll(t, leader, g.response, nil)
	})
}

// TestTimeout is F22: the call's time is its own; its failure is kept for nobody.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		f := newFixture(t, g.introspect, func(c *Config) { c.Timeout = 2 * time.Second })
		defer f.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leader := f.askAll(ctx, 1, "token")
		time.Sleep(1900 * time.Millisecond)
		synctest.Wait()
		wantAll(t, leader, nil, context.DeadlineExceeded)
		follower := f.askAll(t.Context(), 1, "token")
		began := time.Now()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		wantAll(t, follower, nil, introspection.ErrUnavailable)
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("waited %v, want 100ms", d)
		}
		f.wantCalls(t, 1)
		close(g.open)
		f.wantLookup(t, "token", Miss)
		f.wantLookup(t, "token", Hit)
	})
}

type callerKey struct{}

// TestDetached: of the caller's context only the ids reach the source, and
// what the source writes doesn't reach the caller.
func TestDetached(t *testing.T) {
	f := newFixture(t, func(ctx context.Context, _ string) (*introspection.Response, error) {
		if ctx.Value(callerKey{}) != nil {
			t.Error("got the caller's values in the call's context, want none")
		}
		if err := ctx.Err(); err != nil {
			t.Errorf("got the caller's end (%v) in the call's context, want none", err)
		}
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) < 30*time.Second {
			t.Errorf("deadline is %v, %v, want the cache's own", deadline, ok)
		}
		return nil, introspection.ErrInactive
	}, nil)

	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), callerKey{}, "value"), time.Hour)
	cancel()
	f.Introspect(ctx, introspection.Request{Token: "token"})
	f.flights.wg.Wait()
	f.wantCalls(t, 1)
}

// asked is a source that hands on what it is asked.
type asked chan introspection.Request

func (a asked) Introspect(_ context.Context, r introspection.Request) (introspection.Verdict, error) {
	a <- r
	return introspection.Verdict{}, introspection.ErrInactive
}

// TestRequestReachesTheSource: ids and span are those of who came first.
func TestRequestReachesTheSource(t *testing.T) {
	source := make(asked, 1)
	f := newFixture(t, nil, func(c *Config) { c.Source = source })
	want := introspection.Request{Token: "token", CorrelationID: "correlation", TraceID: "trace", Span: &noop.Span{}}
	if v, err := f.Introspect(t.Context(), want); v.Lookup != Miss || !errors.Is(err, introspection.ErrInactive) {
		t.Errorf("got %+v, %v, want a miss and %v", v, err, introspection.ErrInactive)
	}
	got := <-source
	if got.Token != want.Token || got.CorrelationID != want.CorrelationID || got.TraceID != want.TraceID || got.Span != want.Span {
		t.Errorf("the source was asked %+v, want %+v", got, want)
	}
}

// TestSourceBreaks is F23: whatever ends a source, nobody hangs, nothing is
// kept, and the next call works. A panic's text and the token aren't logged.
func TestSourceBreaks(t *testing.T) {
	const secret = "secret-of-the-panic"
	for _, test := range []struct {
		name   string
		breaks func()
		logged bool
	}{
		{"panic with text", func() { panic(secret) }, true},
		{"panic with error", func() { panic(errors.New(secret)) }, true},
		{"panic with nil", func() { panic(nil) }, true}, //nolint:govet // that's the case
		{"nil pointer", func() { var r *introspection.Response; _ = r.Text(introspection.Scope) }, true},
		{"goroutine ended", runtime.Goexit, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				g := &gate{open: make(chan struct{})}
				broken, good := true, expiring(t, time.Hour)
				f := newFixture(t, func(ctx context.Context, token string) (*introspection.Response, error) {
					if broken {
						g.introspect(ctx, token)
						test.breaks()
					}
					return good, nil
				}, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
				defer f.Close()
				results := f.askAll(t.Context(), 100, "secret-token")
				close(g.open)
				synctest.Wait()
				wantAll(t, results, nil, introspection.ErrUnavailable)
				if !isUnavailable(results[0].err) {
					t.Errorf("got %T, want a Failure", results[0].err)
				}
				broken = false
				f.wantLookup(t, "secret-token", Miss)
				f.wantLookup(t, "secret-token", Hit)
				f.wantCalls(t, 2)
				if strings.Contains(log.String(), "secret-") {
					t.Errorf("got log %s, want no secrets", &log)
				}
				if got := strings.Contains(log.String(), "flight_test.go"); got != test.logged {
					t.Errorf("log tells the place: %v, want %v: %s", got, test.logged, &log)
				}
			})
		})
	}
}

// TestClose: it ends the calls, waits for them, and starts no more.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := expiring(t, time.Hour)
		var ended atomic.Bool
		f := newFixture(t, func(ctx context.Context, token string) (*introspection.Response, error) {
			if token == "good" {
				return good, nil
			}
			<-ctx.Done()
			time.Sleep(time.Second) // ending takes its time
			ended.Store(true)
			return nil, &introspection.Failure{Kind: introspection.ErrUnavailable, Reason: ctx.Err().Error()}
		}, nil)
		f.wantLookup(t, "good", Miss)
		results := f.askAll(t.Context(), 10, "slow")
		began := time.Now()
		f.Close()
		if d := time.Since(began); !ended.Load() || d != time.Second {
			t.Errorf("Close took %v with the call over %t, want 1s and true", d, ended.Load())
		}
		synctest.Wait()
		wantAll(t, results, nil, introspection.ErrUnavailable)
		f.wantLookup(t, "good", Hit) // requests that are still served may use what is known
		lookup, _, err := f.ask(t, "slow")
		if !isUnavailable(err) || lookup != Miss {
			t.Errorf("after Close: got %s (%v), want a miss, and unavailable", lookup, err)
		}
		f.wantCalls(t, 2)
		f.Close()
	})
}

// TestCloseRaces has requests come while the cache is closed; each ends.
func TestCloseRaces(t *testing.T) {
	for range 50 {
		f := newFixture(t, always(expiring(t, time.Hour), nil), nil)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				v, err := f.Introspect(t.Context(), introspection.Request{Token: fmt.Sprint(i)})
				if (v.Response == nil) == (err == nil) {
					t.Errorf("got %+v, %v, want either a response or an error", v, err)
				}
			})
		}
		f.Close()
		calls := f.calls.Load()
		wg.Wait()
		f.wantCalls(t, calls)
	}
}

// TestSecondLook: a verdict that lands between a request's lookup and its
// joining is found, and reported as what it is.
func TestSecondLook(t *testing.T) {
	f := newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		if token == "junk" {
			return nil, introspection.ErrInactive
		}
		return expiring(t, time.Hour), nil
	}, nil)
	for token, want := range map[string]string{"good": Hit, "junk": InactiveHit} {
		k := f.keys.key(f.config.Authority(), token)
		first := f.lookup(k)
		f.wantLookup(t, token, Miss)
		flight, second := f.join(k, first, introspection.Request{Token: token})
		if flight != nil || second.Lookup != want {
			t.Errorf("%s: second look found %v, %s, want %s", token, flight, second.Lookup, want)
		}
	}
	f.wantCalls(t, 2)
}

// TestRenewedIsNotReaped: an entry that is renewed just when another landing
// has found it expired must survive, or its token is asked about twice.
func TestRenewedIsNotReaped(t *testing.T) {
	var f *fixture
	var armed atomic.Bool
	f = newFixture(t, func(context.Context, string) (*introspection.Response, error) {
		return expiring(t, f.now().Sub(noon)+time.Hour), nil
	}, func(c *Config) {
		c.Now = func() time.Time {
			now := f.now()
			// The landing of "other" looks whether "token" has expired. Unless
			// it holds the lock, "token" can be renewed right here.
			if armed.Load() && calledBy("reap[") && armed.CompareAndSwap(true, false) && f.flights.mu.TryLock() {
				f.flights.mu.Unlock()
				f.ask(t, "token")
			}
			return now
		}
	})
	f.wantLookup(t, "token", Miss)
	f.setWall(2 * time.Hour)
	armed.Store(true)
	f.wantLookup(t, "other", Miss)
	if armed.Load() {
		t.Fatal("nothing was reaped, want the oldest entry to be")
	}
	f.ask(t, "token")
	f.wantLookup(t, "token", Hit)
	f.wantCalls(t, 3) // token, other, token once more
}

// calledBy reports whether a function with that in its name is on the stack.
func calledBy(name string) bool {
	callers := make([]uintptr, 20)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for frame, more := frames.Next(); ; frame, more = frames.Next() {
		if strings.Contains(frame.Function, name) {
			return true
		}
		if !more {
			return false
		}
	}
}

// TestNeverTwice is what one-time tokens need: under any interleaving a token
// is asked about once as long as its verdict lives. Every generation of tokens
// is asked for by many at once, while the one before it expires and is reaped.
func TestNeverTwice(t *testing.T) {
	const generations, tokens, workers = 40, 20, 32
	const life = 10 * time.Second
	var f *fixture
	var asked sync.Map // of token and generation
	f = newFixture(t, func(_ context.Context, token string) (*introspection.Response, error) {
		id := fmt.Sprint(token, " ", f.sinceStart()/life)
		if _, twice := asked.LoadOrStore(id, true); twice {
			t.Errorf("asked about %s twice, want once", id)
		}
		if strings.HasPrefix(token, "junk") {
			return nil, introspection.ErrInactive
		}
		return expiring(t, 1000*time.Hour), nil
	}, func(c *Config) { c.MaxEntries, c.MaxAge, c.InactiveAge = 2*tokens, life, life })
	for generation := range generations {
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for i := range tokens {
					// From different ends, so that some land while others look up.
					n := (i + worker*7) % tokens
					for _, token := range []string{fmt.Sprint("good", n), fmt.Sprint("junk", n), fmt.Sprint("new", generation, ".", n)} {
						if _, err := f.Introspect(t.Context(), introspection.Request{Token: token}); err != nil && !errors.Is(err, introspection.ErrInactive) {
							t.Errorf("f.Introspect: got error %v, want none", err)
						}
					}
				}
			})
		}
		wg.Wait()
		f.pass(life)
	}
	if want := int64(generations * tokens * 3); f.calls.Load() != want {
		f.wantCalls(t, want)
	}
}
