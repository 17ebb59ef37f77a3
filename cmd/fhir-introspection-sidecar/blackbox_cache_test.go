package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// F01: a verdict lasts until exp, and not a moment longer, whatever the leeway.
func TestBlackboxCacheUntilExp(t *testing.T) {
	t.Parallel()
	w := start(t, env{"CACHE_INACTIVE_AGE": "0", "CLOCK_SKEW": "5m"})
	exp := time.Now().Add(2 * time.Second).Unix()
	w.as.AddToken("short", map[string]any{"exp": exp})
	w.ask(t, "GET /fhir/Patient", bearer("short")).is(t, 200)
	w.as.AddToken("short", map[string]any{"sub": "x"}) // would be active again
	w.as.SetAnswerFor("short", introspectiontest.Respond(200, http.Header{"Content-Type": {"application/json"}}, `{"active":false}`))
	for {
		a := w.ask(t, "GET /fhir/Patient", bearer("short"))
		if over := time.Now().Unix() >= exp; a.status == 401 {
			if !over {
				t.Error("got 401 before exp, want 200")
			}
			break
		} else if a.status != 200 || time.Now().After(time.Unix(exp, 0).Add(time.Second)) {
			t.Fatalf("got status %d after exp, want 401", a.status)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := w.as.IntrospectionsOf("short"); n != 2 {
		t.Errorf("got %d introspections, want 2", n)
	}
	for result, want := range map[string]float64{"miss": 1, "expired": 1} {
		if n := w.metric(t, lookups, `result="`+result+`"`); n != want {
			t.Errorf("got %v lookups with result %s, want %v", n, result, want)
		}
	}
	if w.metric(t, lookups, `result="hit"`) < 1 || w.metric(t, "introspection_sidecar_cache_hit_age_seconds_count") < 1 {
		t.Error("got no hit in the metrics, want one")
	}
}

// F25, F31: inactive is remembered a little, in a store of its own.
func TestBlackboxCacheInactive(t *testing.T) {
	t.Parallel()
	w := start(t, env{"CACHE_INACTIVE_AGE": "1h", "CACHE_MAX_ENTRIES": "1"})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	for range 20 {
		w.ask(t, "GET /fhir/Patient", bearer("junk")).refused(t, 401, "login", "invalid_token")
	}
	if n := w.as.IntrospectionsOf("junk"); n != 1 {
		t.Errorf("got %d introspections of a token just called inactive, want 1", n)
	}
	if n := w.metric(t, lookups, `result="inactive_hit"`); n != 19 {
		t.Errorf("got %v inactive hits, want 19", n)
	}
	if w.metric(t, "introspection_sidecar_cache_entries", `verdict="active"`) != 1 || w.metric(t, "introspection_sidecar_cache_entries", `verdict="inactive"`) != 1 {
		t.Error("got other entries in the metrics, want one active and one inactive")
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if n := w.as.IntrospectionsOf("good"); n != 1 {
		t.Errorf("got %d introspections of the good token, want 1 despite the junk", n)
	}
	short := start(t, env{"CACHE_INACTIVE_AGE": "50ms"})
	short.ask(t, "GET /fhir/Patient", bearer("junk")).refused(t, 401, "login", "invalid_token")
	short.as.AddToken("junk", nil)
	eventually(t, "the token becomes active", func() bool { return short.ask(t, "GET /fhir/Patient", bearer("junk")).status == 200 })
	off := start(t, env{"CACHE_INACTIVE_AGE": "0"})
	for range 3 {
		off.ask(t, "GET /fhir/Patient", bearer("junk")).refused(t, 401, "login", "invalid_token")
	}
	if n := off.as.IntrospectionsOf("junk"); n != 3 {
		t.Errorf("got %d introspections without an inactive store, want 3", n)
	}
}

// F14: tokens that look alike are not alike.
func TestBlackboxCacheKeys(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	prefix := strings.Repeat("p", 1000)
	w.as.AddToken(prefix+"a", map[string]any{"sub": "a"})
	w.as.AddToken(prefix+"b", map[string]any{"sub": "b"})
	w.as.AddToken("Case", map[string]any{"sub": "upper"})
	for range 2 {
		for token, subject := range map[string]string{prefix + "a": "a", prefix + "b": "b", "Case": "upper"} {
			w.ask(t, "GET /fhir/Patient", bearer(token)).is(t, 200)
			w.up.last(t).has(t, "X-Launch-Subject", subject)
		}
		for _, token := range []string{prefix, prefix + "c", prefix + "A", "case", "good=", "goo", "good."} {
			w.ask(t, "GET /fhir/Patient", bearer(token)).refused(t, 401, "login", "invalid_token")
		}
	}
}

// F21: the call outlives the client that started it. Koppeltaal's server
// answers about a token once.
func TestBlackboxCacheLeaderLeaves(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a client to be missed")
	}
	t.Parallel()
	w := startWith(t, introspectiontest.NewServerWith(t, introspectiontest.Config{OneShot: true}), env{"INTROSPECTION_TIMEOUT": "10s"})
	release := make(chan struct{})
	w.as.SetAnswer(introspectiontest.Hold(release, nil))
	leader := dial(t, w.data)
	_, _ = leader.Write([]byte(request("GET /fhir/leader", good)))
	eventually(t, "the call", func() bool { return w.as.Introspections() == 1 })
	follower := dial(t, w.data)
	_, _ = follower.Write([]byte(request("GET /fhir/follower", good)))
	eventually(t, "the follower waits", func() bool { return w.metric(t, lookups, `result="coalesced"`) == 1 })
	_ = leader.Close()
	eventually(t, "the leader's end is counted", func() bool {
		return w.metric(t, "introspection_sidecar_request_duration_seconds_count") == 1
	})
	close(release)
	if a, err := follower.answer("GET"); err != nil || a.status != 200 {
		t.Fatalf("got %v (%v), want 200", a, err)
	}
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	if w.up.count() != 2 || w.as.Introspections() != 1 {
		t.Errorf("got %d requests to the FHIR server and %d introspections, want 2 and 1", w.up.count(), w.as.Introspections())
	}
	// G34: a call whose every client left still counts.
	release = make(chan struct{})
	w.as.SetAnswer(introspectiontest.Hold(release, nil))
	w.as.AddToken("lonely", nil)
	alone := dial(t, w.data)
	_, _ = alone.Write([]byte(request("GET /fhir/alone", bearer("lonely"))))
	eventually(t, "the call", func() bool { return w.as.Introspections() == 2 })
	_ = alone.Close()
	close(release)
	eventually(t, "the verdict is stored", func() bool {
		return w.metric(t, "introspection_sidecar_cache_entries", `verdict="active"`) == 2
	})
	w.ask(t, "GET /fhir/Patient", bearer("lonely")).is(t, 200)
	if n := w.as.IntrospectionsOf("lonely"); n != 1 {
		t.Errorf("got %d introspections, want 1", n)
	}
}

// F24: a failure is kept for nobody, and takes no verdict away. TestBlackboxOneCallShared
// has all failures.
func TestBlackboxCacheFailures(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	// A token whose verdict is known survives an outage until its time.
	w.as.Close()
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.ask(t, "GET /fhir/Patient", bearer("other")).refused(t, 503, "transient", "")
	if err := w.as.Restart(); err != nil {
		t.Fatalf("as.Restart: got error %v, want none", err)
	}
	w.ask(t, "GET /fhir/Patient", bearer("other")).refused(t, 401, "login", "invalid_token")
}
