package clients

import (
	"cmp"
	"maps"
	"strings"
	"testing"
)

// calls are fetches from a page, and tell what the page may see of the responses.
const calls = `
	const all = [];
	for (const {url, init} of argument) {
		try {
			const response = await fetch(url, init);
			const text = await response.text();
			let body; try { body = JSON.parse(text) } catch { body = {} }
			const header = ["ETag", "Last-Modified", "Location", "WWW-Authenticate", "Retry-After", "X-Request-Id"].filter((name) => response.headers.has(name));
			all.push([response.status, body.resourceType, body.issue?.[0]?.code, ...header].join(" "));
		} catch (error) {
			all.push(error.message === "Failed to fetch" ? "blocked" : String(error));
		}
	}
	return all`

// row is a request, and what a page may see: "blocked", or the status with what follows.
type row struct {
	name, path, method, token, credentials string
	header                                 map[string]string
	want                                   string
}

// try sends the rows from a page.
func (w *world) try(t *testing.T, d *driver, page string, rows []row) {
	t.Helper()
	var requests []map[string]any
	for _, r := range rows {
		header := map[string]string{"Accept": "application/fhir+json"}
		maps.Copy(header, r.header)
		if r.token != "" {
			header["Authorization"] = "Bearer " + r.token
		}
		init := map[string]any{"method": r.method, "headers": header, "credentials": cmp.Or(r.credentials, "omit")}
		if r.method == "POST" || r.method == "PUT" || r.method == "PATCH" {
			init["body"] = `{"resourceType":"Patient"}`
		}
		target := w.base + "/" + r.path
		if strings.HasPrefix(r.path, "/") {
			target = strings.TrimSuffix(w.base, "/fhir") + r.path
		}
		requests = append(requests, map[string]any{"url": target, "init": init})
	}
	var got []string
	if err := d.run(t, page, calls, requests, &got); err != nil || len(got) != len(rows) {
		t.Fatalf("got %q, %v, want %d results", got, err, len(rows))
	}
	for i, r := range rows {
		if got[i] != r.want {
			t.Errorf("%s: got %q, want %q", r.name, got[i], r.want)
		}
	}
}

const (
	read    = "200 Patient  ETag Last-Modified"
	created = "201 Patient  ETag Last-Modified Location"
	noToken = "401 OperationOutcome login WWW-Authenticate X-Request-Id"
	tooFew  = "403 OperationOutcome forbidden WWW-Authenticate X-Request-Id"
	blocked = "blocked"
)

// ways are requests that a page of an origin makes that may read everything.
func ways() []row {
	fhirJSON := map[string]string{"Content-Type": "application/fhir+json"}
	return []row{
		{name: "read", path: "Patient/1", method: "GET", token: token, want: read},
		{name: "read with a header of one's own", path: "Patient/1", method: "GET", token: token, header: map[string]string{"X-Own": "1", "If-None-Match": `W/"2"`}, want: read},
		{name: "create", path: "Patient", method: "POST", token: token, header: fhirJSON, want: created},
		{name: "update", path: "Patient/1", method: "PUT", token: token, header: map[string]string{"Content-Type": "application/fhir+json", "If-Match": `W/"3"`}, want: read},
		{name: "patch", path: "Patient/1", method: "PATCH", token: token, header: map[string]string{"Content-Type": "application/json-patch+json"}, want: read},
		{name: "delete", path: "Patient/1", method: "DELETE", token: token, want: "204   ETag Last-Modified"},
		{name: "HEAD", path: "Patient/1", method: "HEAD", token: token, want: "200   ETag Last-Modified"},
		{name: "the FHIR server's own refusal", path: "Nothing/1", method: "GET", token: token, want: "404 OperationOutcome  ETag Last-Modified"},
		{name: "no token", path: "Patient/1", method: "GET", want: noToken},
		{name: "unknown token", path: "Patient/1", method: "GET", token: "unknown", want: noToken},
		{name: "another scope", path: "Patient/1", method: "GET", token: narrow, want: tooFew},
		{name: "another scope, update", path: "Patient/1", method: "PUT", token: narrow, header: fhirJSON, want: tooFew},
		{name: "outside the base", path: "/elsewhere", method: "GET", want: "404 OperationOutcome not-found X-Request-Id"},
		{name: "ambiguous path", path: "Patient//1", method: "GET", want: "400 OperationOutcome invalid X-Request-Id"},
	}
}

// with takes the rows as of another kind of request.
func with(rows []row, credentials, want string) []row {
	for i := range rows {
		rows[i].name += " with credentials " + credentials
		rows[i].credentials = credentials
		if want != "" {
			rows[i].want = want
		}
	}
	return rows
}

// A page of a listed origin reads everything, refusals too; one of another origin nothing.
func TestListedOrigins(t *testing.T) {
	d, app, other := newDriver(t), newApp(t), newApp(t)
	w := start(t, env{"SCOPE_ENFORCEMENT": "coarse", "CORS_ORIGINS": app + ",https://portal.example.org"})
	w.try(t, d, app+"/", ways())
	w.try(t, d, app+"/", with(ways(), "include", ""))
	before := len(w.fhir.asked())
	w.try(t, d, other+"/", with(ways(), "omit", blocked))
	w.try(t, d, other+"/", with(ways(), "include", blocked))
	if got := w.fhir.asked()[before:]; len(got) != 0 {
		t.Errorf("the FHIR server got %q from a page that may not ask, want nothing", got)
	}
	w.authority.fail()
	w.try(t, d, app+"/", []row{{name: "no verdict", path: "Patient/1", method: "GET", token: "fresh", want: "503 OperationOutcome transient Retry-After X-Request-Id"}})
}

// Every origin may read, none with credentials.
func TestEveryOrigin(t *testing.T) {
	d, app := newDriver(t), newApp(t)
	w := start(t, env{"SCOPE_ENFORCEMENT": "coarse", "CORS_ORIGINS": "*"})
	w.try(t, d, app+"/", ways())
	w.try(t, d, app+"/", with(ways(), "include", blocked))
}

// Without the setting preflights and responses are the FHIR server's, and refusals can
// be read by every page.
func TestForwardedPreflights(t *testing.T) {
	d, app := newDriver(t), newApp(t)
	w := start(t, nil)
	w.try(t, d, app+"/", []row{
		{name: "read", path: "Patient/1", method: "GET", token: token, want: blocked},
		{name: "no token", path: "Patient/1", method: "GET", want: "401 OperationOutcome login WWW-Authenticate X-Request-Id"},
		{name: "no token, credentials", path: "Patient/1", method: "GET", credentials: "include", want: blocked},
	})
	if got := w.fhir.asked(); len(got) != 1 || got[0] != "OPTIONS /fhir/Patient/1" {
		t.Errorf("the FHIR server got %q, want the one preflight", got)
	}
}

// fhirclient's own bundle launches, is sent to the authorization server, comes back with
// a token and reads.
func TestLaunchInTheBrowser(t *testing.T) {
	d, app := newDriver(t), newApp(t)
	for _, mode := range []string{"serve", "fallback"} {
		w := start(t, env{"SMART_CONFIGURATION": mode, "SMART_CAPABILITIES": "launch-standalone,client-public", "CORS_ORIGINS": app})
		var got struct {
			Error, Patient, Read string
			Pages                int
		}
		if err := d.run(t, app+"/launch?iss="+w.base, "", nil, &got); err != nil || got.Error != "" || got.Patient != "1" || got.Read != "1" || got.Pages != 2 {
			t.Errorf("%s: got %+v, %v, want patient 1 and two pages", mode, got, err)
		}
	}
}
