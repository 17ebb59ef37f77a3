package faults

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

var soakTime = flag.Duration("soak", 2*time.Minute, "how long the soak takes")

const (
	soakRate = 200 // requests a second

	// A cycle of the soak is a fault and the calm after it. What the fault left
	// behind has ended before the last two seconds, in which samples are taken.
	soakFault  = 4 * time.Second
	soakCalm   = 6 * time.Second
	soakSample = 2 * time.Second

	// soakNames is how many other names of tokens there are: more than the cache
	// holds, and no more, so that the fakes can run for days.
	soakNames = 10_000
)

// J15: requests of every kind, and one fault after another, for as long as one
// likes. In the second half of the run goroutines, descriptors and memory are level,
// and in the end they are what they were.
func TestSoak(t *testing.T) {
	as, fhir := newAuthority(t, introspectiontest.Config{Lifetime: 20 * time.Second}), newFHIRServer(t)
	introspection, token, upstream := newWire(t, as.url), newWire(t, as.url), newWire(t, fhir.url)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte(introspectiontest.DefaultClientSecret))
	s := start(t, env{
		"UPSTREAM_URL":            upstream.url() + "/fhir",
		"INTROSPECTION_ENDPOINT":  introspection.url() + introspectiontest.IntrospectionPath,
		"TOKEN_ENDPOINT":          token.url() + introspectiontest.TokenPath,
		"CLIENT_ID":               introspectiontest.DefaultClientID,
		"CLIENT_SECRET_FILE":      secret,
		"UPSTREAM_HEADER_TIMEOUT": headerTimeout.String(),
		// Soon full: what fills up while it is measured would look like a leak.
		"CACHE_MAX_ENTRIES": "500",
	})
	good, other := as.grantAll("good-", 100), as.grantAll("other-", soakNames)
	s.warm(t)
	before := s.usage(t)
	s.know(t, good)
	stop := load{
		address: s.data, workers: 64, rate: soakRate,
		request: func(n int) request { return soakRequest(n, good, other) },
		fault: func(r request, a *answer) string {
			if times := fhir.forget(r.n); times > 1 {
				return fmt.Sprintf("arrived %d times", times)
			}
			return soakFaulty(r, a)
		},
	}.start()

	var samples []sample
	lines := []*wire{introspection, token, upstream}
	faults := append(authorityFaults(), bandwidth(rate), slowClose(1000), latency(100))
	for began := time.Now(); time.Since(began) < *soakTime || len(samples) < 6; {
		line, f := lines[rand.N(len(lines))], faults[rand.N(len(faults))]
		line.begin(t, f)
		time.Sleep(soakFault)
		line.end(t)
		time.Sleep(soakCalm - soakSample)
		samples = append(samples, s.sample(t, began))
	}
	tally := stop()
	tally.none(t, "soak")
	if late := fhir.twice(); len(late) > 0 {
		t.Errorf("arrived twice: %v", late)
	}
	t.Logf("%v, in %d faults", tally, len(samples))
	judge(t, samples)
	s.settles(t, before)
}

// soakRequest mixes known tokens, tokens that need a call, junk and none.
func soakRequest(n int, good, other []string) request {
	switch n % 10 {
	case 0:
		return read(other[n/10%len(other)])
	case 1:
		return read("junk-" + strconv.Itoa(n/10%soakNames))
	case 2:
		return read("")
	case 3, 4, 5:
		return create(n, good[n%len(good)])
	}
	return read(good[n%len(good)])
}

// soakFaulty tells what is wrong with a response, or "". Faults of the FHIR server
// concern everyone, those of the authorization server not the known tokens.
func soakFaulty(r request, a *answer) string {
	kind, _, _ := strings.Cut(r.token, "-")
	switch a.status {
	case http.StatusOK:
		if kind == "good" || kind == "other" {
			return forPatient(r, a)
		}
	case http.StatusUnauthorized:
		if kind == "" || kind == "junk" {
			return isRefusal(a, a.status)
		}
	case http.StatusServiceUnavailable:
		if kind == "other" || kind == "junk" {
			return isRefusal(a, a.status)
		}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		if kind == "good" || kind == "other" {
			return isRefusal(a, a.status)
		}
	}
	return fmt.Sprintf("token %q got %d %.80q", r.token, a.status, a.body)
}

// sample is the least that the process held during some time. A leak raises the
// least, a busy moment doesn't.
type sample struct {
	at                                time.Duration
	goroutines, descriptors, resident float64
}

func (s *sidecar) sample(t *testing.T, began time.Time) sample {
	t.Helper()
	least := sample{time.Since(began), math.Inf(1), math.Inf(1), math.Inf(1)}
	for end := time.Now().Add(soakSample); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		u := s.usage(t)
		least.goroutines = min(least.goroutines, float64(u.goroutines))
		least.descriptors = min(least.descriptors, float64(u.descriptors))
		least.resident = min(least.resident, u.resident)
	}
	return least
}

// judge fails the test when something grows in the second half of the run.
func judge(t *testing.T, samples []sample) {
	t.Helper()
	half := samples[len(samples)/2:]
	for _, row := range []struct {
		name   string
		growth float64
		value  func(sample) float64
	}{
		{"goroutines", 16, func(s sample) float64 { return s.goroutines }},
		{"descriptors", 16, func(s sample) float64 { return s.descriptors }},
		{"MiB of memory", 8, func(s sample) float64 { return s.resident }},
	} {
		var x, y []float64
		for _, s := range half {
			x, y = append(x, s.at.Hours()), append(y, row.value(s))
		}
		slope, deviation := leastSquares(x, y)
		t.Logf("%s: from %.1f to %.1f, %+.1f an hour, standard error %.1f, over %.1f minutes",
			row.name, y[0], y[len(y)-1], slope, deviation, 60*(x[len(x)-1]-x[0]))
		if rises(x, y, row.growth) {
			t.Errorf("%s grow by %.1f an hour", row.name, slope)
		}
	}
}

// rises reports whether the line through the points goes up clearly: by more than
// six standard errors, which noise doesn't, and by more than growth from the first
// to the last. So the longer a run, the smaller a leak it finds.
func rises(x, y []float64, growth float64) bool {
	slope, deviation := leastSquares(x, y)
	return slope > 6*deviation && slope*(x[len(x)-1]-x[0]) > growth
}

// leastSquares returns the slope of the line through the points that fits best, and
// its standard error.
func leastSquares(x, y []float64) (slope, deviation float64) {
	n := float64(len(x))
	var sumX, sumY float64
	for i := range x {
		sumX, sumY = sumX+x[i], sumY+y[i]
	}
	var xx, xy float64
	for i := range x {
		xx += (x[i] - sumX/n) * (x[i] - sumX/n)
		xy += (x[i] - sumX/n) * (y[i] - sumY/n)
	}
	slope = xy / xx
	var residuals float64
	for i := range x {
		r := y[i] - sumY/n - slope*(x[i]-sumX/n)
		residuals += r * r
	}
	return slope, math.Sqrt(residuals / (n - 2) / xx)
}

func TestLeastSquares(t *testing.T) {
	for name, row := range map[string]struct{ x, y, want []float64 }{
		"level":      {[]float64{0, 1, 2}, []float64{5, 5, 5}, []float64{0, 0}},
		"a line":     {[]float64{1, 2, 3, 4}, []float64{3, 5, 7, 9}, []float64{2, 0}},
		"scattered":  {[]float64{0, 1, 2, 3}, []float64{0, 1, 1, 2}, []float64{0.6, math.Sqrt(0.2 / 2 / 5)}},
		"going down": {[]float64{0, 2, 4}, []float64{4, 3, 2}, []float64{-0.5, 0}},
	} {
		slope, deviation := leastSquares(row.x, row.y)
		if math.Abs(slope-row.want[0]) > 1e-9 || math.Abs(deviation-row.want[1]) > 1e-9 {
			t.Errorf("%s: %v ± %v instead of %v", name, slope, deviation, row.want)
		}
	}
}

func TestRises(t *testing.T) {
	x := []float64{0, 1, 2, 3, 4, 5}
	for name, row := range map[string]struct {
		y    []float64
		want bool
	}{
		"level":               {[]float64{90, 90, 90, 90, 90, 90}, false},
		"noise":               {[]float64{88, 129, 91, 90, 110, 129}, false},
		"a busy end":          {[]float64{88, 88, 88, 88, 88, 150}, false},
		"a little":            {[]float64{88, 89, 90, 91, 92, 93}, false},
		"four for each fault": {[]float64{88, 92, 96, 100, 104, 108}, true},
		"about four":          {[]float64{88, 93, 96, 99, 105, 107}, true},
		"down":                {[]float64{108, 104, 100, 96, 92, 88}, false},
	} {
		if got := rises(x, row.y, 16); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
