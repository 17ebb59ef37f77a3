package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// obtained is an active response that the authorization server gave at a time,
// with an hour to live after noon unless it tells none.
func obtained(t *testing.T, at time.Time, withExp bool) *introspection.Response {
	t.Helper()
	body := `{"active":true}`
	if withExp {
		body = fmt.Sprintf(`{"active":true,"exp":%d}`, noon.Add(time.Hour).Unix())
	}
	r, err := introspection.Decoder{}.Decode(introspection.Answer{Body: []byte(body), ObtainedAt: at}, at)
	if err != nil {
		t.Fatalf("got error %v, want none", err)
	}
	return r
}

// TestAgeCountsFromTheAnswer: a verdict that another replica got is as old as it
// is, so that no bound on its age begins anew here.
func TestAgeCountsFromTheAnswer(t *testing.T) {
	const old = 20 * time.Second
	for _, tt := range []struct {
		name             string
		at               time.Duration // before noon
		exp              bool
		maxAge, noExpAge time.Duration
		believed         time.Duration // from noon on; 0: not at all
		age              time.Duration // right after noon
	}{
		{"without exp", old, false, 0, 30 * time.Second, 10 * time.Second, old},
		{"without exp, too old", old, false, 0, old, 0, 0},
		{"maximum age", old, true, 30 * time.Second, 0, 10 * time.Second, old},
		{"maximum age reached", old, true, old, 0, 0, 0},
		{"until exp", old, true, 0, 0, time.Hour, old},
		{"fresh", 0, false, 0, 30 * time.Second, 30 * time.Second, 0},
		{"from a clock that is ahead", -time.Minute, false, 0, 30 * time.Second, 30 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, func(context.Context, string) (*introspection.Response, error) {
				return obtained(t, noon.Add(-tt.at), tt.exp), nil
			}, func(c *Config) { c.MaxAge, c.NoExpAge = tt.maxAge, tt.noExpAge })
			f.wantLookup(t, "token", Miss)
			if tt.believed == 0 {
				f.wantLookup(t, "token", Miss)
				return
			}
			v, err := f.Introspect(t.Context(), introspection.Request{Token: "token"})
			if err != nil || v.Lookup != Hit || v.Age != tt.age {
				t.Fatalf("got %s, %v old, %v, want a hit that is %v old", v.Lookup, v.Age, err, tt.age)
			}
			f.pass(tt.believed - time.Nanosecond)
			f.wantLookup(t, "token", Hit)
			f.pass(time.Nanosecond)
			f.wantLookup(t, "token", Expired)
		})
	}
}

// aged is a source whose verdicts have an age: another cache.
type aged struct {
	response *introspection.Response
	age      time.Duration
}

func (a aged) Introspect(context.Context, introspection.Request) (introspection.Verdict, error) {
	return introspection.Verdict{Response: a.response, Lookup: "elsewhere", Age: a.age}, nil
}

// TestAgeOfTheSource: a miss here that another cache knew is as old as that says,
// and was found there.
func TestAgeOfTheSource(t *testing.T) {
	f := newFixture(t, nil, func(c *Config) {
		c.Source = aged{obtained(t, noon.Add(-time.Minute), true), time.Minute}
	})
	for _, lookup := range []string{"elsewhere", Hit} {
		v, err := f.Introspect(t.Context(), introspection.Request{Token: "token"})
		if err != nil || v.Lookup != lookup || v.Age != time.Minute {
			t.Errorf("got %s, %v old, %v, want %s, a minute old", v.Lookup, v.Age, err, lookup)
		}
	}
}
