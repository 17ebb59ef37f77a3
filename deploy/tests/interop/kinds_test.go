package interop

import (
	"strings"
)

// kind is a request that every HTTP client sends twice, to the FHIR server and through
// the sidecar.
type kind struct {
	Name   string            `json:"name"`
	Method string            `json:"method"`
	Path   string            `json:"path"` // below the base, query included
	Header map[string]string `json:"header"`
	Body   string            `json:"body"`
	// Refused is the status that the sidecar gives where the FHIR server would not have
	// minded, and 0 where both must respond alike. docs/headers.md and docs/failures.md
	// say why.
	Refused int `json:"-"`
	// Cleaned says that some clients clean the path before they send it, which then is
	// another path.
	Cleaned bool `json:"-"`
	// Kept says that HAPI keeps its response for a minute, with the URLs of who asked first.
	Kept bool `json:"-"`
}

const (
	fhirJSON = "application/fhir+json"
	fhirXML  = "application/fhir+xml"
)

// with makes headers of name, value, name, value.
func with(pairs ...string) map[string]string {
	all := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

// kinds are the requests, in the order in which they are sent.
func kinds() []kind {
	all := append(reads(), searches()...)
	all = append(all, writes()...)
	all = append(all, others()...)
	return append(all, headers()...)
}

func reads() []kind {
	return []kind{
		{Name: "read", Method: "GET", Path: "/Patient/p1"},
		{Name: "read as XML by _format", Method: "GET", Path: "/Patient/p1?_format=xml"},
		{Name: "read as XML by Accept", Method: "GET", Path: "/Patient/p1", Header: with("Accept", fhirXML)},
		{Name: "read as JSON of another version", Method: "GET", Path: "/Patient/p1", Header: with("Accept", fhirJSON+"; fhirVersion=4.0")},
		{Name: "read as JSON with charset", Method: "GET", Path: "/Patient/p1", Header: with("Accept", fhirJSON+";charset=utf-8, */*;q=0.1")},
		{Name: "read pretty", Method: "GET", Path: "/Patient/p1?_pretty=true"},
		{Name: "read a summary", Method: "GET", Path: "/Patient/p1?_summary=true"},
		{Name: "read elements", Method: "GET", Path: "/Patient/p1?_elements=name,id"},
		{Name: "read a version", Method: "GET", Path: "/Patient/p1/_history/1"},
		{Name: "read a version that isn't there", Method: "GET", Path: "/Patient/p1/_history/99"},
		{Name: "history of an instance", Method: "GET", Path: "/Patient/p1/_history"},
		{Name: "history of a type", Method: "GET", Path: "/Patient/_history"},
		{Name: "read what isn't there", Method: "GET", Path: "/Patient/nobody"},
		{Name: "read an unknown type", Method: "GET", Path: "/Nonsense/1"},
		{Name: "read if changed, which it isn't", Method: "GET", Path: "/Patient/p1", Header: with("If-None-Match", `W/"1"`)},
		{Name: "read if changed, which it is", Method: "GET", Path: "/Patient/p1", Header: with("If-None-Match", `W/"7"`)},
		{Name: "read if modified since", Method: "GET", Path: "/Patient/p1", Header: with("If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT")},
		{Name: "HEAD of a read", Method: "HEAD", Path: "/Patient/p1"},
		{Name: "HEAD of what isn't there", Method: "HEAD", Path: "/Patient/nobody"},
		{Name: "read a range", Method: "GET", Path: "/Patient/p1", Header: with("Range", "bytes=0-9")},
		{Name: "read with an id of 64 characters", Method: "GET", Path: "/Patient/" + strings.Repeat("a", 64)},
		{Name: "read with a trailing slash", Method: "GET", Path: "/Patient/p1/"},
		{Name: "read with an escaped letter", Method: "GET", Path: "/Patient/%701"},
	}
}

func searches() []kind {
	form := "application/x-www-form-urlencoded"
	return []kind{
		{Name: "search all", Method: "GET", Path: "/Patient"},
		{Name: "search by name", Method: "GET", Path: "/Patient?family=Botje"},
		{Name: "search by id", Method: "GET", Path: "/Patient?_id=p2"},
		{Name: "search by reference", Method: "GET", Path: "/Observation?patient=Patient/p3"},
		{Name: "search by escaped reference", Method: "GET", Path: "/Observation?patient=Patient%2Fp3"},
		{Name: "search by URL", Method: "GET", Path: "/Observation?patient=http%3A%2F%2Fexample.org%2FPatient%2Fp3"},
		{Name: "search with a plus", Method: "GET", Path: "/Patient?family=Bot+je"},
		{Name: "search with UTF-8", Method: "GET", Path: "/Patient?family=M%C3%BCller"},
		{Name: "search with a comma and a pipe", Method: "GET", Path: "/Patient?_id=p1,p2%7Cx"},
		{Name: "search with an empty value", Method: "GET", Path: "/Patient?family="},
		{Name: "search with a parameter twice", Method: "GET", Path: "/Patient?_count=2&_count=3"},
		{Name: "search with a count", Method: "GET", Path: "/Patient?_count=2"},
		{Name: "search with an unknown parameter", Method: "GET", Path: "/Patient?nonsense=1"},
		{Name: "search with a modifier", Method: "GET", Path: "/Patient?family:exact=Botje"},
		{Name: "search with a dollar", Method: "GET", Path: "/Patient?family=%24everything"},
		{Name: "search for a total alone", Method: "GET", Path: "/Patient?_summary=count"},
		{Name: "search with six kilobytes", Method: "GET", Path: "/Patient?_id=" + strings.Repeat("p", 6000)},
		{Name: "search by POST", Method: "POST", Path: "/Patient/_search", Header: with("Content-Type", form), Body: "family=Botje"},
		{Name: "search by POST with a query", Method: "POST", Path: "/Patient/_search?_count=2", Header: with("Content-Type", form+"; charset=UTF-8"), Body: "family=Botje&_pretty=true"},
		{Name: "search by POST for nothing", Method: "POST", Path: "/Patient/_search", Header: with("Content-Type", form), Body: "family=Nobody"},
		{Name: "a page that is gone", Method: "GET", Path: "?_getpages=00000000-0000-0000-0000-000000000000&_getpagesoffset=3&_count=3"},
		{Name: "HEAD of a search", Method: "HEAD", Path: "/Patient"},
	}
}

func writes() []kind {
	sends := func(pairs ...string) map[string]string {
		return with(append([]string{"Content-Type", fhirJSON}, pairs...)...)
	}
	patient := `{"resourceType":"Patient","name":[{"family":"Jönsson"}]}`
	return []kind{
		{Name: "create", Method: "POST", Path: "/Patient", Header: sends(), Body: patient},
		{Name: "create with charset", Method: "POST", Path: "/Patient", Header: with("Content-Type", fhirJSON+"; charset=UTF-8"), Body: patient},
		{Name: "create in plain JSON", Method: "POST", Path: "/Patient", Header: with("Content-Type", "application/json"), Body: patient},
		{Name: "create in XML", Method: "POST", Path: "/Patient", Header: with("Content-Type", fhirXML), Body: `<Patient xmlns="http://hl7.org/fhir"><name><family value="Jönsson"/></name></Patient>`},
		{Name: "create, tell me nothing", Method: "POST", Path: "/Patient", Header: sends("Prefer", "return=minimal"), Body: patient},
		{Name: "create, tell me all", Method: "POST", Path: "/Patient", Header: sends("Prefer", "return=representation"), Body: patient},
		{Name: "create, tell me the outcome", Method: "POST", Path: "/Patient", Header: sends("Prefer", "return=OperationOutcome"), Body: patient},
		{Name: "create unless there is one", Method: "POST", Path: "/Patient", Header: sends("If-None-Exist", "family=Nobody"), Body: patient},
		{Name: "create of another type than the URL's", Method: "POST", Path: "/Patient", Header: sends(), Body: `{"resourceType":"Observation","status":"final"}`},
		{Name: "create from nothing", Method: "POST", Path: "/Patient", Header: sends()},
		{Name: "create from broken JSON", Method: "POST", Path: "/Patient", Header: sends(), Body: `{"resourceType":`},
		{Name: "create from plain text", Method: "POST", Path: "/Patient", Header: with("Content-Type", "text/plain"), Body: "hello"},
		{Name: "create a large one", Method: "POST", Path: "/Patient", Header: sends(), Body: `{"resourceType":"Patient","name":[{"text":"` + strings.Repeat("x", 1<<20) + `"}]}`},
		{Name: "update", Method: "PUT", Path: "/Patient/p4", Header: sends(), Body: `{"resourceType":"Patient","id":"p4","active":true}`},
		{Name: "update of the right version", Method: "PUT", Path: "/Patient/p4", Header: sends("If-Match", `W/"2"`), Body: `{"resourceType":"Patient","id":"p4","active":false}`},
		{Name: "update of a stale version", Method: "PUT", Path: "/Patient/p4", Header: sends("If-Match", `W/"1"`), Body: `{"resourceType":"Patient","id":"p4","active":true}`},
		{Name: "update that creates", Method: "PUT", Path: "/Patient/new", Header: sends(), Body: `{"resourceType":"Patient","id":"new"}`},
		{Name: "update with another id", Method: "PUT", Path: "/Patient/p4", Header: sends(), Body: `{"resourceType":"Patient","id":"p5"}`},
		{Name: "update by search", Method: "PUT", Path: "/Patient?family=Nobody", Header: sends(), Body: patient},
		{Name: "JSON patch", Method: "PATCH", Path: "/Patient/p4", Header: with("Content-Type", "application/json-patch+json"), Body: `[{"op":"replace","path":"/active","value":true}]`},
		{Name: "delete", Method: "DELETE", Path: "/Patient/p7"},
		{Name: "delete again", Method: "DELETE", Path: "/Patient/p7"},
		{Name: "read what was deleted", Method: "GET", Path: "/Patient/p7"},
		{Name: "delete by search", Method: "DELETE", Path: "/Patient?family=Nobody"},
		{Name: "create a Binary", Method: "POST", Path: "/Binary", Header: with("Content-Type", "image/x-own"), Body: "\x00\x01 bytes"},
		{Name: "read a Binary as it is", Method: "GET", Path: "/Binary/1", Header: with("Accept", "image/x-own")},
		{Name: "read a Binary as FHIR", Method: "GET", Path: "/Binary/1", Header: with("Accept", fhirJSON)},
	}
}

func others() []kind {
	return []kind{
		{Name: "metadata", Method: "GET", Path: "/metadata", Kept: true},
		{Name: "metadata as XML", Method: "GET", Path: "/metadata?_format=xml", Kept: true},
		{Name: "the base", Method: "GET", Path: ""},
		{Name: "the base with a slash", Method: "GET", Path: "/"},
		{Name: "history of all", Method: "GET", Path: "/_history"},
		{Name: "transaction", Method: "POST", Path: "", Header: with("Content-Type", fhirJSON), Body: `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Patient/p1"}}]}`},
		{Name: "transaction at the slash", Method: "POST", Path: "/", Header: with("Content-Type", fhirJSON), Body: `{"resourceType":"Bundle","type":"transaction"}`},
		{Name: "operation by GET", Method: "GET", Path: "/Patient/p1/$whoami", Header: with("X-Own", "1")},
		{Name: "operation with an escaped dollar", Method: "GET", Path: "/Patient/p1/%24whoami"},
		{Name: "operation by POST", Method: "POST", Path: "/$reflect", Header: with("Content-Type", fhirJSON), Body: `{"resourceType":"Parameters","parameter":[{"name":"a","valueString":"b"}]}`},
		{Name: "operation that isn't there", Method: "GET", Path: "/$nonsense"},
		{Name: "OPTIONS of the base", Method: "OPTIONS", Path: "", Kept: true},
		{Name: "OPTIONS of a type", Method: "OPTIONS", Path: "/Patient", Kept: true},
		{Name: "a preflight", Method: "OPTIONS", Path: "/Patient", Header: with("Origin", "https://app.example.org", "Access-Control-Request-Method", "GET")},
		{Name: "a dot segment", Method: "GET", Path: "/Patient/%2e%2e/metadata", Refused: 400, Cleaned: true, Kept: true},
		{Name: "an escaped slash", Method: "GET", Path: "/Patient%2Fp1", Refused: 400},
		{Name: "an empty segment", Method: "GET", Path: "//Patient", Refused: 400, Cleaned: true},
		{Name: "a method that isn't FHIR's", Method: "TRACE", Path: "/Patient", Refused: 405},
	}
}

func headers() []kind {
	many := map[string]string{}
	for _, letter := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		many["Own-"+letter] = strings.Repeat(letter, 50)
	}
	return []kind{
		{Name: "a request id", Method: "GET", Path: "/Patient/p1", Header: with("X-Request-Id", "my-own-id")},
		{Name: "no compression", Method: "GET", Path: "/Patient/p1", Header: with("Accept-Encoding", "identity")},
		{Name: "compression", Method: "GET", Path: "/Patient", Header: with("Accept-Encoding", "gzip")},
		{Name: "a cookie", Method: "GET", Path: "/Patient/p1", Header: with("Cookie", "a=b; c=d")},
		{Name: "many headers", Method: "GET", Path: "/Patient/p1", Header: many},
		{Name: "a large header", Method: "GET", Path: "/Patient/p1", Header: with("Own", strings.Repeat("x", 4000))},
		{Name: "an origin", Method: "GET", Path: "/Patient/p1", Header: with("Origin", "https://app.example.org")},
		{Name: "no cache", Method: "GET", Path: "/Patient/p1", Header: with("Cache-Control", "no-cache", "Pragma", "no-cache")},
		{Name: "a language", Method: "GET", Path: "/Patient/p1", Header: with("Accept-Language", "nl, en;q=0.5")},
		{Name: "an agent and a referrer", Method: "GET", Path: "/Patient/p1", Header: with("User-Agent", "interop", "Referer", "https://app.example.org/")},
		{Name: "a closing connection", Method: "GET", Path: "/Patient/p1", Header: with("Connection", "close")},
		{Name: "a bearer in lower case", Method: "GET", Path: "/Patient/p1", Header: with("Authorization", "bearer everything")},
		{Name: "another scheme", Method: "GET", Path: "/Patient/p1", Header: with("Authorization", "Basic YTpi"), Refused: 401},
		{Name: "an unknown token", Method: "GET", Path: "/Patient/p1", Header: with("Authorization", "Bearer junk"), Refused: 401},
		{Name: "a forged patient", Method: "GET", Path: "/Patient/p1", Header: with("X-Launch-Patient", "p2")},
		{Name: "a trace", Method: "GET", Path: "/Patient/p1", Header: with("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
	}
}
