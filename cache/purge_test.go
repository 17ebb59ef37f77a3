package cache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func digestOf(token string) *[sha256.Size]byte {
	digest := sha256.Sum256([]byte(token))
	return &digest
}

// described is the response for a token that is named after its claims:
// sub/client_id/patient, or one that is inactive.
func described(t *testing.T) sourceFunc {
	t.Helper()
	return func(_ context.Context, token string) (*introspection.Response, error) {
		if strings.HasPrefix(token, "inactive") {
			return nil, introspection.ErrInactive
		}
		part := strings.Split(token, "/")
		body := fmt.Sprintf(`{"active":true,"exp":%d,"sub":%q,"client_id":%q`, noon.Add(time.Hour).Unix(), part[0], part[1])
		if part[2] != "" {
			body += fmt.Sprintf(`,"patient":%q`, part[2])
		}
		return introspectiontest.Decode([]byte(body+"}"), introspection.NewClaimSet(introspection.Patient), noon)
	}
}

func TestPurge(t *testing.T) {
	all := []string{"anna/app/1", "anna/app/2", "anna/web/1", "bert/app/1", "bert/web/", "//", "inactive", "inactive too"}
	for _, test := range []struct {
		name   string
		filter Filter
		want   []string // what is forgotten
	}{
		{"everything", Filter{}, all},
		{"token", Filter{TokenSHA256: digestOf("anna/app/2")}, []string{"anna/app/2"}},
		{"inactive token", Filter{TokenSHA256: digestOf("inactive")}, []string{"inactive"}},
		{"unknown token", Filter{TokenSHA256: digestOf("stranger")}, nil},
		{"the digest of zeros isn't everything", Filter{TokenSHA256: new([sha256.Size]byte)}, nil},
		{"sub", Filter{Subject: "anna"}, []string{"anna/app/1", "anna/app/2", "anna/web/1"}},
		{"client_id", Filter{ClientID: "web"}, []string{"anna/web/1", "bert/web/"}},
		{"patient", Filter{Patient: "1"}, []string{"anna/app/1", "anna/web/1", "bert/app/1"}},
		{"sub and client_id", Filter{Subject: "anna", ClientID: "app"}, []string{"anna/app/1", "anna/app/2"}},
		{"all claims", Filter{Subject: "anna", ClientID: "app", Patient: "1"}, []string{"anna/app/1"}},
		{"no claims in common", Filter{Subject: "bert", Patient: "2"}, nil},
		{"part of a claim", Filter{Subject: "ann"}, nil},
		{"other case", Filter{Subject: "Anna"}, nil},
		{"token and its claim", Filter{TokenSHA256: digestOf("bert/app/1"), Subject: "bert"}, []string{"bert/app/1"}},
		{"token and another's claim", Filter{TokenSHA256: digestOf("bert/app/1"), Subject: "anna"}, nil},
		{"inactive token and a claim", Filter{TokenSHA256: digestOf("inactive"), Subject: "anna"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, described(t), nil)
			for _, token := range all {
				f.wantLookup(t, token, Miss)
			}
			if got := f.Purge(test.filter); got != len(test.want) {
				t.Errorf("purged %d, want %d", got, len(test.want))
			}
			metrics := map[string]float64{
				"evictions_total purged active": 0, "evictions_total purged inactive": 0,
				"entries active": 6, "entries inactive": 2, "lookups_total miss": float64(len(all)),
			}
			for _, token := range test.want {
				verdict := "active"
				if strings.HasPrefix(token, "inactive") {
					verdict = "inactive"
				}
				metrics["evictions_total purged "+verdict]++
				metrics["entries "+verdict]--
			}
			f.wantMetrics(t, metrics)
			for _, token := range all {
				want := Hit
				switch {
				case slices.Contains(test.want, token):
					want = Miss
				case strings.HasPrefix(token, "inactive"):
					want = InactiveHit
				}
				f.wantLookup(t, token, want)
			}
			if again := f.Purge(Filter{}); again != len(all) {
				t.Errorf("then purged %d of everything, want %d", again, len(all))
			}
		})
	}
}

// TestPurgeAuthorities: a token is forgotten at every authority, also at one
// that is asked again only later (F11).
func TestPurgeAuthorities(t *testing.T) {
	authority := "one"
	f := newFixture(t, described(t), func(c *Config) { c.Authority = func() string { return authority } })
	f.wantLookup(t, "anna/app/1", Miss)
	f.wantLookup(t, "bert/app/1", Miss)
	authority = "two"
	f.wantLookup(t, "anna/app/1", Miss)
	if got := f.Purge(Filter{TokenSHA256: digestOf("anna/app/1")}); got != 2 {
		t.Errorf("purged %d, want the token at both authorities", got)
	}
	f.wantLookup(t, "anna/app/1", Miss)
	authority = "one"
	f.wantLookup(t, "anna/app/1", Miss)
	f.wantLookup(t, "bert/app/1", Hit)
	if got := f.Purge(Filter{Subject: "anna"}); got != 2 {
		t.Errorf("purged %d, want the claim at both authorities", got)
	}
}

// TestPurgeMeanwhile: a response that was asked for before the purge is given to
// those who waited, kept for nobody and shared with nobody who comes later.
func TestPurgeMeanwhile(t *testing.T) {
	for _, filter := range []Filter{{}, {Subject: "anna"}, {TokenSHA256: digestOf("token")}} {
		synctest.Test(t, func(t *testing.T) {
			old := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
			revoked := &gate{open: make(chan struct{}), err: introspection.ErrInactive}
			var mu sync.Mutex
			gates := []*gate{old, revoked}
			f := newFixture(t, func(ctx context.Context, token string) (*introspection.Response, error) {
				mu.Lock()
				g := gates[0]
				gates = gates[1:]
				mu.Unlock()
				return g.introspect(ctx, token)
			}, nil)
			defer f.Close()
			before := f.askAll(t.Context(), 10, "token")
			if got := f.Purge(filter); got != 0 {
				t.Errorf("purged %d, want none", got)
			}
			after := f.askAll(t.Context(), 10, "token")
			f.wantCalls(t, 2)
			close(revoked.open)
			synctest.Wait()
			wantAll(t, after, nil, introspection.ErrInactive)
			close(old.open) // lands last, and must not displace the newer verdict
			synctest.Wait()
			wantAll(t, before, old.response, nil)
			f.wantLookup(t, "token", InactiveHit)
		})
	}
}

// TestPurgeLateLanding: the flight that a purge took out leaves alone the one
// that has its place since.
func TestPurgeLateLanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &gate{open: make(chan struct{}), response: expiring(t, time.Hour)}
		fresh := &gate{open: make(chan struct{}), response: expiring(t, 2*time.Hour)}
		gates := make(chan *gate, 2)
		gates <- old
		gates <- fresh
		f := newFixture(t, func(ctx context.Context, token string) (*introspection.Response, error) {
			return (<-gates).introspect(ctx, token)
		}, nil)
		defer f.Close()
		f.askAll(t.Context(), 1, "token")
		f.Purge(Filter{})
		waiting := f.askAll(t.Context(), 1, "token")
		close(old.open)
		synctest.Wait()
		joined := f.askAll(t.Context(), 1, "token") // would be a third call
		f.wantCalls(t, 2)
		close(fresh.open)
		synctest.Wait()
		wantAll(t, append(waiting, joined...), fresh.response, nil)
		f.wantLookup(t, "token", Hit)
	})
}

// TestPurgeParallel: purging beside lookups neither races nor leaves anything.
func TestPurgeParallel(t *testing.T) {
	f := newFixture(t, described(t), nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				token := fmt.Sprintf("anna/app/%d", j%5)
				if i == 0 {
					f.Purge([]Filter{{}, {Patient: "1"}, {TokenSHA256: digestOf(token)}}[j%3])
				} else if _, err := f.Introspect(t.Context(), introspection.Request{Token: token}); err != nil {
					t.Errorf("f.Introspect: got error %v, want none", err)
				}
			}
		})
	}
	wg.Wait()
	f.Purge(Filter{})
	if f.active.Len()+f.inactive.Len() != 0 {
		t.Errorf("got %d and %d verdicts left, want none", f.active.Len(), f.inactive.Len())
	}
	if left := slices.Collect(maps.Keys(f.flights.byKey)); len(left) > 0 {
		t.Errorf("got %d calls left, want none", len(left))
	}
}

func TestDigestRef(t *testing.T) {
	f := newFixture(t, described(t), nil)
	if got, want := f.DigestRef(*digestOf("token")), f.TokenRef("token"); got != want {
		t.Errorf("DigestRef = %s, TokenRef = %s", got, want)
	}
}
