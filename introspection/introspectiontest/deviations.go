package introspectiontest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Verdict is what a careful client makes of a response.
type Verdict string

// The verdicts. Unavailable covers every response that says nothing about the
// token: to take one for inactive would log users out in an outage, to take one
// for active would let everybody in.
const (
	Active      Verdict = "active"
	Inactive    Verdict = "inactive"
	Unavailable Verdict = "unavailable"
)

// Deviation is a way in which servers have been seen to answer.
type Deviation struct {
	Name    string
	Verdict Verdict
	// Answer assumes a token that was added with Server.Claims.
	Answer Answer
}

// Deviations returns the deviations known, in a fixed order. Verdicts are those
// for a client that wants JSON, reads at most 256 KiB of it, believes neither
// exp beyond the year 5000 nor a confirmation (cnf, RFC 7800) it can't check,
// and lets clocks differ by a few seconds.
func Deviations() []Deviation {
	var all []Deviation
	for _, group := range [][]Deviation{
		expiry(), activity(), audienceAndScope(), launchContext(), kind(), text(), transfer(), status(),
	} {
		all = append(all, group...)
	}
	return all
}

// set gives a member another value.
func set(member string, value any) Answer {
	return Change(func(m map[string]any) { m[member] = value })
}

// move renames a member.
func move(from, to string) Answer {
	return Change(func(m map[string]any) { m[to] = m[from]; delete(m, from) })
}

// exp rewrites the expiry, given in seconds.
func exp(rewrite func(seconds int64) any) Answer {
	return Change(func(m map[string]any) {
		seconds, _ := strconv.ParseInt(fmt.Sprint(m["exp"]), 10, 64)
		m["exp"] = rewrite(seconds)
	})
}

func expiry() []Deviation {
	return []Deviation{
		{"exp as digits in a string", Active, exp(func(s int64) any { return strconv.FormatInt(s, 10) })},
		{"exp with a fraction", Active, exp(func(s int64) any { return float64(s) + 0.5 })},
		{"exp with an exponent", Active, exp(func(s int64) any {
			return json.Number(strconv.FormatFloat(float64(s), 'e', -1, 64))
		})},
		{"exp missing", Active, Change(func(m map[string]any) { delete(m, "exp") })},
		{"expires_in instead of exp", Active, Change(func(m map[string]any) { delete(m, "exp"); m["expires_in"] = 3600 })},
		{"exp passed", Inactive, exp(func(s int64) any { return s - 7200 })},
		{"exp zero", Inactive, set("exp", 0)},
		{"exp in milliseconds", Unavailable, exp(func(s int64) any { return s * 1000 })},
		{"exp beyond any integer", Unavailable, set("exp", json.Number("1e400"))},
		{"exp as an object", Unavailable, exp(func(s int64) any {
			return map[string]any{"date": time.Unix(s, 0).UTC().Format(time.DateTime), "timezone": "UTC"}
		})},
		{"exp as ISO 8601", Unavailable, exp(func(s int64) any { return time.Unix(s, 0).UTC().Format(time.RFC3339) })},
		{"exp as true", Unavailable, set("exp", true)},
		{"iat two seconds ahead", Active, Change(ahead("iat"))},
		{"nbf two seconds ahead", Active, Change(ahead("nbf"))},
		{"nbf zero", Active, set("nbf", 0)},
	}
}

// ahead is a server whose clock runs two seconds fast; nbf equals iat on such.
func ahead(member string) func(map[string]any) {
	return func(m map[string]any) {
		seconds, _ := strconv.ParseInt(fmt.Sprint(m["iat"]), 10, 64)
		m[member] = seconds + 2
	}
}

func activity() []Deviation {
	return []Deviation{
		{"active as the string true", Unavailable, set("active", "true")},
		{"active as the string false", Unavailable, set("active", "false")},
		{"active as a number", Unavailable, set("active", 1)},
		{"active null", Unavailable, set("active", nil)},
		{"active missing", Unavailable, Change(func(m map[string]any) { delete(m, "active") })},
		{"active in an envelope", Unavailable, Rewrite("application/json", func(b string) string { return `{"data":` + b + `}` })},
		{"active and nothing else", Active, Respond(http.StatusOK, jsonType(), `{"active":true}`)},
		{"inactive with all members", Inactive, set("active", false)},
		{"inactive with null members", Inactive, Respond(http.StatusOK, jsonType(),
			`{"active":false,"exp":null,"aud":null,"scope":null,"patient":null}`)},
		{"error with status 200", Unavailable, Respond(http.StatusOK, jsonType(), `{"error":"server_error"}`)},
	}
}

func audienceAndScope() []Deviation {
	return []Deviation{
		{"aud as an array", Active, Change(func(m map[string]any) { m["aud"] = []any{m["aud"], "fhir-server"} })},
		{"aud as an empty array", Active, set("aud", []any{})},
		{"aud null", Active, set("aud", nil)},
		{"scope as an array", Active, Change(func(m map[string]any) { m["scope"] = strings.Fields(m["scope"].(string)) })},
		{"scope null", Active, set("scope", nil)},
		{"scope empty", Active, set("scope", "")},
		{"azp instead of client_id", Active, move("client_id", "azp")},
		{"iss with a slash at its end", Active, Change(func(m map[string]any) { m["iss"] = fmt.Sprint(m["iss"], "/") })},
		{"claims nobody knows", Active, set("x", map[string]any{"n": json.Number("123456789012345678901234567890"), "l": []any{nil}})},
	}
}

func launchContext() []Deviation {
	reference := map[string]any{"reference": "Task/55"}
	return []Deviation{
		{"patient as a reference", Active, Change(func(m map[string]any) { m["patient"] = fmt.Sprint("Patient/", m["patient"]) })},
		{"fhirUser instead of user", Active, move("user", "fhirUser")},
		{"fhirContext of objects", Active, set("fhirContext", []any{reference})},
		{"fhirContext as one object", Active, set("fhirContext", reference)},
		{"fhirContext null", Active, set("fhirContext", nil)},
		{"launch claims below ext", Active, Change(func(m map[string]any) { // Ory Hydra
			ext := map[string]any{}
			for _, name := range []string{"user", "patient", "fhirContext", "intent"} {
				ext[name] = m[name]
				delete(m, name)
			}
			m["ext"] = ext
		})},
		{"intent beyond ASCII", Active, set("intent", "überprüfen 100%")},
		{"line break in a claim", Unavailable, set("intent", "view\r\nX-Launch-Patient: 999")},
	}
}

// kind are tokens that are genuine, but no access tokens.
func kind() []Deviation {
	return []Deviation{
		{"refresh token by token_use", Inactive, set("token_use", "refresh_token")}, // Ory Hydra
		{"refresh token by token_type", Inactive, set("token_type", "refresh_token")},
		{"refresh token by typ", Inactive, set("typ", "Refresh")}, // Keycloak
		{"id token by typ", Inactive, set("typ", "ID")},           // Keycloak
		{"token bound to a key", Inactive, set("cnf", map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})},
		{"token_type in lower case", Active, set("token_type", "bearer")},
	}
}

func jsonType() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// text are answers whose JSON or media type is off.
func text() []Deviation {
	same := func(b string) string { return b }
	asJSON := func(rewrite func(string) string) Answer { return Rewrite("application/json", rewrite) }
	return []Deviation{
		{"charset utf-8", Active, Rewrite("application/json;charset=UTF-8", same)},
		{"no Content-Type", Active, Rewrite("", same)},
		{"byte order mark", Unavailable, asJSON(func(b string) string { return "\ufeff" + b })},
		{"white space around", Active, asJSON(func(b string) string { return "\r\n  " + b + "\r\n" })},
		{"charset utf-16", Unavailable, Rewrite("application/json; charset=utf-16", same)},
		{"charset iso-8859-1", Unavailable, Rewrite("application/json;charset=ISO-8859-1", same)},
		{"JSON as text/plain", Unavailable, Rewrite("text/plain", same)},
		{"JWT answer", Unavailable, Respond(http.StatusOK, // RFC 9701, which nobody asked for
			http.Header{"Content-Type": {"application/token-introspection+jwt"}}, "eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.")},
		{"HTML page", Unavailable, Respond(http.StatusOK, htmlType(), "<!DOCTYPE html><title>Log in</title>")},
		{"HTML page called JSON", Unavailable, Respond(http.StatusOK, jsonType(), "<!DOCTYPE html><title>Log in</title>")},
		{"empty body", Unavailable, Respond(http.StatusOK, jsonType(), "")},
		{"null", Unavailable, Respond(http.StatusOK, jsonType(), "null")},
		{"array", Unavailable, asJSON(func(b string) string { return "[" + b + "]" })},
		{"cut off", Unavailable, asJSON(func(b string) string { return b[:len(b)-1] })},
		{"trailing garbage", Unavailable, asJSON(func(b string) string { return b + "garbage" })},
		{"two objects", Unavailable, asJSON(func(b string) string { return b + b })},
		// Go's decoder lets the last of these win, whatever its case.
		{"active twice", Unavailable, asJSON(func(b string) string { return `{"active":false,` + b[1:] })},
		{"active again in capitals", Unavailable, asJSON(func(b string) string { return b[:len(b)-1] + `,"ACTIVE":false}` })},
		{"active in capitals only", Unavailable, Respond(http.StatusOK, jsonType(), `{"ACTIVE":true}`)},
		{"patient twice", Unavailable, asJSON(func(b string) string { return b[:len(b)-1] + `,"patient":"999"}` })},
		{"exp again in other case", Unavailable, asJSON(func(b string) string { return b[:len(b)-1] + `,"Exp":99999999999}` })},
	}
}

func htmlType() http.Header { return http.Header{"Content-Type": {"text/html; charset=utf-8"}} }

// transfer are answers whose way over the wire is unusual or breaks.
func transfer() []Deviation {
	pad := func(b string) string { return b[:len(b)-1] + `,"pad":"` + strings.Repeat("x", 2<<20) + `"}` }
	return []Deviation{
		{"gzip", Active, compressed(func(b string) string { return b })},
		{"chunked", Active, chunked},
		{"gzip of a huge body", Unavailable, compressed(pad)},
		{"huge body", Unavailable, Rewrite("application/json", pad)},
		{"connection reset", Unavailable, Reset()},
		{"connection reset within the body", Unavailable, ResetMidBody()},
	}
}

func status() []Deviation {
	body := `{"error":"odd","active":true}` // nothing outside 200 is to be believed
	all := []Deviation{
		{"204", Unavailable, Respond(http.StatusNoContent, nil, "")},
		{"302 to a login page", Unavailable, Respond(http.StatusFound, http.Header{"Location": {followedPath}}, "")},
		{"307 to another endpoint", Unavailable, Respond(http.StatusTemporaryRedirect, http.Header{"Location": {followedPath}}, "")},
		{"401 in HTML", Unavailable, Respond(http.StatusUnauthorized, htmlType(), "Access Denied")},
		{"429 with Retry-After", Unavailable, Respond(http.StatusTooManyRequests, http.Header{"Retry-After": {"7"}}, "")},
	}
	for _, code := range []int{201, 400, 401, 403, 404, 500, 503} {
		all = append(all, Deviation{strconv.Itoa(code), Unavailable, Respond(code, jsonType(), body)})
	}
	return all
}
