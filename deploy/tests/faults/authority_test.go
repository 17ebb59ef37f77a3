package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	// places is SIDECAR_MAX_INTROSPECTIONS, few enough to run out of.
	places = 8
	// deadline is SIDECAR_INTROSPECTION_TIMEOUT. Who waits for a place may wait as
	// long once more.
	deadline = 2 * time.Second
	// slack is for a machine that others use too.
	slack = 5 * time.Second
	// recovery is promised within five seconds.
	recovery = 5 * time.Second
	// faultTime is how long a fault lasts at least, so that every load meets it.
	faultTime = 3 * time.Second
)

// scene is a sidecar that gets its own token by the client credentials grant, and
// whose lines to either endpoint can break.
type scene struct {
	*sidecar
	as            *authority
	introspection *wire
	token         *wire
	asked         map[string]int // how often the test asked with a token
	fresh         int
}

func newScene(t *testing.T, lifetime time.Duration) *scene {
	t.Helper()
	as := newAuthority(t, introspectiontest.Config{Lifetime: lifetime})
	sc := &scene{as: as, introspection: newWire(t, as.url), token: newWire(t, as.url), asked: map[string]int{}}
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte(introspectiontest.DefaultClientSecret))
	sc.sidecar = start(t, env{
		"UPSTREAM_URL":           newFHIRServer(t).url + "/fhir",
		"INTROSPECTION_ENDPOINT": sc.introspection.url() + introspectiontest.IntrospectionPath,
		"TOKEN_ENDPOINT":         sc.token.url() + introspectiontest.TokenPath,
		"CLIENT_ID":              introspectiontest.DefaultClientID,
		"CLIENT_SECRET_FILE":     secret,
		"INTROSPECTION_TIMEOUT":  deadline.String(),
		"MAX_INTROSPECTIONS":     strconv.Itoa(places),
	})
	return sc
}

// unseen makes requests with n tokens that no one has asked about yet.
func (sc *scene) unseen(n int) []request {
	requests := make([]request, n)
	for i := range requests {
		requests[i] = read(sc.as.grant("unseen-" + strconv.Itoa(sc.fresh)))
		sc.fresh++
	}
	return requests
}

// send sends requests at once, and counts what each token may cost.
func (sc *scene) send(t *testing.T, requests []request) []*answer {
	t.Helper()
	for _, r := range requests {
		sc.asked[r.token]++
	}
	return atOnce(t, sc.data, requests)
}

// refused sends tokens that nobody knows the verdict of, some of them twice and
// some of them junk. None may pass. It returns the slowest answer.
func (sc *scene) refused(t *testing.T) (requests []request, slowest time.Duration) {
	t.Helper()
	requests = sc.unseen(3 * places)
	burst := append(requests, requests[:4]...)
	for i := range 4 {
		burst = append(burst, read(fmt.Sprintf("junk-%d-%d", sc.fresh, i)))
	}
	for i, a := range sc.send(t, burst) {
		if wrong := isRefusal(a, http.StatusServiceUnavailable); wrong != "" {
			t.Errorf("%s: %s", burst[i].token, wrong)
		}
		slowest = max(slowest, a.took)
	}
	if slowest > 2*deadline+slack {
		t.Errorf("refused after %v", slowest)
	}
	return requests, slowest
}

// recovered sends unseen tokens, more at a time than there are places, until all of
// them pass, and returns how long that took.
func (sc *scene) recovered(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		requests, passed := sc.unseen(2*places), 0
		for i, a := range sc.send(t, requests) {
			switch {
			case forPatient(requests[i], a) == "":
				passed++
			case isRefusal(a, http.StatusServiceUnavailable) != "":
				t.Errorf("while recovering: %s", forPatient(requests[i], a))
			}
		}
		took := time.Since(began)
		if passed == len(requests) {
			return took
		}
		if took > recovery+slack {
			t.Fatalf("%v after the end of the fault %d of %d requests pass", took, passed, len(requests))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// served sends requests with known tokens until the function that it returns is
// called. All of them must pass.
func (sc *scene) served(t *testing.T) (stop func()) {
	t.Helper()
	cached := sc.as.grantAll("cached-", 20)
	sc.know(t, cached)
	end := load{
		address: sc.data, workers: 4, rate: 50, fault: forPatient,
		request: func(n int) request { return read(cached[n%len(cached)]) },
	}.start()
	return func() {
		t.Helper()
		tally := end()
		tally.none(t, "cached tokens")
		t.Logf("%s: cached tokens: %v", t.Name(), tally)
		for _, token := range cached {
			if calls := sc.as.IntrospectionsOf(token); calls != 1 {
				t.Errorf("%s: %d calls", token, calls)
			}
		}
	}
}

// frugal checks what the authorization server saw.
func (sc *scene) frugal(t *testing.T) {
	t.Helper()
	if peak := sc.as.peakOf(introspectiontest.IntrospectionPath); peak > places {
		t.Errorf("%d introspections at the same time, the limit is %d", peak, places)
	}
	if peak := sc.as.peakOf(introspectiontest.TokenPath); peak > 1 {
		t.Errorf("%d token requests at the same time", peak)
	}
	// A failure is kept for nobody, so that each request may cost a call; a
	// verdict ends that.
	for token, requests := range sc.asked {
		if calls := sc.as.IntrospectionsOf(token); calls > requests {
			t.Errorf("%s: %d calls for %d requests", token, calls, requests)
		}
	}
}

// passed sends the requests that were refused once more, and twice: the second
// time nobody is asked.
func (sc *scene) passed(t *testing.T, requests []request) {
	t.Helper()
	for range 2 {
		for i, a := range sc.send(t, requests) {
			if wrong := forPatient(requests[i], a); wrong != "" {
				t.Errorf("%s: %s", requests[i].token, wrong)
			}
		}
	}
	for _, r := range requests {
		sc.asked[r.token]-- // the second time
	}
}

func authorityFaults() []fault {
	return []fault{latency(10_000), reset(), halfOpen(), slowClose(10_000), bandwidth(1), down()}
}

// G01, G02, F32: whatever breaks between sidecar and introspection endpoint, known
// tokens pass, others get a 503 in time, and a moment after its end all is well.
func TestIntrospectionEndpointFaults(t *testing.T) {
	for _, f := range authorityFaults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t, time.Hour)
			if f.name == "slow close" {
				sc.as.closes = introspectiontest.IntrospectionPath
			}
			sc.warm(t)
			before := sc.usage(t)
			stop := sc.served(t)
			sc.introspection.begin(t, f)
			began := time.Now()
			requests, slowest := sc.refused(t)
			more, again := sc.refused(t)
			time.Sleep(time.Until(began.Add(faultTime)))
			sc.introspection.end(t)
			took := sc.recovered(t)
			sc.passed(t, append(requests, more...))
			stop()
			sc.frugal(t)
			t.Logf("%s: refused within %v, recovered after %v", t.Name(), max(slowest, again).Round(time.Millisecond), took.Round(time.Millisecond))
			sc.settles(t, before)
		})
	}
}

// H07, and what comes after: while the token endpoint is broken the sidecar's own
// token serves to its end, then unknown tokens get a 503, and a moment after the
// fault's end all is well.
func TestTokenEndpointFaults(t *testing.T) {
	const lifetime = 5 * time.Second
	for _, f := range authorityFaults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t, lifetime)
			if f.name == "slow close" {
				sc.as.closes = introspectiontest.TokenPath
			}
			sc.warm(t)
			before := sc.usage(t)
			stop := sc.served(t)
			renewals := func() float64 {
				return sc.metric(t, "introspection_sidecar_credential_renewals_total", `result="ok"`)
			}
			had := renewals()
			eventually(t, patience, "a renewal", func() bool { return renewals() > had })
			expiry := time.Unix(int64(sc.metric(t, "introspection_sidecar_credential_expiry_timestamp_seconds")), 0)
			sc.token.begin(t, f)
			inTime := 0
			for ended := false; !ended; time.Sleep(50 * time.Millisecond) {
				r := sc.unseen(1)
				a := sc.send(t, r)[0]
				switch now := time.Now(); {
				case forPatient(r[0], a) == "":
					inTime++
				case isRefusal(a, http.StatusServiceUnavailable) != "" || now.Before(expiry.Add(-time.Second)):
					t.Fatalf("%v before the own token's end: %s", expiry.Sub(now), forPatient(r[0], a))
				default:
					ended = true
				}
				if time.Now().After(expiry.Add(lifetime + slack)) {
					t.Fatal("the own token doesn't end")
				}
			}
			if inTime == 0 {
				t.Error("nothing passed on the own token")
			}
			requests, slowest := sc.refused(t)
			sc.token.end(t)
			took := sc.recovered(t)
			sc.passed(t, requests)
			stop()
			sc.frugal(t)
			t.Logf("%s: %d passed on the own token, refused within %v, recovered after %v", t.Name(),
				inTime, slowest.Round(time.Millisecond), took.Round(time.Millisecond))
			sc.settles(t, before)
		})
	}
}

// G31: every second call fails. Known tokens pass, others do every second time, and
// nothing is left behind.
func TestHalfOfAllCallsFail(t *testing.T) {
	t.Parallel()
	sc := newScene(t, time.Hour)
	sc.warm(t)
	before := sc.usage(t)
	stop := sc.served(t)
	var calls atomic.Int64
	sc.as.SetAnswer(func(w http.ResponseWriter, r *http.Request, correct map[string]any) {
		if calls.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		introspectiontest.WriteJSON(w, http.StatusOK, correct)
	})
	passed, sent := 0, 0
	for range 50 {
		requests := sc.unseen(places)
		for i, a := range sc.send(t, requests) {
			sent++
			if forPatient(requests[i], a) == "" {
				passed++
			} else if wrong := isRefusal(a, http.StatusServiceUnavailable); wrong != "" {
				t.Errorf("%s: %s", requests[i].token, wrong)
			}
		}
	}
	// A call that takes too long on a busy machine fails, too.
	if passed > sent/2 || passed < sent*2/5 {
		t.Errorf("%d of %d passed", passed, sent)
	}
	sc.as.SetAnswer(nil)
	sc.recovered(t)
	stop()
	sc.frugal(t)
	t.Logf("%d of %d unknown tokens passed", passed, sent)
	sc.settles(t, before)
}
