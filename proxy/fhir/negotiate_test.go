package fhir_test

import (
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

func TestNegotiateFormatParameter(t *testing.T) {
	json := func(query string) { t.Helper(); wantFormat(t, fhir.JSON, query, "application/fhir+xml") }
	xml := func(query string) { t.Helper(); wantFormat(t, fhir.XML, query, "application/fhir+json") }
	neither := func(query string) {
		t.Helper()
		wantFormat(t, fhir.JSON, query, "application/fhir+json")
		wantFormat(t, fhir.XML, query, "application/fhir+xml")
	}

	json("_format=json")
	json("_format=JSON")
	json("_format=application/json")
	json("_format=application/fhir+json")
	json("_format=application%2Ffhir%2Bjson")
	json("_format=application/json+fhir")
	json("_format=text/json")
	json("_format=application/fhir%20json%3B%20fhirVersion%3D4.0")
	xml("_format=xml")
	xml("_format=application/xml")
	xml("_format=application/fhir+xml")
	xml("_format=application/fhir%2Bxml;fhirVersion=4.0")
	xml("_format=application/xml+fhir")
	xml("_format=text/xml")
	xml("_format=+xml+")

	xml("name=x&_format=xml&_count=5")
	xml("_format=ttl&_format=xml")                 // the first that is known
	xml("_format=xml&_format=json")                //
	xml("%5fformat=xml")                           // an encoded name is the same name
	xml("code=http://x|a;b&name=100%&_format=xml") // what url.ParseQuery refuses
	xml("_format=%zz&_format=xml")
	xml("&&=&_format=xml")
	xml(strings.Repeat("name=x&", 1000) + "_format=xml")

	neither("")
	neither("_format")
	neither("_format=")
	neither("_format=html")
	neither("_format=ttl")
	neither("_format=*/*")
	neither("_format=" + strings.Repeat("x", 10_000))
	neither("_Format=xml&_format:x=xml&format=xml") // other parameters
	neither("%zz=xml")
	neither("name=_format=xml")
}

func TestNegotiateAccept(t *testing.T) {
	json := func(accept ...string) { t.Helper(); wantFormat(t, fhir.JSON, "", accept...) }
	xml := func(accept ...string) { t.Helper(); wantFormat(t, fhir.XML, "", accept...) }

	json()
	json("")
	json("*/*")
	json("application/*")
	json("application/fhir+json")
	json("application/fhir+json; fhirVersion=4.0")
	json("application/json+fhir")
	json("text/html")
	json("image/png") // a Binary is asked for; the refusal is JSON all the same
	json("text/turtle", "application/fhir+turtle")
	json("application/vnd.api+xml")
	xml("application/fhir+xml")
	xml("APPLICATION/FHIR+XML; fhirVersion=4.0; charset=utf-8")
	xml("application/xml+fhir")
	xml("application/xml")
	xml("text/xml")
	xml("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8") // a browser

	// The highest weight, then the order.
	json("application/fhir+xml;q=0.8, application/fhir+json;q=0.9")
	json("application/fhir+xml;q=0.999, application/fhir+json")
	xml("application/fhir+json;q=0.8, application/fhir+xml;q=0.9")
	xml("application/fhir+json ; Q=0.8 , application/fhir+xml ; q=0.801")
	xml("application/fhir+json;q=0.8", "application/fhir+xml;q=0.9") // two fields are one list
	xml("application/fhir+xml, application/fhir+json")
	xml("application/fhir+xml, */*")
	json("application/fhir+json, application/fhir+xml")
	json("*/*, application/fhir+xml")
	json("application/fhir+xml;q=0.3, */*;q=0.5")

	// q=0 rules a format out.
	json("application/fhir+xml;q=0")
	json("application/fhir+xml;q=0.000, */*;q=0.1")
	xml("application/fhir+json;q=0, application/fhir+xml;q=0.001")
	xml("application/fhir+json;q=0.0, */*")
	xml("*/*, application/json;q=0.")
	json("application/fhir+json;q=0, application/fhir+xml;q=0, */*")
	json("*/*;q=0")

	// A broken element is skipped, the others count.
	xml("application/fhir+json;q=2, application/fhir+xml;q=0.1")
	xml("application/fhir+json;q=1.001, application/fhir+xml;q=0.1")
	xml("application/fhir+json;q=-1, application/fhir+xml;q=0.1")
	xml("application/fhir+json;q=, application/fhir+xml;q=0.1")
	xml("application/fhir+json;q=0.x, application/fhir+xml;q=0.1")
	xml("application/fhir+json;q=NaN, application/fhir+xml;q=0.1")
	xml(",, ;;, application/fhir+xml;;q=1")
	xml("application/fhir+json;q=0.87654321, application/fhir+xml;q=0.9") // a printed float

	// A quoted parameter hides what looks like another element.
	xml(`application/fhir+xml;profile="a,b;q=0", application/fhir+json;q=0.5`)
	json(`text/html;x="\", application/fhir+xml"`)
	json(`text/html;x=", application/fhir+xml`)
}

func TestNegotiateBoundsItsWork(t *testing.T) {
	wantFormat(t, fhir.JSON, "", strings.Repeat("text/html,", 32)+"application/fhir+xml")
	wantFormat(t, fhir.JSON, "", strings.Repeat(",", 1<<20)+"application/fhir+xml")
	wantFormat(t, fhir.JSON, "", "application/fhir+xml;x="+strings.Repeat("y", 1<<20))
	wantFormat(t, fhir.JSON, "", `"`+strings.Repeat(`\`, 1<<20))
	many := make([]string, 1000)
	many[999] = "application/fhir+xml"
	for i := range 999 {
		many[i] = "text/html"
	}
	wantFormat(t, fhir.JSON, "", many...)
}

func TestNegotiateDoesNotAllocate(t *testing.T) {
	accept := []string{"application/fhir+json;fhirVersion=4.0, application/json;q=0.9, */*;q=0.1"}
	n := testing.AllocsPerRun(100, func() { fhir.Negotiate("name=jan&_count=20", accept) })
	if n != 0 {
		t.Errorf("%v allocations for a plain request, want 0", n)
	}
}

func wantFormat(t *testing.T, want fhir.Format, query string, accept ...string) {
	t.Helper()
	if got := fhir.Negotiate(query, accept); got != want {
		t.Errorf("Negotiate(%.80q, %.120q) = %v, want %v", query, accept, got, want)
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("", "")
	f.Add("_format=xml", "*/*")
	f.Add("_format=application/fhir+xml;fhirVersion=4.0&a=%zz;", "application/json;q=0.5")
	f.Add("%5fformat=json&_format", "text/html,application/xml;q=0.9,*/*;q=0.8")
	f.Add("&=&", `application/fhir+xml;profile="a,\"b";q=0.001, ,;`)
	f.Add("x", "application/fhir+json;q=0,application/*;q=1.000")
	f.Fuzz(func(t *testing.T, query, accept string) {
		got := fhir.Negotiate(query, []string{accept})
		if got != fhir.JSON && got != fhir.XML {
			t.Fatalf("got %d, want JSON or XML", got)
		}
		// Nobody gets XML who wrote neither the word nor a ban on JSON.
		written := strings.ToLower(query + accept)
		if got == fhir.XML && !strings.ContainsAny(written, "%") &&
			!strings.Contains(written, "xml") && !strings.Contains(written, "json") {
			t.Fatalf("got XML for query %q and Accept %q, want JSON", query, accept)
		}
		// A known _format in front decides alone.
		if fhir.Negotiate("_format=xml&"+query, []string{accept}) != fhir.XML ||
			fhir.Negotiate("_format=json&"+query, []string{accept}) != fhir.JSON {
			t.Fatalf("query %q and Accept %q: got another format, want that of _format", query, accept)
		}
		if fhir.Negotiate(query, nil) == fhir.XML && got != fhir.XML {
			t.Fatalf("got JSON with Accept %q, want _format in %q to count", accept, query)
		}
	})
}
