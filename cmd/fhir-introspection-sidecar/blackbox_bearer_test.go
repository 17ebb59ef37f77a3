package main

import (
	"strings"
	"testing"
)

func TestBlackboxBearer(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	limit := strings.Repeat("l", 8192)
	w.as.AddToken(limit, nil)
	w.as.AddToken("NOOP", nil)
	const (
		noToken = "401 login none"
		bad     = "400 invalid invalid_request"
		invalid = "401 login invalid_token"
		parser  = "400" // net/http itself refuses
		ok      = "200"
	)
	for _, c := range []struct{ name, want, head string }{
		{"A01 nothing", noToken, ""},
		{"A02 lower case", ok, "authorization: bearer good"},
		{"A02 upper case", ok, "AUTHORIZATION: BEARER good"},
		{"A02 mixed", ok, "AuThOrIzAtIoN: BeArEr good"},
		{"A03 blanks around", ok, "Authorization:Bearer good \t"},
		{"A03 tab before", ok, "Authorization:\tBearer good"},
		{"A04 twice the same", bad, good + "\r\n" + good},
		{"A04 other case twice", bad, good + "\r\nauthorization: Bearer good"},
		{"A04 two schemes", bad, "Authorization: Basic dTpw\r\n" + good},
		{"A04 empty and good", bad, "Authorization:\r\n" + good},
		{"A06 list", bad, "Authorization: Bearer good, Bearer good"},
		{"A06 list without blank", invalid, "Authorization: Bearer good,good"},
		{"A06 three words", bad, "Authorization: Bearer Bearer good"},
		{"A07 empty header", "40x", "Authorization:"},
		{"A07 scheme only", bad, "Authorization: Bearer"},
		{"A07 scheme and blank", bad, "Authorization: Bearer "},
		{"A07 scheme and blanks", bad, "Authorization: Bearer     "},
		{"A08 two blanks", ok, "Authorization: Bearer  good"},
		{"A09 tab between", bad, "Authorization: Bearer\tgood"},
		{"A09 no-break space", bad, "Authorization: Bearer\xa0good"},
		{"A11 quote", invalid, `Authorization: Bearer "good"`},
		{"A11 semicolon", invalid, "Authorization: Bearer good;x"},
		{"A11 percent", invalid, "Authorization: Bearer go%6fd"},
		{"A11 ampersand", invalid, "Authorization: Bearer good&active=true"},
		{"A11 UTF-8", invalid, "Authorization: Bearer go\xc3\xb6d"},
		{"A11 0xff", invalid, "Authorization: Bearer good\xff"},
		{"A11 equals within", invalid, "Authorization: Bearer go=od"},
		{"A11 equals only", invalid, "Authorization: Bearer ="},
		{"A12 NUL", parser, "Authorization: Bearer go\x00od"},
		{"A12 CR", parser, "Authorization: Bearer go\rod"},
		{"A14 blank before colon", parser, "Authorization : Bearer good"},
		{"A14 underscore", parser + "|" + noToken, "Authorization_: Bearer good"},
		{"A15 limit", ok, "Authorization: Bearer " + limit},
		{"A15 limit + 1", invalid, "Authorization: Bearer " + limit + "l"},
		{"A15 limit + 1 by padding", invalid, "Authorization: Bearer " + limit + "="},
		{"A21 Basic", noToken, "Authorization: Basic dTpw"},
		{"A21 Digest", noToken, `Authorization: Digest username="u", realm="r"`},
		{"A21 Negotiate", noToken, "Authorization: Negotiate abc"},
		{"A21 Token", noToken, "Authorization: Token good"},
		{"A21 DPoP", noToken, "Authorization: DPoP good"},
		{"A21 Bearerx", noToken, "Authorization: Bearerx good"},
		{"A23 Proxy-Authorization", noToken, "Proxy-Authorization: Bearer good"},
		{"A24 cookie", noToken, "Cookie: access_token=good"},
		{"A24 X-Access-Token", noToken, "X-Access-Token: good"},
		{"A24 X-Authorization", noToken, "X-Authorization: Bearer good"},
		{"A24 websocket protocol", noToken, "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.Z29vZA"},
		{"A24 X-Forwarded-Authorization", noToken, "X-Forwarded-Authorization: Bearer good"},
		{"A28 the sidecar's own bearer", invalid, "Authorization: Bearer resource-server-token"},
		{"NOOP", invalid, "Authorization: Bearer NOOP"},
		{"fold", "40x|" + ok, "Authorization: Bearer\r\n good"},
		{"unknown token", invalid, "Authorization: Bearer unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			upstream, asked := w.up.count(), w.as.Introspections()
			raw := "GET /fhir/Patient HTTP/1.1\r\n" + host + "\r\n" + c.head + "\r\n\r\n"
			if c.head == "" {
				raw = request("GET /fhir/Patient")
			}
			a := w.send(t, raw)
			checkWant(t, a, c.want)
			if a.status != 200 && w.up.count() != upstream {
				t.Error("FHIR server got the request")
			}
			allowed := c.name == "unknown token" || strings.HasPrefix(c.name, "A28") || a.status == 200
			if !allowed && w.as.Introspections() != asked {
				t.Error("authorization server was asked")
			}
		})
	}
	if n := w.as.IntrospectionsOf("good"); n != 1 {
		t.Errorf("%d introspections for one token in many spellings", n)
	}
}

// checkWant checks "status" or "status code oauth"; several with | between.
func checkWant(t *testing.T, a *answer, want string) {
	t.Helper()
	for one := range strings.SplitSeq(want, "|") {
		f := strings.Fields(one)
		status := []string{"100", "200", "400", "401", "403", "404", "405", "431", "501", "502", "503", "504", "505"}
		for _, s := range status {
			if f[0] != s && !(f[0] == "40x" && (s == "400" || s == "401")) || a.status != number(s) {
				continue
			}
			if len(f) == 3 {
				a.refused(t, a.status, f[1], strings.TrimPrefix(f[2], "-"))
			}
			return
		}
	}
	t.Errorf("status %d, want %s: %v %.200s", a.status, want, a.header, a.body)
}

func number(s string) (n int) {
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

// A token in the query is never taken (RFC 6750 §2.3), and never both ways.
func TestBlackboxBearerInQuery(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, query := range []string{"access_token=good", "a=b&access_token=good", "access%5Ftoken=good", "a;access_token=good", "%61ccess_token=x", "access_token"} {
		t.Run(query, func(t *testing.T) {
			w.ask(t, "GET /fhir/Patient?"+query).refused(t, 401, "login", "none")
			w.ask(t, "GET /fhir/Patient?"+query, good).refused(t, 400, "invalid", "invalid_request")
		})
	}
	if w.up.count() != 0 || w.as.Introspections() != 0 {
		t.Error("a token in the query was used")
	}
	// A search parameter that only looks alike is the FHIR server's business.
	w.ask(t, "GET /fhir/Patient?my_access_token=x", good).is(t, 200)
}

// A form in the body isn't looked at for tokens (RFC 6750 §2.2).
func TestBlackboxBearerInForm(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.send(t, request("POST /fhir/Patient/_search", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 17")+"access_token=good").
		refused(t, 401, "login", "none")
}

func TestBlackboxBearerLaunchToken(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for name, token := range map[string]string{
		"aud string": "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJEZXZpY2UvMTIzIn0.c2ln",
		"aud array":  "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsiRGV2aWNlLzEyMyJdfQ.c2ln",
	} {
		w.as.AddToken(token, nil)
		w.ask(t, "GET /fhir/Patient", "Authorization: Bearer "+token).refused(t, 401, "login", "invalid_token")
		if w.as.IntrospectionsOf(token) != 0 {
			t.Errorf("%s: was introspected", name)
		}
	}
}
