package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

var (
	rollingTime = flag.Duration("rolling", 4*time.Minute, "how long two sidecars are restarted in turn")
	rollingRate = flag.Int("rolling-rate", 500, "requests a second meanwhile")
)

// drainTime is how long a sidecar serves on after its readiness turned red. It is
// far above the time in which each client uses its connection, and learns that it
// should leave.
const drainTime = 3 * time.Second

// J03: two sidecars are restarted in turn, over and over, by SIGTERM and by the
// drain command followed by SIGTERM. No request fails, and none that changes
// something arrives twice or never.
func TestRollingRestart(t *testing.T) {
	as, fhir, front := newAuthority(t, introspectiontest.Config{}), newFHIRServer(t), newBalancer(t)
	as.SetAnswer(nil)
	dir := t.TempDir()
	bearer := filepath.Join(dir, "bearer")
	write(t, bearer, []byte(introspectiontest.DefaultBearer))
	launch := func(i int) *sidecar {
		s := startFrom(t, filepath.Join(dir, strconv.Itoa(i)), env{
			"UPSTREAM_URL":           fhir.url + "/fhir",
			"INTROSPECTION_ENDPOINT": as.url + introspectiontest.IntrospectionPath,
			"BEARER_TOKEN_FILE":      bearer,
			"SHUTDOWN_DELAY":         drainTime.String(),
		})
		front.add(s)
		return s
	}
	sidecars := make([]*sidecar, 2)
	for i := range sidecars {
		// drain asks every process that runs from the same file: in a pod there is
		// one. Go can't write a file and run it while it starts other processes.
		if output, err := exec.Command("cp", os.Getenv("SIDECAR_BINARY"), filepath.Join(dir, strconv.Itoa(i))).CombinedOutput(); err != nil {
			t.Fatalf("copying SIDECAR_BINARY: %v %s", err, output)
		}
		sidecars[i] = launch(i)
	}
	tokens := as.grantAll("good-", 100)
	stop := load{
		address: front.address(), workers: 16, rate: *rollingRate,
		request: func(n int) request {
			if n%2 == 0 {
				return read(tokens[n%len(tokens)])
			}
			return create(n, tokens[n%len(tokens)])
		},
		fault: func(r request, a *answer) string {
			if times := fhir.arrived(r.n); r.method == "POST" && times != 1 {
				return fmt.Sprintf("arrived %d times", times)
			}
			return forPatient(r, a)
		},
	}.start()

	restarts, began := 0, time.Now()
	for ; time.Since(began) < *rollingTime || restarts < 4; restarts++ {
		i := restarts % 2
		if restarts%4 < 2 {
			sidecars[i].drain(t)
			time.Sleep(drainTime)
		}
		sidecars[i].end(t)
		front.remove(sidecars[i])
		sidecars[i] = launch(i)
	}
	tally := stop()

	tally.none(t, "rolling restart")
	if twice := fhir.twice(); len(twice) > 0 {
		t.Errorf("arrived twice: %v", twice)
	}
	t.Logf("%d restarts: %v, %.0f a second", restarts, tally, float64(tally.requests)/time.Since(began).Seconds())
}
