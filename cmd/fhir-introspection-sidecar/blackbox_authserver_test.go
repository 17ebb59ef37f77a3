package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

// Every deviation seen in the field, through the whole program.
func TestBlackboxDeviations(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for i, d := range introspectiontest.Deviations() {
		t.Run(d.Name, func(t *testing.T) {
			token := fmt.Sprint("d", i)
			w.as.AddToken(token, w.as.Claims())
			w.as.SetAnswerFor(token, d.Answer)
			before := w.up.count()
			a := w.ask(t, "GET /fhir/Patient", bearer(token))
			switch d.Verdict {
			case introspectiontest.Active:
				a.is(t, 200)
			case introspectiontest.Inactive:
				a.refused(t, 401, "login", "invalid_token")
			default:
				a.refused(t, 503, "transient", "")
			}
			if (a.status == 200) != (w.up.count() > before) {
				t.Errorf("client got status %d and the FHIR server %d requests, want them to agree", a.status, w.up.count()-before)
			}
		})
	}
}

// Answers to the byte.
func TestBlackboxAnswers(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, "")
	w := start(t, env{"INTROSPECTION_ENDPOINT": "http://" + as.address + "/i", "CACHE_INACTIVE_AGE": "0"})
	pad := func(n int) string { // a response of n bytes
		const frame = `{"active":true,"x":""}`
		return frame[:len(frame)-2] + strings.Repeat("x", n-len(frame)) + `"}`
	}
	now := time.Now().Unix()
	for i, c := range []struct {
		id, body string
		status   int
	}{
		{"F02 exp is now", fmt.Sprintf(`{"active":true,"exp":%d}`, now), 401},
		{"F06 exp zero", `{"active":true,"exp":0}`, 401},
		{"F06 exp negative", `{"active":true,"exp":-1}`, 401},
		{"F06 exp negative string", `{"active":true,"exp":"-1"}`, 503},
		{"F06 exp true", `{"active":true,"exp":true}`, 503},
		{"F06 exp empty string", `{"active":true,"exp":""}`, 503},
		{"F06 exp fraction string", `{"active":true,"exp":"4102444800.5"}`, 503},
		{"F06 exp list", `{"active":true,"exp":[4102444800]}`, 503},
		{"F06 exp null", `{"active":true,"exp":null}`, 200},
		{"F06 exp past string", `{"active":true,"exp":"1419356238"}`, 401},
		{"F03 exp exponent", `{"active":true,"exp":4.1024448e9}`, 200},
		{"F03 exp past exponent", `{"active":true,"exp":1.5e9}`, 401},
		{"F03 exp point nought", `{"active":true,"exp":4102444800.0}`, 200},
		{"F03 exp past point nought", `{"active":true,"exp":1419356238.0}`, 401},
		{"F03 exp past fraction", fmt.Sprintf(`{"active":true,"exp":%d.999}`, now), 401},
		{"F06 exp blank string", `{"active":true,"exp":" 4102444800"}`, 503},
		{"F06 exp string", `{"active":true,"exp":"4102444800"}`, 200},
		{"G07 limit", pad(256 << 10), 200},
		{"G07 limit + 1", pad(256<<10 + 1), 503},
		{"G10 twice true", `{"active":true,"active":true}`, 503},
		{"G10 false true", `{"active":false,"active":true}`, 503},
		{"G10 true false", `{"active":true,"active":false}`, 503},
		{"G11 ACTIVE", `{"active":false,"ACTIVE":true}`, 503},
		{"G11 Active before", `{"Active":true,"active":false}`, 503},
		{"G11 escaped name", `{"active":true,"\u0061ctive":false}`, 503},
		{"G11 Kelvin sign", "{\"active\":true,\"to\u212aen_type\":\"x\",\"token_type\":\"Bearer\"}", 503},
		{"G11 long s", "{\"active\":true,\"\u017fub\":\"x\",\"sub\":\"y\"}", 503},
		{"G12 exp twice", `{"active":true,"exp":4102444800,"exp":4102444801}`, 503},
		{"G12 EXP", `{"active":true,"exp":1,"EXP":4102444800}`, 503},
		{"G12 unknown twice", `{"active":true,"x":1,"x":2}`, 200},
		{"inactive with odd members", `{"active":false,"exp":"x","patient":{},"sub":"\u0000"}`, 401},
		{"G13 trailing word", `{"active":true} x`, 503},
		{"G13 two objects", `{"active":true}{"active":true}`, 503},
		{"G13 byte order mark", "\ufeff{\"active\":true}", 503},
		{"G13 trailing comma", `{"active":true,}`, 503},
		{"G13 NaN", `{"active":true,"exp":NaN}`, 503},
		{"G13 single quotes", `{'active':true}`, 503},
		{"G13 comment", `{"active":true}//`, 503},
		{"G13 list", `[{"active":true}]`, 503},
		{"G13 NUL after", "{\"active\":true}\x00", 503},
		{"G13 bad UTF-8", "{\"active\":true,\"sub\":\"\xff\"}", 503},
		{"G13 lone surrogate", `{"active":true,"sub":"\ud800"}`, 503},
		{"G14 a million keys", `{"active":true` + strings.Repeat(`,"k":1`, 1_000_000) + `}`, 503},
		{"G14 ten megabytes", `{"active":true,"x":"` + strings.Repeat("x", 10<<20) + `"}`, 503},
		{"G14 as many keys as fit", `{"active":true` + strings.Repeat(`,"k":1`, 40_000) + `}`, 200},
		{"G14 deep", `{"active":true,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, 503},
		{"G16 active string", `{"active":"true"}`, 503},
		{"G16 active 1", `{"active":1}`, 503},
		{"G16 active list", `{"active":[true]}`, 503},
		{"G23 error beside active", `{"active":true,"error":"x"}`, 200},
		{"sub number", `{"active":true,"sub":5}`, 503},
		{"scope number", `{"active":true,"scope":5}`, 503},
		{"aud object, which nothing uses", `{"active":true,"aud":{"a":1}}`, 200},
		{"aud list of numbers, which nothing uses", `{"active":true,"aud":[1]}`, 200},
		{"cnf empty", `{"active":true,"cnf":{}}`, 401},
		{"cnf null", `{"active":true,"cnf":null}`, 200},
		{"token_type DPoP", `{"active":true,"token_type":"DPoP"}`, 401},
		{"token_type Bearer", `{"active":true,"token_type":"BEARER"}`, 200},
		{"token_type refresh", `{"active":true,"token_type":"urn:ietf:params:oauth:token-type:refresh_token"}`, 401},
		{"token_type id", `{"active":true,"token_type":"id_token"}`, 401},
		{"token_use id", `{"active":true,"token_use":"id"}`, 401},
		{"token_use access", `{"active":true,"token_use":"access_token"}`, 200},
		{"typ Refresh", `{"active":true,"typ":"Refresh"}`, 401},
		{"typ refresh+jwt", `{"active":true,"typ":"refresh+jwt"}`, 401},
		{"typ at+jwt", `{"active":true,"typ":"at+jwt"}`, 200},
		{"typ JWT", `{"active":true,"typ":"JWT"}`, 200},
		{"K06 nbf ahead", fmt.Sprintf(`{"active":true,"nbf":%d}`, now+600), 401},
		{"K06 iat ahead", fmt.Sprintf(`{"active":true,"iat":%d}`, now+600), 401},
		{"K06 nbf in milliseconds", fmt.Sprintf(`{"active":true,"nbf":%d}`, now*1000), 503},
		{"K06 nbf of year 9999", `{"active":true,"nbf":253402300799}`, 401},
		{"K06 nbf beyond int64", `{"active":true,"iat":1e300}`, 401},
		{"K08 sub of a megabyte", `{"active":true,"sub":"` + strings.Repeat("s", 1_000_000) + `"}`, 503},
		{"K08 sub of 100 KiB", `{"active":true,"sub":"` + strings.Repeat("s", 100<<10) + `"}`, 200},
		{"K09 claims below another member", `{"token_introspection":{"active":true}}`, 503},
		{"K09 a JWT that says JSON", jws(map[string]any{"alg": "none", "typ": "token-introspection+jwt"}, map[string]any{"active": true, "token_introspection": map[string]any{"active": true}}), 503},
		{"K09 a JWT as a JSON string", `"` + jws(map[string]any{"alg": "ES256"}, map[string]any{"active": true}) + `"`, 503},
		{"K06 nbf within skew", fmt.Sprintf(`{"active":true,"nbf":%d}`, now+2), 200},
		{"fhirContext twice within", `{"active":true,"fhirContext":[{"reference":"Task/1","reference":"Task/2"}]}`, 503},
	} {
		t.Run(c.id, func(t *testing.T) {
			as.set(jsonAnswer(c.body))
			before := w.up.count()
			a := w.ask(t, "GET /fhir/Patient", bearer(fmt.Sprint("t", i)))
			switch c.status {
			case 200:
				a.is(t, 200)
			case 401:
				a.refused(t, 401, "login", "invalid_token")
			default:
				a.refused(t, 503, "transient", "")
			}
			if (a.status == 200) != (w.up.count() > before) {
				t.Errorf("client got status %d and the FHIR server %d requests, want them to agree", a.status, w.up.count()-before)
			}
		})
	}
	as.set(jsonAnswer(`{"active":true,"exp":4102444800.9}`))
	w.ask(t, "GET /fhir/Patient", bearer("fraction")).is(t, 200)
	w.up.last(t).has(t, "X-Launch-Expires", "4102444800") // F03: whole seconds, never more
	status := func(line string) string {
		return strings.Replace(jsonAnswer(`{"active":true}`), "200 OK", line, 1)
	}
	for i, c := range []struct {
		id, answer string
		status     int
	}{
		{"G06 201", status("201 Created"), 503},
		{"G06 202", status("202 Accepted"), 503},
		{"G06 203", status("203 Other"), 503},
		{"G06 204", "HTTP/1.1 204 No Content\r\n\r\n", 503},
		{"G06 205", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 503},
		{"G06 226", status("226 IM Used"), 503},
		{"G06 299", status("299 Odd"), 503},
		{"G06 304", "HTTP/1.1 304 Not Modified\r\n\r\n", 503},
		{"G06 200 without a body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 503},
		{"G06 206", strings.Replace(jsonAnswer(`{"active":true}`), "200 OK", "206 Partial", 1), 503},
		{"G17 no type", strings.Replace(jsonAnswer(`{"active":true}`), "Content-Type: application/json\r\n", "", 1), 200},
		{"G17 UTF-8", strings.Replace(jsonAnswer(`{"active":true}`), "/json", "/json;charset=UTF-8", 1), 200},
		{"G17 UTF-16", strings.Replace(jsonAnswer(`{"active":true}`), "/json", "/json;charset=utf-16", 1), 503},
		{"G17 no media type", strings.Replace(jsonAnswer(`{"active":true}`), "application/json", ";;;", 1), 503},
		{"G17 text/plain", strings.Replace(jsonAnswer(`{"active":true}`), "application/json", "text/plain", 1), 503},
		{"G17 a coding nobody asked for", strings.Replace(jsonAnswer(`{"active":true}`), "\r\n\r\n", "\r\nContent-Encoding: br\r\n\r\n", 1), 503},
		{"G17 gzip that is none", strings.Replace(jsonAnswer(`{"active":true}`), "\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n", 1), 503},
		{"G17 text/html", strings.Replace(jsonAnswer(`{"active":true}`), "application/json", "text/html", 1), 503},
		{"G17 jwt", strings.Replace(jsonAnswer(`{"active":true}`), "application/json", "application/jwt", 1), 503},
		{"K09 signed answer", signedAnswer(map[string]any{"alg": "ES256", "typ": "token-introspection+jwt"}), 503},
		{"K09 unsigned answer", signedAnswer(map[string]any{"alg": "none", "typ": "token-introspection+jwt"}), 503},
		{"K09 another typ", signedAnswer(map[string]any{"alg": "HS256", "typ": "JWT"}), 503},
		{"K09 JSON that says JWT", strings.Replace(jsonAnswer(`{"active":true}`), "application/json", "application/token-introspection+jwt", 1), 503},
		{"G17 +json", strings.Replace(jsonAnswer(`{"active":true}`), "application/json", "application/token-introspection+json", 1), 200},
		{"G17 two types", strings.Replace(jsonAnswer(`{"active":true}`), "\r\n\r\n", "\r\nContent-Type: text/html\r\n\r\n", 1), 200},
		{"G21 G22 500 active", status("500 Error"), 503},
		{"G21 G22 502 active", status("502 Bad Gateway"), 503},
		{"G21 G22 503 active", status("503 Unavailable"), 503},
		{"G21 G22 504 active", status("504 Gateway Timeout"), 503},
		{"G21 G22 599 active", status("599 Odd"), 503},
		{"G21 400 with an error", strings.Replace(jsonAnswer(`{"error":"invalid_request"}`), "200 OK", "400 Bad", 1), 503},
		{"G22 400 active", status("400 Bad"), 503},
		{"G22 401 active", status("401 Unauthorized"), 503},
		{"G22 403 active", status("403 Forbidden"), 503},
		{"G22 404 active", status("404 Not Found"), 503},
		{"G22 429 active", status("429 Too Many"), 503},
		{"G22 400 inactive", strings.Replace(jsonAnswer(`{"active":false}`), "200 OK", "400 Bad", 1), 503},
		{"G04 cut off", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{\"active\":true}", 503},
		{"G04 cut off chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nf\r\n{\"active\":true}\r\n", 503},
		{"no HTTP", "{\"active\":true}\r\nConnection: close\r\n\r\n", 503},
	} {
		t.Run(c.id, func(t *testing.T) {
			as.set(c.answer)
			token, before, forwarded := fmt.Sprint("u", i), len(as.requests()), w.up.count()
			a := w.ask(t, "GET /fhir/Patient", bearer(token))
			if c.status == 503 {
				a.refused(t, 503, "transient", "")
			} else {
				a.is(t, c.status)
			}
			if (a.status == 200) != (w.up.count() > forwarded) {
				t.Errorf("client got status %d and the FHIR server %d requests, want them to agree", a.status, w.up.count()-forwarded)
			}
			// G21: asked once, whatever the failure, and nothing is remembered of it.
			n := 0
			for _, request := range as.requests()[before:] { // a refused credential is tried with a token of our own, too
				if strings.Contains(request, "token="+token) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
			as.set(jsonAnswer(`{"active":true}`))
			w.ask(t, "GET /fhir/Patient", bearer(token)).is(t, 200)
		})
	}
	for result, least := range map[string]float64{"active": 5, "inactive": 4, "malformed": 10, "unavailable": 3} {
		if n := w.metric(t, "introspection_sidecar_introspections_total", `result="`+result+`"`); n < least {
			t.Errorf("got %v introspections with result %s, want at least %v", n, result, least)
		}
	}
}

// signedAnswer is what RFC 9701 has for clients that ask for it, which we don't.
func signedAnswer(header map[string]any) string {
	body := jws(header, map[string]any{"active": true, "iss": "https://as.example", "token_introspection": map[string]any{"active": true}})
	return strings.Replace(jsonAnswer(body), "application/json", "application/token-introspection+jwt", 1)
}

// G20: what the authorization server asks for, the client is asked for, if it is
// sensible; nobody else waits for it.
func TestBlackboxRetryAfter(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, "")
	w := start(t, env{"INTROSPECTION_ENDPOINT": "http://" + as.address + "/"})
	const untold, most = 2, 3600
	for i, c := range []struct {
		value       string
		least, most int
	}{
		{"5", 5, 5},
		{"3599", 3599, 3599},
		{"0", untold, untold},
		{"-1", untold, untold},
		{"1.5", untold, untold},
		{"1e9", untold, untold},
		{"junk", untold, untold},
		{"", untold, untold},
		{"1000000000", most, most},
		{"99999999999999999999", most, most},
		{time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat), 60, 600},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), untold, untold},
		{"Fri, 31 Dec 9999 23:59:59 GMT", most, most},
	} {
		for _, status := range []string{"429 Too Many", "503 Unavailable"} {
			as.set("HTTP/1.1 " + status + "\r\nRetry-After: " + c.value + "\r\nContent-Length: 0\r\n\r\n")
			token := fmt.Sprintf("t%d.%s", i, status[:3])
			a := w.ask(t, "GET /fhir/Patient", bearer(token))
			a.refused(t, 503, "transient", "")
			if got, _ := strconv.Atoi(a.header.Get("Retry-After")); got < c.least || got > c.most {
				t.Errorf("%s %q: got Retry-After %q, want %d to %d", status, c.value, a.header.Get("Retry-After"), c.least, c.most)
			}
			as.set(jsonAnswer(`{"active":true}`))
			w.ask(t, "GET /fhir/Patient", bearer(token)).is(t, 200)
		}
	}
	if n := w.metric(t, "introspection_sidecar_introspections_total", `result="throttled"`); n != 13 {
		t.Errorf("got %v throttled introspections, want 13", n)
	}
}

// G01, G02, G08: an endpoint that is away, silent or endless costs the timeout at most.
func TestBlackboxEndpointFaults(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("net.Listen: got error %v, want none", err)
	}
	_ = closed.Close()
	drip := newRawAuthority(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
	endless := newRawAuthority(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n"+strings.Repeat(" ", 16<<20))
	for name, address := range map[string]string{"silent": silent.Addr().String(), "refused": closed.Addr().String(), "stalls in the body": drip.address, "endless": endless.address} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, env{"INTROSPECTION_ENDPOINT": "http://" + address + "/", "INTROSPECTION_TIMEOUT": "300ms"})
			began := time.Now()
			w.ask(t, "GET /fhir/Patient", good).refused(t, 503, "transient", "")
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("took %v, want at most 2s", d)
			}
			if w.get(t, "/readyz").status != 200 {
				t.Error("got a red readiness after one failed introspection, want 200")
			}
			if w.up.count() != 0 {
				t.Errorf("FHIR server got %d requests, want none", w.up.count())
			}
		})
	}
}

// K, F10: the checks of the configuration; absent claims fail them, on hits too.
func TestBlackboxRequired(t *testing.T) {
	t.Parallel()
	w := start(t, env{
		"REQUIRED_AUDIENCES": "https://fhir.example, other", "REQUIRED_ISSUERS": "https://as.example/",
		"REQUIRED_SCOPES": "a, b", "REQUIRED_TOKEN_TYPES": "Bearer",
	})
	base := func() map[string]any {
		return map[string]any{"aud": "other", "iss": "https://as.example/", "scope": "c a  b", "token_type": "bearer", "exp": 4102444800}
	}
	for i, c := range []struct {
		name   string
		change func(map[string]any)
		status int
	}{
		{"all", func(map[string]any) {}, 200},
		{"K02 aud absent", func(m map[string]any) { delete(m, "aud") }, 401},
		{"K02 aud empty list", func(m map[string]any) { m["aud"] = []string{} }, 401},
		{"K02 aud empty", func(m map[string]any) { m["aud"] = "" }, 401},
		{"K02 aud null", func(m map[string]any) { m["aud"] = nil }, 401},
		{"K02 aud list", func(m map[string]any) { m["aud"] = []string{"x", "https://fhir.example"} }, 200},
		{"K02 aud prefix", func(m map[string]any) { m["aud"] = "https://fhir.example/" }, 401},
		{"K02 aud case", func(m map[string]any) { m["aud"] = "OTHER" }, 401},
		{"K04 iss punycode", func(m map[string]any) { m["iss"] = "https://xn--as-xyz.example/" }, 401},
		{"K04 iss slash", func(m map[string]any) { m["iss"] = "https://as.example" }, 401},
		{"K04 iss absent", func(m map[string]any) { delete(m, "iss") }, 401},
		{"K04 iss case", func(m map[string]any) { m["iss"] = "https://AS.example/" }, 401},
		{"K07 scope absent", func(m map[string]any) { delete(m, "scope") }, 403},
		{"K07 scope part", func(m map[string]any) { m["scope"] = "a bb" }, 403},
		{"K07 scope with another blank", func(m map[string]any) { m["scope"] = "a\u00a0b" }, 403},
		{"K07 scope in one item", func(m map[string]any) { m["scope"] = []string{"c", "a b"} }, 200},
		{"K07 scope list", func(m map[string]any) { m["scope"] = []string{"b", "a"} }, 200},
		{"type absent", func(m map[string]any) { delete(m, "token_type") }, 401},
		{"type other", func(m map[string]any) { m["token_type"] = "mac" }, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims, token := base(), fmt.Sprint("k", i)
			c.change(claims)
			w.as.AddToken(token, claims)
			for range 2 {
				a := w.ask(t, "GET /fhir/Patient", bearer(token))
				switch c.status {
				case 200:
					a.is(t, 200)
				case 401:
					a.refused(t, 401, "login", "invalid_token")
				case 403:
					a.refused(t, 403, "forbidden", "insufficient_scope")
					if !strings.Contains(a.header.Get("WWW-Authenticate"), `scope="a b"`) {
						t.Errorf("got challenge %q, want the scopes a and b", a.header.Get("WWW-Authenticate"))
					}
				}
			}
			if n := w.as.IntrospectionsOf(token); n != 1 {
				t.Errorf("got %d introspections, want 1", n)
			}
		})
	}
}

// G33: beyond the limit requests wait, then get 503; hits don't wait.
func TestBlackboxConcurrencyLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a timeout")
	}
	t.Parallel()
	w := start(t, env{"MAX_INTROSPECTIONS": "2", "INTROSPECTION_TIMEOUT": "1s"})
	w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	w.as.SetAnswer(introspectiontest.Hang())
	wait := w.crowd(t, 20, func(i int, c *conn) {
		began := time.Now()
		a, err := c.do(request("GET /fhir/Patient", bearer(fmt.Sprint("h", i))))
		if err != nil || a.status != 503 || time.Since(began) > 6*time.Second {
			t.Errorf("got %v (%v) after %v, want 503 within 6s", a, err, time.Since(began))
		}
	})
	eventually(t, "calls are under way", func() bool { return w.metric(t, "introspection_sidecar_introspections_in_flight") > 0 })
	for range 5 {
		if n := w.metric(t, "introspection_sidecar_introspections_in_flight"); n > 2 {
			t.Errorf("got %v calls at once, want at most 2", n)
		}
		w.ask(t, "GET /fhir/Patient", good).is(t, 200)
	}
	wait()
}

// TestBlackboxUsedMembers: only members that a configured header or check uses are
// held to their type and case.
func TestBlackboxUsedMembers(t *testing.T) {
	t.Parallel()
	const odd = `{"active":true,"patient":"1","userName":"a","username":"b","tenant":{"id":1},"sub":5,"aud":{"a":1},"iss":7,"client_id":[],"scope":{}}`
	for _, c := range []struct {
		name   string
		e      env
		body   string
		status int
	}{
		{"none is used", env{"HEADERS": "patient", "PATIENT_CONTEXT": "ignore"}, odd, 200},
		{"username", env{"HEADERS": "username"}, `{"active":true,"userName":"a","username":"b"}`, 503},
		{"tenant", env{"HEADERS": "tenant"}, `{"active":true,"tenant":{"id":1}}`, 503},
		{"sub", env{"HEADERS": "sub"}, `{"active":true,"sub":5}`, 503},
		{"sub of audit records", env{"HEADERS": "patient", "AUDIT_LOG": "stdout"}, `{"active":true,"sub":5}`, 503},
		{"aud", env{"HEADERS": "patient", "REQUIRED_AUDIENCES": "a"}, `{"active":true,"aud":{"a":1}}`, 503},
		{"iss", env{"HEADERS": "patient", "REQUIRED_ISSUERS": "a"}, `{"active":true,"iss":7}`, 503},
		{"scope", env{"HEADERS": "patient", "REQUIRED_SCOPES": "a"}, `{"active":true,"scope":{}}`, 503},
		{"scope of the patient context", env{"HEADERS": "none"}, `{"active":true,"scope":{}}`, 503},
		{"patient of the patient context", env{"HEADERS": "none"}, `{"active":true,"scope":"patient/*.rs"}`, 403},
		{"token_type", env{"HEADERS": "none", "REQUIRED_TOKEN_TYPES": "Bearer"}, `{"active":true}`, 401},
		{"line break in fhirContext", nil, `{"active":true,"fhirContext":[{"note":"a\nb"}]}`, 200},
		{"kind by another name", nil, `{"active":true,"typ":"refresh_token+jwt"}`, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			as := newRawAuthority(t, "")
			as.set(jsonAnswer(c.body))
			e := env{"INTROSPECTION_ENDPOINT": "http://" + as.address + "/i"}
			maps.Copy(e, c.e)
			w := start(t, e)
			a := w.ask(t, "GET /fhir/Patient", bearer("token"))
			if a.status != c.status {
				t.Errorf("got status %d, want %d: %s", a.status, c.status, a.body)
			}
		})
	}
}

// TestBlackboxAssertionAsToken: a module that sends the JWT by which it authenticates
// at the authorization server gets 401, also where that server calls it active.
func TestBlackboxAssertionAsToken(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, "")
	as.set(jsonAnswer(`{"active":true}`))
	endpoint := "http://" + as.address + "/i"
	w := start(t, env{"INTROSPECTION_ENDPOINT": endpoint})
	for _, aud := range []any{endpoint, []string{"x", endpoint}} {
		token := jws(map[string]any{"alg": "ES384"}, map[string]any{"iss": "module", "sub": "module", "aud": aud})
		w.ask(t, "GET /fhir/Patient", bearer(token)).refused(t, 401, "login", "invalid_token")
	}
	w.ask(t, "GET /fhir/Patient", bearer(jws(map[string]any{"alg": "ES384"}, map[string]any{"aud": "https://fhir.example"}))).is(t, 200)
	if n := len(as.requests()); n != 1 {
		t.Errorf("got %d introspections, want the access token's alone", n)
	}
	if n := w.metric(t, "introspection_sidecar_refusals_total", `reason="assertion"`); n != 2 {
		t.Errorf("got %v refusals of assertions counted, want 2", n)
	}
}

// TestBlackboxExtraHeaders: members that no claim stands for reach the FHIR server in
// the namespace, after all else, and nobody else can send them.
func TestBlackboxExtraHeaders(t *testing.T) {
	t.Parallel()
	as := newRawAuthority(t, "")
	as.set(jsonAnswer(`{"active":true,"organization":"Zorg & Co 100% ü","level":3,"admin":false,"roles":["a","50%"],"launch_response_patient":"Patient/7"}`))
	w := start(t, env{
		"INTROSPECTION_ENDPOINT": "http://" + as.address + "/i", "HEADERS": "patient",
		"EXTRA_HEADERS": "Organization=organization,Level=level,Admin=admin,Roles=roles,Absent=absent",
		"CLAIM_ALIASES": "patient=launch_response_patient",
	})
	w.ask(t, "GET /fhir/Patient", bearer("token"), "X-Launch-Absent: forged", "x_launch_organization: forged").is(t, 200)
	got := w.up.last(t)
	for name, want := range map[string]string{
		"X-Launch-Patient": "7", "X-Launch-Organization": "Zorg & Co 100%25 %C3%BC", "X-Launch-Level": "3",
		"X-Launch-Admin": "false", "X-Launch-Roles": `["a","50\u0025"]`, "X-Launch-Absent": "", "X_launch_organization": "",
	} {
		if values := got.values(name); strings.Join(values, "|") != want || want == "" && values != nil {
			t.Errorf("got %s %q, want %q", name, values, want)
		}
	}
}
