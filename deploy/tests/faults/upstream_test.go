package faults

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

const (
	// headerTimeout is SIDECAR_UPSTREAM_HEADER_TIMEOUT.
	headerTimeout = 2 * time.Second
	// closeDelay is how late a connection of the FHIR server closes.
	closeDelay = 1500 * time.Millisecond
	// rate is that of a narrow line, in KB/s, and streamSize takes it two seconds.
	rate       = 64
	streamSize = 2 * rate << 10
)

// Whatever breaks between sidecar and FHIR server, the response is the right one of
// 502 and 504, or whole; nothing that changes anything is sent twice; and after the
// fault's end all is well at once.
func TestFHIRServerFaults(t *testing.T) {
	for _, row := range []struct {
		fault
		status int
		least  time.Duration // below it, there was no fault
	}{
		{latency(10_000), http.StatusGatewayTimeout, headerTimeout},
		{reset(), http.StatusBadGateway, 0},
		{halfOpen(), http.StatusGatewayTimeout, headerTimeout},
		{slowClose(int(closeDelay.Milliseconds())), http.StatusOK, closeDelay},
		{bandwidth(rate), http.StatusOK, 0},
		{down(), http.StatusBadGateway, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			as, fhir := newAuthority(t, introspectiontest.Config{}), newFHIRServer(t)
			fhir.closes = row.name == "slow close"
			line := newWire(t, fhir.url)
			bearer := filepath.Join(t.TempDir(), "bearer")
			write(t, bearer, []byte(introspectiontest.DefaultBearer))
			s := start(t, env{
				"UPSTREAM_URL":            line.url() + "/fhir",
				"INTROSPECTION_ENDPOINT":  as.url + introspectiontest.IntrospectionPath,
				"BEARER_TOKEN_FILE":       bearer,
				"UPSTREAM_HEADER_TIMEOUT": headerTimeout.String(),
			})
			s.warm(t)
			token := as.grant("good")
			before := s.usage(t)
			stop := mixed(s.data, token).start()
			eventually(t, patience, "load", func() bool { return fhir.arrived(21) > 0 })

			line.begin(t, row.fault)
			began := time.Now()
			const first = 1_000_000 // above the numbers of the load
			requests := []request{}
			for n := first; n < first+8; n++ {
				requests = append(requests, read(token), create(n, token))
			}
			for i, a := range atOnce(t, s.data, requests) {
				wrong := isRefusal(a, row.status)
				if row.status == http.StatusOK {
					wrong = forPatient(requests[i], a)
				}
				if wrong != "" || a.took < row.least {
					t.Errorf("%s after %v: %s", requests[i].method, a.took, wrong)
				}
			}
			if row.name == "bandwidth" {
				streams(t, s.data, token)
			}
			time.Sleep(time.Until(began.Add(faultTime)))
			line.end(t)
			took := upstreamRecovered(t, s.data, token)

			tally := stop()
			tally.none(t, "requests during the fault")
			if twice := fhir.twice(); len(twice) > 0 {
				t.Errorf("sent twice: %v", twice)
			}
			t.Logf("%s: %v, recovered after %v", t.Name(), tally, took.Round(time.Millisecond))
			s.settles(t, before)
		})
	}
}

// mixed is a load that reads and creates during a fault.
func mixed(address, token string) load {
	return load{
		address: address, workers: 8, rate: 80,
		request: func(n int) request {
			if n%2 == 0 {
				return read(token)
			}
			return create(n, token)
		},
		fault: func(r request, a *answer) string {
			switch a.status {
			case http.StatusBadGateway, http.StatusGatewayTimeout:
				return isRefusal(a, a.status)
			}
			return forPatient(r, a)
		},
	}
}

// streams reads answers that are longer than anything that buffers holds, over a
// narrow line: they must be whole, and must have begun long before their end.
func streams(t *testing.T, address, token string) {
	t.Helper()
	whole := httptest.NewRecorder()
	stream(whole, streamSize)
	requests := make([]request, 4)
	for i := range requests {
		requests[i] = request{method: "GET", target: fmt.Sprintf("/fhir/Binary/1?size=%d", streamSize), token: token}
	}
	for _, a := range atOnce(t, address, requests) {
		if string(a.body) != whole.Body.String() {
			t.Errorf("status %d and %d bytes of %d, or others", a.status, len(a.body), streamSize)
		}
		if a.took < time.Second {
			t.Errorf("%v: the line isn't narrow", a.took)
		}
	}
}

// upstreamRecovered returns how long it takes until reading and creating succeed.
func upstreamRecovered(t *testing.T, address, token string) time.Duration {
	t.Helper()
	began := time.Now()
	var failures []string
	eventually(t, recovery+slack, "recovery", func() bool {
		requests := []request{read(token), {method: "POST", target: "/fhir/Task", token: token, body: "{}"}}
		for i, a := range atOnce(t, address, requests) {
			if wrong := forPatient(requests[i], a); wrong != "" {
				failures = append(failures, wrong)
				return false
			}
		}
		return true
	})
	if len(failures) > 0 {
		t.Logf("%s: while recovering: %s", t.Name(), strings.Join(failures, "; "))
	}
	return time.Since(began)
}
