package cache

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// defaultClaims are what checks need and what the headers of a default
// configuration carry.
var defaultClaims = introspection.NewClaimSet(
	introspection.Scope, introspection.ClientID, introspection.Subject, introspection.Issuer,
	introspection.Expires, introspection.Patient, introspection.Encounter, introspection.User,
	introspection.FHIRContext, introspection.Intent, introspection.Tenant,
)

// typicalAnswer is what Koppeltaal says about a token of a launched module.
const typicalAnswer = `{"active":true,"client_id":"l238j323ds-23ij4","sub":"Z5O3upPC88QrAjx00dis",` +
	`"aud":"https://Koppeltaal.nl/eHealthModule/123","iss":"https://Koppeltaal.Authorization.nl/",` +
	`"exp":%d,"iat":1419350238,"user":"Practitioner/123","patient":"123",` +
	`"fhirContext":["https://Koppeltaal.nl/Task/123"],"intent":"samenstellen-behandeling"}`

func typicalResponse(tb testing.TB) *introspection.Response {
	tb.Helper()
	now := time.Now()
	body := fmt.Sprintf(typicalAnswer, now.Add(24*time.Hour).Unix())
	r, err := introspectiontest.Decode([]byte(body), defaultClaims, now)
	if err != nil {
		tb.Fatalf("introspectiontest.Decode: got error %v, want none", err)
	}
	return r
}

// newBenchCache is a cache on the real clocks whose metrics are exported, as in production.
func newBenchCache(tb testing.TB, source introspection.Introspector, entries int) *Cache {
	tb.Helper()
	c, err := New(Config{
		Source:      source,
		Authority:   func() string { return "https://as.test/introspect\x00bearer sidecar" },
		Timeout:     time.Minute,
		MaxEntries:  entries,
		InactiveAge: 5 * time.Second,
		Registerer:  prometheus.NewPedanticRegistry(),
	})
	if err != nil {
		tb.Fatalf("New: got error %v, want none", err)
	}
	tb.Cleanup(c.Close)
	return c
}

// opaqueToken and jwtToken have the lengths of what is seen in the field.
var (
	opaqueToken = strings.Repeat("Z5O3upPC", 5)
	jwtToken    = strings.Repeat("eyJhbGciOiJSUzM4NCJ9", 45)
)

func BenchmarkHit(b *testing.B) {
	for _, token := range []struct{ name, text string }{{"opaque", opaqueToken}, {"jwt", jwtToken}} {
		r := typicalResponse(b)
		c := newBenchCache(b, sourceFunc(func(context.Context, string) (*introspection.Response, error) { return r, nil }), 50_000)
		ctx, request := b.Context(), introspection.Request{Token: token.text}
		if _, err := c.Introspect(ctx, request); err != nil {
			b.Fatalf("c.Introspect: got error %v, want none", err)
		}
		b.Run("serial/"+token.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got, err := c.Introspect(ctx, request); got.Response != r || err != nil {
					b.Fatalf("got %v (%v), want the response that was kept", got, err)
				}
			}
		})
		b.Run("parallel/"+token.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if got, err := c.Introspect(ctx, request); got.Response != r || err != nil {
						b.Errorf("got %v (%v), want the response that was kept", got, err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkHitPacked is the worst case: one token more than are kept ready, in turns, so
// that each hit packs one verdict and unpacks another.
func BenchmarkHitPacked(b *testing.B) {
	r := typicalResponse(b)
	c := newBenchCache(b, sourceFunc(func(context.Context, string) (*introspection.Response, error) { return r, nil }), memoryTokens)
	requests := make([]introspection.Request, hotEntries+1)
	for i := range requests {
		requests[i].Token = fmt.Sprintf("%s-%d", opaqueToken, i)
		if _, err := c.Introspect(b.Context(), requests[i]); err != nil {
			b.Fatalf("c.Introspect: got error %v, want none", err)
		}
	}
	ctx, i := b.Context(), 0
	b.ReportAllocs()
	for b.Loop() {
		if got, err := c.Introspect(ctx, requests[i%len(requests)]); got.Response == r || err != nil {
			b.Fatalf("got %v (%v), want an unpacked response", got, err)
		}
		i++
	}
}

// TestHitAllocates holds what BenchmarkHit shows.
func TestHitAllocates(t *testing.T) {
	if raceEnabled() {
		t.Skip("the race detector empties pools at random")
	}
	r := typicalResponse(t)
	c := newBenchCache(t, sourceFunc(func(context.Context, string) (*introspection.Response, error) { return r, nil }), 10)
	ctx, request := t.Context(), introspection.Request{Token: opaqueToken}
	n := testing.AllocsPerRun(1000, func() {
		if _, err := c.Introspect(ctx, request); err != nil {
			t.Fatalf("c.Introspect: got error %v, want none", err)
		}
	})
	if n != 0 {
		t.Errorf("got %v allocations for a hit, want none", n)
	}
}

// memoryTokens is the default of SIDECAR_CACHE_MAX_ENTRIES.
const memoryTokens = 50_000

// fill measures what the heap holds for each token of a full cache, and how long a
// collection takes while it is there. Every token has a response of its own, decoded from
// a body of its own.
func fill(tb testing.TB, tokens int) (perToken float64, collection time.Duration) {
	tb.Helper()
	exp := time.Now().Add(24 * time.Hour).Unix()
	c := newBenchCache(tb, sourceFunc(func(context.Context, string) (*introspection.Response, error) {
		return introspectiontest.Decode(fmt.Appendf(nil, typicalAnswer, exp), defaultClaims, time.Now())
	}), tokens)
	before := heap()
	for i := range tokens {
		if _, err := c.Introspect(tb.Context(), introspection.Request{Token: fmt.Sprintf("%s-%d", opaqueToken, i)}); err != nil {
			tb.Fatalf("c.Introspect: got error %v, want none", err)
		}
	}
	perToken = float64(heap()-before) / float64(tokens)
	start := time.Now()
	runtime.GC()
	collection = time.Since(start)
	runtime.KeepAlive(c)
	return perToken, collection
}

func heap() uint64 { return collected().HeapAlloc }

// collected tells what lives.
func collected() (stats runtime.MemStats) {
	// Twice, because the first collection only retires what pools hold.
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats
}

func BenchmarkMemory(b *testing.B) {
	for _, tokens := range []int{memoryTokens, 1_000_000} {
		b.Run(fmt.Sprint(tokens), func(b *testing.B) {
			var perToken float64
			var collection time.Duration
			for b.Loop() {
				perToken, collection = fill(b, tokens)
			}
			b.ReportMetric(perToken, "B/token")
			b.ReportMetric(float64(collection.Microseconds())/1000, "ms/collection")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestMemory holds what BenchmarkMemory shows: 50,000 tokens in 17.5 MB.
func TestMemory(t *testing.T) {
	if raceEnabled() || testing.Short() {
		t.Skip("measured without the race detector")
	}
	if per, _ := fill(t, memoryTokens); per > 350 {
		t.Errorf("a cached token takes %.0f bytes, want at most 350", per)
	}
}
