package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// J01: SIGTERM lets the requests in flight end, and ends with 0.
func TestBlackboxDrain(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := start(t, env{"SHUTDOWN_TIMEOUT": "20s"})
		release := make(chan struct{})
		w.up.on("/fhir/slow", func(c *upstreamConn, r *arrival) bool {
			c.readBody(r)
			_, _ = io.WriteString(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
			<-release
			_, _ = io.WriteString(c.Conn, "-last")
			return true
		})
		c := dial(t, w.data)
		_, _ = io.WriteString(c, request("GET /fhir/slow", good))
		if _, err := c.ReadString('\n'); err != nil {
			t.Fatalf("c.ReadString: got error %v, want none", err)
		}
		w.signal(signal)
		eventually(t, "the listener closes", func() bool {
			n, err := net.Dial("tcp", w.data)
			if err == nil {
				_ = n.Close()
			}
			return err != nil
		})
		close(release)
		rest, _ := io.ReadAll(c)
		if !strings.HasSuffix(string(rest), "first-last") {
			t.Errorf("the request in flight got %q, want all of its response", rest)
		}
		if code := w.wait(t); code != 0 {
			t.Errorf("got exit code %d, want 0", code)
		}
	}
}

// An introspection in flight at SIGTERM is finished too.
func TestBlackboxDrainIntrospection(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SHUTDOWN_TIMEOUT": "20s", "INTROSPECTION_TIMEOUT": "10s"})
	release := make(chan struct{})
	w.as.SetAnswer(introspectiontest.Hold(release, nil))
	c := dial(t, w.data)
	_, _ = io.WriteString(c, request("GET /fhir/Patient", good))
	eventually(t, "the call", func() bool { return w.as.Introspections() == 1 })
	w.signal(syscall.SIGTERM)
	eventually(t, "draining", func() bool { return len(w.logs("draining")) > 0 })
	close(release)
	if a, err := c.answer("GET"); err != nil || a.status != 200 {
		t.Fatalf("got %v (%v), want 200", a, err)
	}
	if code := w.wait(t); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
}

// A request that doesn't end is cut off after the timeout, and the exit code says so.
func TestBlackboxDrainTimeout(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SHUTDOWN_TIMEOUT": "300ms"})
	w.up.on("/fhir/hang", func(c *upstreamConn, r *arrival) bool { c.readBody(r); _, _ = c.ReadByte(); return false })
	c := dial(t, w.data)
	_, _ = io.WriteString(c, request("GET /fhir/hang", good))
	eventually(t, "the request arrives", func() bool { return w.up.count() == 1 })
	began := time.Now()
	w.anyExit = true
	if code := w.terminate(t); code != 1 || time.Since(began) > 8*time.Second {
		t.Errorf("got exit code %d after %v, want 1 within 8s", code, time.Since(began))
	}
}

// During the delay readiness is red and everything is served.
func TestBlackboxShutdownDelay(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SHUTDOWN_DELAY": "1500ms"})
	began := time.Now()
	w.signal(syscall.SIGTERM)
	eventually(t, "readiness turns red", func() bool { return w.get(t, "/readyz").status == 503 })
	if a := w.ask(t, "GET /fhir/Patient", good); a.status != 200 || !a.closed {
		t.Errorf("got status %d, connection closed %t, want 200 and true", a.status, a.closed)
	}
	if w.get(t, "/livez").status != 200 {
		t.Error("got a red liveness, want 200")
	}
	if code := w.wait(t); code != 0 || time.Since(began) < 1500*time.Millisecond {
		t.Errorf("got exit code %d after %v, want 0 after at least 1.5s", code, time.Since(began))
	}
}

// J03: SIGTERM under load loses no request that was accepted during the delay.
func TestBlackboxTermUnderLoad(t *testing.T) {
	t.Parallel()
	w := start(t, env{"SHUTDOWN_DELAY": "700ms", "SHUTDOWN_TIMEOUT": "20s"})
	var answered, lost atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !stop.Load() {
				c, err := dialPlain(w.data)
				if err != nil {
					return // the listener is closed
				}
				for {
					a, err := c.do(request("POST /fhir/Patient", good, "Content-Length: 3") + "abc")
					if err != nil || a.status != 200 {
						lost.Add(1)
						t.Errorf("lost: got %v (%v), want 200", a, err)
						stop.Store(true)
						break
					}
					answered.Add(1)
					if a.closed {
						break
					}
				}
				_ = c.Close()
				// Clients leave when readiness is red, as a load balancer makes them.
				if len(w.logs("draining")) > 0 {
					return
				}
			}
		}()
	}
	eventually(t, "load", func() bool { return answered.Load() > 100 })
	w.signal(syscall.SIGTERM)
	wg.Wait()
	if code := w.wait(t); code != 0 {
		t.Errorf("got exit code %d, want 0", code)
	}
	t.Logf("%d answered, %d lost", answered.Load(), lost.Load())
}

// A FHIR server that is away, or an authorization server, keeps nothing from starting.
func TestBlackboxStartsAlone(t *testing.T) {
	t.Parallel()
	c := spawn(t, leastEnv(t), nil)
	c.awaitServing(t)
	if a := c.get(t, "/livez"); a.status != 200 {
		t.Errorf("got liveness %d, want 200", a.status)
	}
	c.ask(t, "GET /fhir/Patient", good).refused(t, 503, "transient", "")
	c.ask(t, "GET /fhir/metadata").refused(t, 502, "transient", "")
}

// J07: large heads cost little.
func TestBlackboxHeaderLimits(t *testing.T) {
	t.Parallel()
	w := start(t, env{"MAX_TOKEN_BYTES": "100"})
	w.as.AddToken(strings.Repeat("t", 100), nil)
	w.ask(t, "GET /fhir/Patient", bearer(strings.Repeat("t", 100))).is(t, 200)
	asked := w.as.Introspections()
	w.ask(t, "GET /fhir/Patient", bearer(strings.Repeat("t", 101))).refused(t, 401, "login", "invalid_token")
	before := w.residentKiB(t, "VmRSS")
	wait := w.crowd(t, 50, func(_ int, c *conn) {
		if a, err := c.do(request("GET /fhir/Patient", bearer(strings.Repeat("t", 64<<10)))); err == nil && a.status != 431 && a.status != 401 {
			t.Errorf("got status %d, want 431 or 401", a.status)
		}
	})
	wait()
	if w.as.Introspections() != asked || w.up.count() != 1 {
		t.Error("got a long token asked about or forwarded, want neither")
	}
	if grown := w.residentKiB(t, "VmHWM") - before; grown > 64<<10 {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 64<<10)
	}
	if a := w.ask(t, "GET /fhir/Patient", good, "X-Big: "+strings.Repeat("x", 2<<20)); a.status != 431 {
		t.Errorf("got status %d, want 431", a.status)
	}
}

// L01: no secret, token or patient data comes out anywhere, in whatever coding, and
// errors of libraries (L03) are told in words of ours.
func TestBlackboxLeak(t *testing.T) {
	t.Parallel()
	as := introspectiontest.NewServerWith(t, introspectiontest.Config{Bearer: "CANARYownbearer"})
	w := startWith(t, as, env{"LOG_LEVEL": "debug", "BEARER_TOKEN_FILE": writeFile(t, "b", "CANARYownbearer"), "UPSTREAM_HEADER_TIMEOUT": "200ms", "REQUIRED_ISSUERS": ""})
	canaries := []string{
		"CANARYownbearer", "CANARYtoken", "CANARYinactive", "CANARYbad", "CANARYpatient", "CANARYsub", "CANARYuser", "CANARYscope", "CANARYquery",
		"CANARYpath", "CANARYbody", "CANARYagent", "CANARYanswer", "CANARYclient", "CANARYheader", "CANARYmethod",
	}
	as.AddToken("CANARYtoken", map[string]any{"patient": "CANARYpatient", "sub": "CANARYsub", "user": "CANARYuser", "scope": "CANARYscope", "client_id": "CANARYclient"})
	as.AddToken("CANARYbad", map[string]any{"sub": "CANARYsub\n", "exp": "CANARYanswer"})
	answers := []*answer{}
	collect := func(a *answer) { answers = append(answers, a) }
	query := "?name=CANARYquery"
	for _, token := range []string{"CANARYtoken", "CANARYtoken", "CANARYinactive", "CANARYbad", "CANARYinactive;bad", "CANARYinactive CANARYtoken"} {
		collect(w.ask(t, "GET /fhir/CANARYpath"+query, bearer(token), "User-Agent: CANARYagent", "X-Launch-Patient: CANARYheader"))
	}
	for _, fault := range []introspectiontest.Answer{
		introspectiontest.Respond(500, nil, "CANARYanswer"), introspectiontest.Respond(401, nil, "CANARYanswer"), introspectiontest.Respond(302, map[string][]string{"Location": {"http://CANARYanswer/"}}, ""),
		introspectiontest.Respond(200, nil, "CANARYanswer"), introspectiontest.Respond(200, map[string][]string{"Content-Type": {"CANARYanswer;;;"}}, "{}"), introspectiontest.Reset(), introspectiontest.ResetMidBody(),
		introspectiontest.Respond(200, map[string][]string{"Content-Type": {"application/json"}}, `{"active":true,"CANARYanswer":1,"iss":{"CANARYanswer":1}}`),
	} {
		as.SetAnswerFor("CANARYfault", fault)
		collect(w.ask(t, "GET /fhir/CANARYpath"+query, bearer("CANARYfault")))
	}
	for path, response := range map[string]string{
		"1": "CANARYanswer", "2": "HTTP/1.1 200 CANARYanswer\r\nCANARYanswer\r\n\r\n", "3": "HTTP/1.1 CANARYanswer\r\n\r\n", "4": "HTTP/1.1 101 CANARYanswer\r\nUpgrade: CANARYanswer\r\n\r\n",
		"5": "HTTP/1.1 200 OK\r\nContent-Length: CANARYanswer\r\n\r\n", "6": "HTTP/1.1 200 OK\r\nTransfer-Encoding: CANARYanswer\r\n\r\n",
	} {
		w.up.bytesOn("/fhir/CANARYpath"+path, response, false)
		collect(w.ask(t, "GET /fhir/CANARYpath"+path+query, bearer("CANARYtoken")))
	}
	for _, raw := range []string{
		request("CANARYmethod /fhir/CANARYpath"), request("GET /CANARYpath"), request("GET /fhir/../CANARYpath"), request("GET /fhir/CANARYpath%zz"), "CANARYheader\r\n\r\n",
		request("GET /fhir/Patient", "Authorization: CANARYheader"), request("GET /fhir/Patient", "Authorization: Basic CANARYheader"), request("GET /fhir/Patient", "CANARYheader"),
		request("POST /fhir/Patient", bearer("CANARYtoken"), "Transfer-Encoding: chunked") + "CANARYbody\r\n", request("GET /fhir/Patient?access_token=CANARYquery"),
		request("GET /fhir/Patient", "X-Request-Id: CANARYheader<", "X-Trace-Id: CANARYheader\""), "GET /fhir/Patient HTTP/1.1\r\nHost: CANARYheader/\r\n\r\n",
	} {
		collect(w.send(t, raw))
	}
	w.terminate(t)
	if len(w.logs("request")) < 20 {
		t.Errorf("got %d log lines, want at least 20, or this proves nothing", len(w.logs("request")))
	}
	w.watch.keep(append(canaries, "CANARY")...) // the harness looks for them everywhere
	f := newFinder()
	f.look("CANARY")
	for _, a := range answers { // net/http's own refusals too
		if found := f.find(fmt.Sprint(a.header, a.body)); a.status != 200 && len(found) > 0 {
			t.Errorf("client got %s, want nothing secret", found)
		}
	}
}
