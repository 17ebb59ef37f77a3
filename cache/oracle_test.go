package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// model is the cache as one would write it without a thought for speed: two
// lists of verdicts, the least recently used one first. It has no flights,
// because the oracle asks one question at a time.
type model struct {
	config    Config
	active    []remembered
	inactive  []remembered
	evictions map[string]float64
}

type remembered struct {
	id     string // authority and token
	token  string
	exp    int64 // zero: none
	stored time.Duration
	until  time.Duration
}

func find(list []remembered, id string) int {
	return slices.IndexFunc(list, func(r remembered) bool { return r.id == id })
}

// use moves an entry to the young end, as every lookup does.
func use(list []remembered, id string) []remembered {
	i := find(list, id)
	if i < 0 {
		return list
	}
	r := list[i]
	return append(slices.Delete(list, i, i+1), r)
}

func (m *model) over(r remembered) bool {
	return m.config.Elapsed() >= r.until || r.exp != 0 && m.config.Now().Unix() >= r.exp
}

func (m *model) lookup(id string) (string, time.Duration) {
	m.active = use(m.active, id)
	if i := find(m.active, id); i >= 0 {
		if m.over(m.active[i]) {
			return Expired, 0
		}
		return Hit, m.config.Elapsed() - m.active[i].stored
	}
	m.inactive = use(m.inactive, id)
	if i := find(m.inactive, id); i >= 0 && m.config.Elapsed() < m.inactive[i].until {
		return InactiveHit, 0
	}
	return Miss, 0
}

// learn notes a response: nil is inactive.
func (m *model) learn(id string, exp *int64) {
	if i := find(m.active, id); i >= 0 {
		m.active = slices.Delete(m.active, i, i+1)
		m.evictions["expired active"]++
	}
	_, token, _ := strings.Cut(id, " ")
	r := remembered{id: id, token: token, stored: m.config.Elapsed()}
	if exp == nil {
		if r.until = r.stored + m.config.InactiveAge; m.config.InactiveAge > 0 {
			m.reap("inactive", &m.inactive)
			if i := find(m.inactive, id); i >= 0 {
				m.inactive = slices.Delete(m.inactive, i, i+1)
			}
			m.inactive = append(m.inactive, r)
		}
		return
	}
	r.exp = *exp
	age := m.config.NoExpAge
	switch now := m.config.Now(); {
	case r.exp > now.Unix()+1<<31:
		age = 1 << 61 // longer than any test, and than an addition can bear
	case r.exp != 0:
		age = time.Unix(r.exp, 0).Sub(now)
	}
	if m.config.MaxAge > 0 {
		age = min(age, m.config.MaxAge)
	}
	if r.until = r.stored + age; age > 0 {
		m.reap("active", &m.active)
		m.active = append(m.active, r)
		if len(m.active) > m.config.MaxEntries {
			m.active = slices.Delete(m.active, 0, 1)
			m.evictions["capacity active"]++
		}
	}
}

func (m *model) reap(verdict string, list *[]remembered) {
	for range 2 {
		if len(*list) > 0 && m.over((*list)[0]) {
			*list = slices.Delete(*list, 0, 1)
			m.evictions["expired "+verdict]++
		}
	}
}

// purge forgets what has the token, or else these claims.
func (m *model) purge(token string, f Filter) int {
	forget := func(verdict string, list []remembered, matches func(remembered) bool) ([]remembered, int) {
		before := len(list)
		list = slices.DeleteFunc(list, matches)
		m.evictions["purged "+verdict] += float64(before - len(list))
		return list, before - len(list)
	}
	var active, inactive int
	m.active, active = forget("active", m.active, func(r remembered) bool {
		sub, client, patient := claimsOf(r.token)
		return (token == "" || r.token == token) && (f.Subject == "" || f.Subject == sub) &&
			(f.ClientID == "" || f.ClientID == client) && (f.Patient == "" || f.Patient == patient)
	})
	m.inactive, inactive = forget("inactive", m.inactive, func(r remembered) bool {
		return (token == "" || r.token == token) && f.Subject+f.ClientID+f.Patient == ""
	})
	return active + inactive
}

// claimsOf are shared by some of the tokens, in different ways.
func claimsOf(token string) (sub, client, patient string) {
	n := int(token[len(token)-1])
	return fmt.Sprint("s", n%2), fmt.Sprint("c", n%3), fmt.Sprint("p", n%5)
}

// world is the authorization server's truth, and everything a test can turn.
type world struct {
	*fixture
	random    *rand.Rand
	authority int
	failing   bool
	truth     map[string]*int64 // `exp` of active tokens, zero for none
	lookups   map[string]float64
}

var errWorld = &introspection.Failure{Kind: introspection.ErrUnavailable, Reason: "down"}

func (w *world) id(token string) string { return fmt.Sprint(w.authority, " ", token) }

func (w *world) introspect(_ context.Context, token string) (*introspection.Response, error) {
	if w.failing {
		return nil, errWorld
	}
	exp := w.truth[w.id(token)]
	switch {
	case exp == nil:
		return nil, introspection.ErrInactive
	}
	sub, client, patient := claimsOf(token)
	answer := map[string]any{"active": true, "sub": sub, "client_id": client, "patient": patient}
	if *exp != 0 {
		answer["exp"] = *exp
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	// Some servers call expired tokens active: the decoder's business.
	return introspectiontest.Decode(body, introspection.NewClaimSet(introspection.Patient), w.now())
}

// change does one random thing to the world.
func (w *world) change(t *testing.T, m *model, token string) {
	t.Helper()
	seconds := func(n int64) time.Duration { return time.Duration(w.random.Int64N(n * int64(time.Second))) }
	switch w.random.IntN(14) {
	case 0, 1, 2:
		w.pass(seconds(4))
	case 3:
		w.pass(seconds(60))
	case 4:
		w.setWall(seconds(120) - time.Minute)
	case 5:
		w.elapsed.Add(int64(seconds(5)))
	case 6:
		w.truth[w.id(token)] = nil // revoked
	case 7:
		w.truth[w.id(token)] = new(int64)
	case 8, 9:
		exp := w.now().Add(seconds(90) - 5*time.Second).Unix()
		w.truth[w.id(token)] = &exp
	case 10:
		w.failing = w.random.IntN(3) == 0
	case 11:
		w.authority = w.random.IntN(2)
	case 12:
		exp := []int64{253402300799, math.MaxInt64, math.MaxInt32, w.now().Unix() + 1}[w.random.IntN(4)]
		w.truth[w.id(token)] = &exp
	case 13:
		if w.random.IntN(4) == 0 {
			w.purge(t, m, token)
		}
	}
}

// purge makes cache and model forget by any filter that there is.
func (w *world) purge(t *testing.T, m *model, token string) {
	t.Helper()
	sub, client, patient := claimsOf(token)
	some := func(s string) string {
		if w.random.IntN(3) > 0 {
			return ""
		}
		return s
	}
	f := Filter{Subject: some(sub), ClientID: some(client), Patient: some(patient)}
	if token = some(token); token != "" {
		f.TokenSHA256 = digestOf(token)
	}
	if got, want := w.Purge(f), m.purge(token, f); got != want {
		t.Fatalf("purge of %q %+v: %d verdicts, want %d", token, f, got, want)
	}
}

// check asks the cache and the model about a token.
func (w *world) check(t *testing.T, m *model, token string) {
	t.Helper()
	id, calls := w.id(token), w.calls.Load()
	want, age := m.lookup(id)
	v, err := w.Introspect(t.Context(), introspection.Request{Token: token})
	if v.Lookup != want || v.Age != age {
		t.Fatalf("lookup is %s, %v, want %s, %v", v.Lookup, v.Age, want, age)
	}
	w.lookups[want]++
	switch asked := w.calls.Load() - calls; want {
	case Hit:
		exp, _ := v.Response.ExpiresAt()
		if asked != 0 || err != nil || exp != m.active[find(m.active, id)].exp {
			t.Fatalf("hit: got %d calls, error %v and exp %d, want none, none and that of the model", asked, err, exp)
		}
		// Whatever the model says: these two must never be.
		if exp != 0 && w.now().Unix() >= exp || m.config.MaxAge > 0 && v.Age >= m.config.MaxAge {
			t.Fatalf("believed %v past exp, %v old, want neither", w.now().Sub(time.Unix(exp, 0)), v.Age)
		}
	case InactiveHit:
		if asked != 0 || !errors.Is(err, introspection.ErrInactive) {
			t.Fatalf("inactive hit: got %d calls and error %v, want none, and inactive", asked, err)
		}
	default:
		if asked != 1 {
			t.Fatalf("%s: %d calls", want, asked)
		}
		exp := w.truth[id]
		expired := exp != nil && *exp != 0 && w.now().Unix() >= *exp
		switch {
		case w.failing:
			if !errors.Is(err, errWorld) {
				t.Fatalf("failing: got error %v, want %v", err, errWorld)
			}
		case exp == nil || expired:
			if !errors.Is(err, introspection.ErrInactive) {
				t.Fatalf("inactive: got error %v, want %v", err, introspection.ErrInactive)
			}
			m.learn(id, nil)
		default:
			if err != nil {
				t.Fatalf("active: got error %v, want none", err)
			}
			m.learn(id, exp)
		}
	}
	if w.active.Len() != len(m.active) || w.inactive.Len() != len(m.inactive) {
		t.Fatalf("%d and %d entries, want %d and %d", w.active.Len(), w.inactive.Len(), len(m.active), len(m.inactive))
	}
}

// TestOracle compares the cache with the model over random histories: exp and the
// configured ages, clocks that are set back and forth, failures, revocations,
// authorities that change, purges and a store that is too small.
func TestOracle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 120,000 steps")
	}
	const steps = 5000
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &world{
				random: rand.New(rand.NewPCG(seed, 0)), truth: make(map[string]*int64), lookups: make(map[string]float64),
			}
			m := &model{evictions: make(map[string]float64)}
			pick := func(ages ...time.Duration) time.Duration { return ages[w.random.IntN(len(ages))] }
			w.fixture = newFixture(t, w.introspect, func(c *Config) {
				c.Authority = func() string { return fmt.Sprint("authority ", w.authority) }
				c.MaxEntries = 1 + w.random.IntN(12)
				c.MaxAge = pick(0, 0, 3*time.Second, 20*time.Second)
				c.NoExpAge = pick(0, 10*time.Second, 30*time.Second)
				c.InactiveAge = pick(0, time.Second, 5*time.Second)
				m.config = *c
			})
			m.config.Now, m.config.Elapsed = w.now, w.sinceStart
			for range steps {
				token := fmt.Sprint("token", w.random.IntN(10))
				if w.random.IntN(3) == 0 {
					w.change(t, m, token)
				} else {
					w.check(t, m, token)
				}
			}
			want := map[string]float64{"entries active": float64(len(m.active)), "entries inactive": float64(len(m.inactive))}
			for result, n := range w.lookups {
				want["lookups_total "+result] = n
			}
			for reason, n := range m.evictions {
				want["evictions_total "+reason] = n
			}
			want["hit_age_seconds count"] = w.lookups[Hit]
			want["hit_age_seconds sum"] = w.hitAgeSum(t)
			w.wantMetrics(t, want)
		})
	}
}

// hitAgeSum exempts the sum, which floating point spoils, from the comparison.
func (w *world) hitAgeSum(t *testing.T) float64 {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatalf("registry.Gather: got error %v, want none", err)
	}
	for _, family := range families {
		if family.GetName() == "introspection_sidecar_cache_hit_age_seconds" {
			return family.GetMetric()[0].GetHistogram().GetSampleSum()
		}
	}
	return 0
}
