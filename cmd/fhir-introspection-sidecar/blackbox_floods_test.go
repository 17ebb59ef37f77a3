package main

import (
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"time"
)

// cpu is the processor time that the sidecar has used.
func (c *child) cpu(t *testing.T) time.Duration {
	t.Helper()
	return time.Duration(c.metric(t, "process_cpu_seconds_total") * float64(time.Second))
}

// A16: a thousand connections with headers that are refused, all open at once.
func TestBlackboxManyLongTokens(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	before, asked := w.residentKiB(t, "VmRSS"), w.as.Introspections()
	head := "GET /fhir/Patient HTTP/1.1\r\n" + host + "\r\nAuthorization: Bearer " + strings.Repeat("x", 64<<10)
	var conns []*conn
	for range 1000 {
		c := dial(t, w.data)
		_, _ = io.WriteString(c, head) // without its end
		conns = append(conns, c)
	}
	for _, c := range conns {
		_, _ = io.WriteString(c, "\r\n\r\n")
		if a, err := c.answer("GET"); err != nil || a.status != 431 {
			t.Fatalf("got %v (%v), want 431", a, err)
		}
		_ = c.Close()
	}
	// The race detector multiplies memory, and the bound with it.
	if grown := w.residentKiB(t, "VmHWM") - before; grown > 64<<10*raceFactor {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 64<<10*raceFactor)
	}
	if w.as.Introspections() != asked || w.up.count() != 1 {
		t.Errorf("got %d introspections and %d requests, want %d and 1", w.as.Introspections(), w.up.count(), asked)
	}
	w.bystander(t, "A16")
}

// C29: what an absurd path may cost.
func TestBlackboxPathCost(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	const rounds = 50
	for _, path := range []string{"/.." + strings.Repeat("/..", 9_000), strings.Repeat("/%2e%2e", 4_000), strings.Repeat("/a", 14_000) + "/..", strings.Repeat("%41", 9_000) + "%2f"} {
		raw := request("GET /fhir/"+path[1:], good)
		c := dial(t, w.data)
		began := w.cpu(t)
		for range rounds {
			if a, err := c.do(raw); err != nil || a.status != 400 {
				t.Fatalf("got %v (%v), want 400", a, err)
			}
		}
		if each := (w.cpu(t) - began) / rounds; each > 10*time.Millisecond {
			t.Errorf("%.20q takes %v of CPU, want at most 10ms", path, each)
		}
	}
	if w.up.count() != 0 {
		t.Errorf("FHIR server got %d requests, want none", w.up.count())
	}
}

// E13: chunks that are nearly all overhead are cut off, or stream through without
// being collected.
func TestBlackboxChunkFloods(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	before := w.residentKiB(t, "VmRSS")
	upload := func(line, block string, count int, end string) (sent int, a *answer, err error) {
		c := dial(t, w.data)
		defer c.Close()
		_, _ = io.WriteString(c, request(line, good, "Transfer-Encoding: chunked"))
		for range count {
			n, err := io.WriteString(c, block)
			if sent += n; err != nil {
				break
			}
		}
		_, _ = io.WriteString(c, end)
		a, err = c.answer("POST")
		return sent, a, err
	}
	// A chunk extension of a gigabyte: cut off long before its end.
	if sent, a, err := upload("POST /fhir/Patient", strings.Repeat("x", 1<<20), 1024, "\r\n"); err == nil && a.status != 400 || sent > 64<<20 {
		t.Errorf("got %v (%v) after %d bytes of an extension, want 400 soon", a, err, sent)
	}
	sent, a, err := upload("POST /fhir/Patient", "1;"+strings.Repeat("x", 1<<20), 1024, "\r\n")
	if err == nil && a.status != 400 || sent > 64<<20 {
		t.Errorf("got %v (%v) after %d bytes of an extension, want 400 soon", a, err, sent)
	}
	// A million chunks of one byte: refused, or all there.
	arrived := make(chan int64, 1)
	w.up.on("/fhir/million", func(c *upstreamConn, r *arrival) bool {
		kept := echo(c, r)
		arrived <- r.size
		return kept
	})
	_, a, err = upload("POST /fhir/million", strings.Repeat("1\r\nx\r\n", 1000), 1000, "0\r\n\r\n")
	switch {
	case err == nil && a.status == 200:
		if size := <-arrived; size != 1_000_000 {
			t.Errorf("%d bytes arrived, want 1000000", size)
		}
	case err == nil && a.status != 400:
		t.Errorf("got %v, want 200 or 400", a)
	}
	if grown := w.residentKiB(t, "VmHWM") - before; grown > 32<<10*raceFactor {
		t.Errorf("memory grew by %d KiB, want at most %d", grown, 32<<10*raceFactor)
	}
	w.bystander(t, "E13")
	if n := w.metric(t, "introspection_sidecar_requests_total", `decision="upstream_error"`); n > 0 {
		t.Errorf("got %v clients' faults counted as the FHIR server's, want none", n)
	}
}

// K11: tokens that are made to be costly are refused for next to nothing, whether
// JWTs are looked at first or not. What is no signed JWT is the authorization
// server's to judge.
func TestBlackboxCostlyTokens(t *testing.T) {
	t.Parallel()
	place := "http://" + newTrap(t).Addr().String()
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	const n = 900_000 // bytes, below what net/http reads of a header here
	tokens := map[string]string{
		"dots":          strings.Repeat(".", n),
		"short parts":   strings.Repeat("a.", n/2) + "a",
		"encrypted":     segment(`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`) + ".." + segment("iv") + "." + strings.Repeat("A", n) + ".dGFn",
		"PBES2":         segment(`{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2147483647,"p2s":"c2FsdA"}`) + ".a2V5." + segment("iv") + ".dGV4dA.dGFn",
		"long x5c":      segment(`{"alg":"RS256","x5u":"`+place+`","x5c":["`+strings.Repeat("A", n/2)+`"]}`) + "." + segment(`{"iss":"`+place+`"}`) + ".c2ln",
		"deep header":   segment(strings.Repeat(`{"a":`, n/8)) + "." + segment(`{}`) + ".c2ln",
		"deep payload":  segment(`{"alg":"ES256","kid":"k1"}`) + "." + segment(strings.Repeat("[", n/2)) + ".c2ln",
		"long key id":   segment(`{"alg":"ES256","kid":"`+strings.Repeat("k", n/2)+`","jku":"`+place+`"}`) + "." + segment(`{}`) + ".c2ln",
		"no signature":  segment(`{"alg":"none"}`) + "." + segment(`{"iss":"`+place+`"}`) + ".",
		"huge exponent": segment(`{"alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"`+strings.Repeat("_", n/4)+`"}}`) + "." + segment(`{}`) + ".c2ln",
	}
	i := newIssuer(t)
	fhir := newDocuments(t)
	for name, c := range map[string]*child{
		"opaque":     start(t, env{"MAX_TOKEN_BYTES": "1000000", "INTROSPECTION_TIMEOUT": "10s"}).child,
		"prechecked": find(t, fhir.URL, env{"ISSUER_URL": i.URL, "JWT_PRECHECK": "true", "MAX_TOKEN_BYTES": "1000000", "INTROSPECTION_TIMEOUT": "10s"}),
	} {
		c.awaitReady(t)
		for kind, token := range tokens {
			began := c.cpu(t)
			if a := c.ask(t, "GET /fhir/Patient", bearer(token)); a.status != 401 {
				t.Errorf("%s, %s: got status %d, want 401", name, kind, a.status)
			}
			if took := c.cpu(t) - began; took > raceFactor*500*time.Millisecond {
				t.Errorf("%s, %s: took %v of CPU, want at most %v", name, kind, took, raceFactor*500*time.Millisecond)
			}
		}
	}
}
