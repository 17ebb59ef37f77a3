package faults

import (
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

var (
	floodTime = flag.Duration("flood", time.Minute, "how long each flood of junk tokens takes")
	floodRate = flag.Int("flood-rate", 2000, "junk tokens a second, as far as the machine gets")
)

// floodWorkers is how many connections a flood has.
const floodWorkers = 256

// plain is a sidecar without anything in between, and its neighbours.
type plain struct {
	*sidecar
	as   *authority
	fhir *fhirServer
}

func newPlain(t *testing.T, settings env) *plain {
	t.Helper()
	p := &plain{as: newAuthority(t, introspectiontest.Config{}), fhir: newFHIRServer(t)}
	p.as.SetAnswer(nil) // as small as they are
	bearer := filepath.Join(t.TempDir(), "bearer")
	write(t, bearer, []byte(introspectiontest.DefaultBearer))
	all := env{
		"UPSTREAM_URL":           p.fhir.url + "/fhir",
		"INTROSPECTION_ENDPOINT": p.as.url + introspectiontest.IntrospectionPath,
		"BEARER_TOKEN_FILE":      bearer,
	}
	for name, value := range settings {
		all[name] = value
	}
	p.sidecar = start(t, all)
	return p
}

// junk is what comes back for a junk token: inactive, or too busy to say.
func junk(_ request, a *answer) string {
	if a.status == http.StatusServiceUnavailable {
		return isRefusal(a, a.status)
	}
	return isRefusal(a, http.StatusUnauthorized)
}

// F30, F32: junk tokens by the thousand a second, against an authorization server
// that keeps up with them and against one that doesn't. A hundred good tokens work
// on, nothing grows, and the authorization server sees no more calls at a time than
// it may.
func TestFlood(t *testing.T) {
	for name, delay := range map[string]time.Duration{
		"fast authorization server": 5 * time.Millisecond,
		"slow authorization server": time.Second, // 64 a second at the limit of calls
	} {
		t.Run(name, func(t *testing.T) {
			const limit = 64
			p := newPlain(t, env{"MAX_INTROSPECTIONS": strconv.Itoa(limit)})
			good := p.as.grantAll("good-", 100)
			p.warm(t)
			before := p.usage(t)
			p.know(t, good)
			p.as.delay.Store(int64(delay))
			hits := func() float64 { return p.metric(t, "introspection_sidecar_cache_lookups_total", `result="hit"`) }
			hitsBefore, cpuBefore := hits(), p.cpu(t)

			endGood := load{
				address: p.data, workers: 4, rate: 100, fault: forPatient,
				request: func(n int) request { return read(good[n%len(good)]) },
			}.start()
			endJunk := load{
				address: p.data, workers: floodWorkers, rate: *floodRate, fault: junk,
				request: func(n int) request { return read("junk-" + strconv.Itoa(n)) },
			}.start()
			first := p.most(t, *floodTime/2)
			second := p.most(t, *floodTime/2)
			junk, kept := endJunk(), endGood()
			cpu := p.cpu(t) - cpuBefore

			junk.none(t, "junk")
			kept.none(t, "good tokens")
			if delay >= time.Second && junk.statuses[http.StatusServiceUnavailable] == 0 {
				t.Error("nothing was shed")
			}
			ratio := (hits() - hitsBefore) / float64(kept.requests)
			if ratio < 0.99 {
				t.Errorf("%.1f %% of the good requests were answered from the cache", 100*ratio)
			}
			if peak := p.as.peakOf(introspectiontest.IntrospectionPath); peak > limit {
				t.Errorf("%d calls at the same time, the limit is %d", peak, limit)
			}
			// The first half fills what is bounded: inactive verdicts, buffers of
			// connections, the heap up to its next collection.
			if first > before.resident+64 || second > first+32 {
				t.Errorf("memory grew from %.1f to %.1f, then to %.1f MiB", before.resident, first, second)
			}
			t.Logf("junk: %v, %.0f a second, %.0f µs of CPU per request", junk,
				float64(junk.requests)/floodTime.Seconds(), float64(cpu.Microseconds())/float64(junk.requests+kept.requests))
			t.Logf("good tokens: %v, %.2f %% from the cache", kept, 100*ratio)
			t.Logf("at most %d calls at a time; memory %.1f MiB before, at most %.1f in the first half and %.1f in the second",
				p.as.peakOf(introspectiontest.IntrospectionPath), before.resident, first, second)
			p.settles(t, before)
		})
	}
}

// most is the most memory that the process has during a time, in MiB.
func (s *sidecar) most(t *testing.T, d time.Duration) (mib float64) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		mib = max(mib, s.resident(t))
	}
	return mib
}

// F30: what a refusal costs the sidecar in processor time, with its log line and
// its metrics. The bounds are far away: they catch what grows with the attack.
func TestCostOfRefusals(t *testing.T) {
	const requests = 10_000
	p := newPlain(t, env{"CACHE_INACTIVE_AGE": "1h"})
	p.as.delay.Store(0)
	p.warm(t)
	good := p.as.grant("good")
	long := strings.Repeat("x", 8193)
	for _, row := range []struct {
		name   string
		status int
		calls  int
		token  func(n int) string
	}{
		{"junk that needs a call", 401, requests, func(n int) string { return "junk-" + strconv.Itoa(n) }},
		{"junk that is remembered as inactive", 401, 1, func(int) string { return "junk" }},
		{"junk with illegal characters", 401, 0, func(n int) string { return fmt.Sprintf("junk;%d", n) }},
		{"junk longer than the limit", 401, 0, func(int) string { return long }},
		{"no token", 401, 0, func(int) string { return "" }},
		{"for comparison: a good token from the cache", 200, 1, func(int) string { return good }},
	} {
		before, asked := p.cpu(t), p.as.Introspections()
		c := &client{address: p.data}
		for n := range requests {
			if a, err := c.do(read(row.token(n))); err != nil || a.status != row.status {
				t.Fatalf("%s: %v %v", row.name, a, err)
			}
		}
		c.close()
		each := (p.cpu(t) - before) / requests
		if calls := p.as.Introspections() - asked; calls != row.calls {
			t.Errorf("%s: %d calls instead of %d", row.name, calls, row.calls)
		}
		if each > 5*time.Millisecond {
			t.Errorf("%s: %v of CPU", row.name, each)
		}
		t.Logf("%s: %v of CPU per request", row.name, each.Round(100*time.Nanosecond))
	}
}
