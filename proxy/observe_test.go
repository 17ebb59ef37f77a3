package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
)

// canary stands wherever patient data or a secret could stand.
const canary = "CANARY"

// scenario is a request that ends with one decision.
type scenario struct {
	decision *decision
	level    string
	status   int
	raw      string
	prepare  func(*stack)
	abrupt   bool // there is no response to read
}

func scenarios() []scenario {
	const bearer = "Authorization: Bearer " + canary
	inactive := func(*stack) {}
	active := func(s *stack) {
		s.verdicts.answers[canary] = decode(s.T, `{"active":true,"patient":"CANARY","sub":"CANARY","user":"CANARY","scope":"CANARY","intent":"CANARY","tenant":"é CANARY"}`)
	}
	fails := func(kind error) func(*stack) {
		return func(s *stack) {
			s.verdicts.failures[canary] = &introspection.Failure{Kind: kind, Reason: "reason"}
		}
	}
	const target = "/fhir/Patient/" + canary + "?name=" + canary
	return []scenario{
		{allowed, "DEBUG", 200, get(target, bearer), active, false},
		{public, "DEBUG", 200, get("/fhir/metadata?x="+canary, bearer), active, false},
		{preflight, "DEBUG", 200, message("OPTIONS", target, "", "Origin: https://"+canary, "Access-Control-Request-Method: "+canary), inactive, false},
		{refuseNoToken, "INFO", 401, get(target), inactive, false},
		{refuseNoToken, "INFO", 401, get(target, "Authorization: Basic "+canary), inactive, false},
		{refuseRequest, "INFO", 400, get(target, bearer, bearer), inactive, false},
		{refuseToken, "INFO", 401, get(target, bearer), inactive, false},
		{refuseScope, "INFO", 403, get(target, bearer), func(s *stack) {
			s.verdicts.answers[canary] = decode(s.T, `{"active":true,"patient":"Practitioner/CANARY","scope":"patient/CANARY"}`)
		}, false},
		{refuseUnavailable, "WARN", 503, get(target, bearer), fails(introspection.ErrUnavailable), false},
		{refuseUnavailable, "WARN", 503, get(target, bearer), func(s *stack) {
			s.verdicts.failures[canary] = errors.New("quotes " + canary)
		}, false},
		{refuseCredential, "ERROR", 503, get(target, bearer), fails(introspection.ErrInvalidClient), false},
		{refuseUpstream, "WARN", 502, get(target, bearer), func(s *stack) {
			active(s)
			s.upstream.writes("HTTP/1.1 " + canary + "\r\n" + canary + "\r\n\r\n")
		}, false},
		{refuseUpstream, "WARN", 502, get(target, bearer), func(s *stack) {
			active(s)
			_ = s.upstream.Close()
		}, false},
		{refuseNotFound, "INFO", 404, get("/"+canary+"?"+canary, bearer), active, false},
		{refusePath, "INFO", 400, get("/fhir//"+canary+"?"+canary, bearer), active, false},
		{refuseMethod, "INFO", 405, message(canary, target, "", bearer), active, false},
		{internalError, "ERROR", 500, get(target, bearer), func(s *stack) {
			s.verdicts.failures[canary] = errPanic
			s.verdicts.during = panics
		}, false},
		{clientClosed, "DEBUG", statusClientClosed, get(target, bearer), inactive, true},
	}
}

// TestEveryDecision finds for each decision its log line, its metrics, and that
// nothing of the request stands in either.
func TestEveryDecision(t *testing.T) {
	seen := map[string]bool{}
	for i, tt := range scenarios() {
		t.Run(fmt.Sprintf("%s-%d", tt.decision.label, i), func(t *testing.T) {
			seen[tt.decision.label] = true
			s := newStack(t)
			tt.prepare(s)
			fields := "X-Request-Id: req-1\r\nX-Correlation-Id: cor-1\r\nX-Trace-Id: tra-1\r\nX-Launch-Patient: CANARY\r\nCookie: CANARY\r\n"
			raw := strings.Replace(tt.raw, "\r\n", "\r\n"+fields, 1)
			if tt.abrupt {
				s.leave(raw)
			} else if a := s.do(raw); a.StatusCode != tt.status {
				t.Errorf("status %d, want %d", a.StatusCode, tt.status)
			}
			s.checkLog(tt)
			if got := s.counted(tt.decision, tt.status); got != 1 {
				t.Errorf("counted %v times, want once", got)
			}
			s.checkMetrics(tt)
		})
	}
	for _, d := range decisions {
		if !seen[d.label] {
			t.Errorf("no scenario ends with %s, want one for each label", d.label)
		}
	}
}

// leave sends a request and goes before there is a verdict.
func (s *stack) leave(raw string) {
	s.Helper()
	asked := make(chan struct{})
	s.verdicts.during = waits(asked)
	s.verdicts.failures[canary] = errGone
	c := s.dial()
	c.send(raw)
	<-asked
	c.reset()
	s.wait(1)
}

func (s *stack) checkLog(tt scenario) {
	s.Helper()
	text := s.log.String()
	if strings.Contains(text, canary) {
		s.Errorf("log tells: %s", text)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var line map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		s.Fatalf("%v: %s", err, text)
	}
	if tt.decision != internalError && len(lines) != 1 || tt.decision == internalError && len(lines) != 2 {
		s.Errorf("%d lines: %s", len(lines), text)
	}
	method, _, _ := strings.Cut(tt.raw, " ")
	if tt.decision == refuseMethod {
		method = "other"
	}
	want := map[string]any{
		"msg": "request", "level": tt.level, "decision": tt.decision.label, "method": method, "status": float64(tt.status),
		"request_id": "req-1", "correlation_id": "cor-1", "trace_id": "tra-1",
	}
	if len(s.verdicts.asked()) > 0 {
		want["token_ref"] = "0badcafe"
	}
	if len(s.verdicts.asked()) > 0 && tt.decision != internalError && tt.decision != clientClosed {
		want["cache"] = "hit"
	}
	for key, value := range want {
		if line[key] != value {
			s.Errorf("%s: %v, want %v", key, line[key], value)
		}
	}
	for key, value := range line {
		if value == "" {
			s.Errorf("got field %s without a value, want it left out", key)
		}
	}
	for _, key := range []string{"time", "interaction", "duration_ms", "peer"} {
		if _, ok := line[key]; !ok {
			s.Errorf("no %s: %s", key, text)
		}
	}
	for key := range line {
		if !strings.Contains(" time level msg decision reason method interaction status duration_ms request_id correlation_id trace_id cache token_ref peer error ", " "+key+" ") {
			s.Errorf("%s isn't a field of the log", key)
		}
	}
}

// checkMetrics gathers everything there is: no label may hold what a client
// sent, and the request is counted once in all.
func (s *stack) checkMetrics(tt scenario) {
	s.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.Fatal(err)
	}
	var requests float64
	var durations uint64
	for _, family := range families {
		if strings.Contains(family.String(), canary) {
			s.Errorf("metric tells: %s", family)
		}
		for _, metric := range family.GetMetric() {
			switch family.GetName() {
			case "introspection_sidecar_requests_total":
				requests += metric.GetCounter().GetValue()
			case "introspection_sidecar_request_duration_seconds":
				if metric.GetLabel()[0].GetValue() == tt.decision.label {
					durations += metric.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	if requests != 1 || durations != 1 {
		s.Errorf("%v requests, %d durations", requests, durations)
	}
}

func TestMetricsGolden(t *testing.T) {
	s := newStack(t)
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatalf("testutil.GatherAndLint: got error %v, want none", err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s, want none of promlint's problems", problem.Metric, problem.Text)
	}
	s.proxy.context.omit(s.proxy.context.names[0], omittedInvalid)
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatalf("registry.Gather: got error %v, want none", err)
	}
	var b strings.Builder
	for _, family := range families {
		labels := map[string]bool{}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if family.GetName() != "introspection_sidecar_omitted_headers_total" {
					labels[label.GetName()+"="+label.GetValue()] = true
				}
			}
		}
		fmt.Fprintf(&b, "%s %s\n", family.GetName(), family.GetType())
		for _, label := range sorted(labels) {
			b.WriteString("  " + label + "\n")
		}
	}
	golden(t, "metrics", b.String())
}

// TestLogLevels finds that a request below the level costs no line.
func TestLogLevels(t *testing.T) {
	var log bytes.Buffer
	s := newStack(t, func(c *Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		c.TokenRef = func(string) string { t.Error("TokenRef is called, want no call without a line"); return "" }
	})
	s.do(get("/fhir/Patient", bearerTOK))
	if log.Len() > 0 {
		t.Errorf("got log %s, want nothing", &log)
	}
}

// TestFailureText: L03: errors of net/http are told in words of ours.
func TestFailureText(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New(canary)}
	for _, tt := range []struct {
		decision *decision
		err      error
		want     string
	}{
		{refuseUnavailable, &introspection.Failure{Kind: introspection.ErrBusy, Reason: "r"}, introspection.ErrBusy.Error() + ": r"},
		{refuseUnavailable, errors.New(canary), "no verdict"},
		{refuseUnavailable, io.EOF, "no verdict"},
		{refuseCredential, introspection.ErrInvalidClient, "no verdict"},
		{refuseUpstream, errSwitch, "FHIR server switched protocols"},
		{refuseUpstream, errBroken, "FHIR server broke off its response"},
		{refuseUpstream, errLoop, "request came back: the FHIR server's URL leads to this sidecar"},
		{refuseUpstream, &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, "FHIR server timed out"},
		{refuseUpstream, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "FHIR server: dial: connection refused"},
		{refuseUpstream, fmt.Errorf("%s %w", canary, &net.OpError{Op: "read", Err: syscall.ECONNRESET}), "FHIR server: read: connection reset by peer"},
		{refuseUpstream, dial, "FHIR server: dial failed"},
		{refuseUpstream, fmt.Errorf("%s %w", canary, io.ErrUnexpectedEOF), "FHIR server closed the connection"},
		{refuseUpstream, errors.New("malformed HTTP response " + canary), "malformed response from the FHIR server"},
	} {
		if got := failureText(tt.decision, tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}
