package fhir_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

func TestParseInteraction(t *testing.T) {
	id64 := strings.Repeat("x", 64)
	tests := []struct {
		method, path string
		want         fhir.Interaction
		resourceType string
	}{
		// R4 http, 3.1.0: instance level.
		{"GET", "Patient/123", fhir.Read, "Patient"},
		{"HEAD", "Patient/123", fhir.Read, "Patient"},
		{"GET", "Patient/123/", fhir.Read, "Patient"},
		{"GET", "Patient/" + id64, fhir.Read, "Patient"},
		{"GET", "Binary/a.B-9", fhir.Read, "Binary"},
		{"GET", "Patient/metadata", fhir.Read, "Patient"},
		{"GET", "Patient/Task", fhir.Read, "Patient"},
		{"GET", "Patient/123/_history/1", fhir.Vread, "Patient"},
		{"HEAD", "Patient/123/_history/1", fhir.Vread, "Patient"},
		{"GET", "Patient/123/_history", fhir.HistoryInstance, "Patient"},
		{"PUT", "Patient/123", fhir.Update, "Patient"},
		{"PATCH", "Patient/123", fhir.Patch, "Patient"},
		{"DELETE", "Patient/123", fhir.Delete, "Patient"},
		{"DELETE", "Patient/123/_history", fhir.Delete, "Patient"},
		{"DELETE", "Patient/123/_history/1", fhir.Delete, "Patient"},

		// Type level; the last three are conditional.
		{"POST", "Patient", fhir.Create, "Patient"},
		{"POST", "Bundle", fhir.Create, "Bundle"},
		{"GET", "Patient", fhir.SearchType, "Patient"},
		{"GET", "Patient/", fhir.SearchType, "Patient"},
		{"POST", "Patient/_search", fhir.SearchType, "Patient"},
		{"GET", "Patient/_history", fhir.HistoryType, "Patient"},
		{"PUT", "Patient", fhir.Update, "Patient"},
		{"PATCH", "Patient", fhir.Patch, "Patient"},
		{"DELETE", "Patient", fhir.Delete, "Patient"},

		// System level.
		{"GET", "", fhir.SearchSystem, ""},
		{"POST", "_search", fhir.SearchSystem, ""},
		{"GET", "_history", fhir.HistorySystem, ""},
		{"POST", "", fhir.Transaction, ""},
		{"GET", "metadata", fhir.Capabilities, ""},
		{"HEAD", "metadata", fhir.Capabilities, ""},

		// Compartments.
		{"GET", "Patient/123/Task", fhir.SearchType, "Task"},
		{"POST", "Patient/123/Task/_search", fhir.SearchType, "Task"},
		{"GET", "Patient/123/*", fhir.SearchType, ""},
		{"GET", "Device/1/Observation", fhir.SearchType, "Observation"},
		{"GET", "Encounter/1/Observation", fhir.SearchType, "Observation"},
		{"GET", "RelatedPerson/1/Task", fhir.SearchType, "Task"},
		{"GET", "Practitioner/1/Task", fhir.SearchType, "Task"},

		// Operations.
		{"GET", "$meta", fhir.Operation, ""},
		{"POST", "$process-message", fhir.Operation, ""},
		{"POST", "Patient/$match", fhir.Operation, "Patient"},
		{"GET", "ValueSet/$expand", fhir.Operation, "ValueSet"},
		{"GET", "Patient/123/$everything", fhir.Operation, "Patient"},
		{"GET", "Group/1/$export", fhir.Operation, "Group"},
		{"POST", "Patient/123/%24everything", fhir.Operation, "Patient"},
	}
	for _, tt := range tests {
		got, resourceType := fhir.ParseInteraction(tt.method, tt.path)
		if got != tt.want || resourceType != tt.resourceType {
			t.Errorf("ParseInteraction(%s, %q) = %s %q, want %s %q",
				tt.method, tt.path, got, resourceType, tt.want, tt.resourceType)
		}
	}
}

func TestParseInteractionUnknown(t *testing.T) {
	requests := []string{
		// methods
		"OPTIONS ", "OPTIONS Patient", "TRACE Patient/1", "CONNECT ", "get Patient", " Patient", "QUERY Patient",
		// methods FHIR doesn't have at this place
		"PUT ", "PATCH ", "DELETE ", "PUT metadata", "POST metadata", "POST Patient/1", "POST Patient/1/Task",
		"GET _search", "GET Patient/_search", "PUT Patient/1/_history/1", "PATCH Patient/1/_history",
		"POST _history", "POST Patient/_history", "DELETE $expunge", "PUT Patient/1/$x", "DELETE Patient/1/Task",
		// segments that are no type, id or operation
		"GET patient", "GET P", "GET Patient1/1", "GET Pa_tient", "GET " + strings.Repeat("A", 65),
		"GET Patient/a_b", "GET Patient/" + strings.Repeat("x", 65), "GET Patient/é", "GET Patient/a b",
		"GET $", "GET %24", "GET Patient/1/$", "GET Patient/1/$a$b", "GET _metadata",
		"GET metadata/1", "GET metadata/x/y", "GET _history/1", "GET .well-known/smart-configuration",
		// dot segments, empty ones, encodings
		"GET Patient/..", "GET Patient/.", "GET ../Patient", "GET Patient/../Task", "GET Patient/1/../Task",
		"GET /", "GET //", "GET /Patient", "GET Patient//", "GET Patient//1", "GET Patient/1//", "POST /",
		"GET Patient%2F1", "GET Patient/%2e%2e", "GET %50atient/1", "GET Patient/1;x=y", "GET %24%24x",
		"GET Patient?x=y", "GET Patient/1#x", "GET Patient\\1", "GET Patient/1\x00",
		// too deep, or no compartment
		"GET Patient/1/_history/2/3", "GET Patient/1/_history/2/$meta", "GET Patient/1/Task/2",
		"POST Patient/1/Task/_search/x", "GET Group/1/Patient", "GET Organization/1/*", "GET */1", "GET *",
		"POST Patient/1/*/_search", "GET Patient/1/Task/_history", "GET Patient/$everything/1",
	}
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		if got, resourceType := fhir.ParseInteraction(method, path); got != fhir.Unknown || resourceType != "" {
			t.Errorf("ParseInteraction(%q, %q) = %s %q, want unknown", method, path, got, resourceType)
		}
	}
}

func TestParseInteractionDoesNotAllocate(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		fhir.ParseInteraction("GET", "Patient/123/Task")
		fhir.ParseInteraction("POST", "Patient/_search")
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// The grammar of FHIR R4 a second time, as expressions: slow, and easy to hold
// against the specification. The fuzz target compares the two.
var grammar = func() map[fhir.Interaction]*regexp.Regexp {
	const (
		base     = `^(?:%s)/?$`
		anyType  = `[A-Z][A-Za-z]{1,63}`
		id       = `(?:[A-Za-z0-9-][A-Za-z0-9.-]{0,63}|\.[A-Za-z0-9-][A-Za-z0-9.-]{0,62}|\.\.[A-Za-z0-9.-]{1,62})`
		instance = anyType + `/` + id
		within   = `(?:Patient|Encounter|RelatedPerson|Practitioner|Device)/` + id
		op       = `(?:\$|%24)` + id
	)
	m := map[fhir.Interaction]*regexp.Regexp{}
	for interaction, expr := range map[fhir.Interaction]string{
		fhir.Read:            `(?:GET|HEAD) ` + instance,
		fhir.Vread:           `(?:GET|HEAD) ` + instance + `/_history/` + id,
		fhir.HistoryInstance: `(?:GET|HEAD) ` + instance + `/_history`,
		fhir.HistoryType:     `(?:GET|HEAD) ` + anyType + `/_history`,
		fhir.HistorySystem:   `(?:GET|HEAD) _history`,
		fhir.Update:          `PUT ` + anyType + `(?:/` + id + `)?`,
		fhir.Patch:           `PATCH ` + anyType + `(?:/` + id + `)?`,
		fhir.Delete:          `DELETE ` + anyType + `(?:/` + id + `(?:/_history(?:/` + id + `)?)?)?`,
		fhir.Create:          `POST ` + anyType,
		fhir.SearchType: `(?:GET|HEAD) ` + anyType + `|POST ` + anyType + `/_search|` +
			`(?:GET|HEAD) ` + within + `/(?:` + anyType + `|\*)|POST ` + within + `/` + anyType + `/_search`,
		fhir.SearchSystem: `(?:GET|HEAD) |POST _search`,
		fhir.Capabilities: `(?:GET|HEAD) metadata`,
		fhir.Transaction:  `POST `,
		fhir.Operation:    `(?:GET|HEAD|POST) (?:` + instance + `/|` + anyType + `/)?` + op,
	} {
		m[interaction] = regexp.MustCompile(strings.Replace(base, "%s", expr, 1))
	}
	return m
}()

func FuzzParseInteraction(f *testing.F) {
	for _, path := range []string{
		"", "/", "metadata", "_search", "_history", "$op", "%24op", "Patient", "Patient/", "Patient//",
		"Patient/1", "Patient/_search", "Patient/_history", "Patient/$op", "Patient/1/_history",
		"Patient/1/_history/2", "Patient/1/$op", "Patient/1/Task", "Patient/1/*", "Patient/1/Task/_search",
		"Group/1/Task", "Patient/..", "Patient/...", "Patient/.a", "Patient/%2e%2e", "*", "a/b/c/d/e",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			f.Add(method, path)
		}
	}
	oneType := regexp.MustCompile(`^[A-Z][A-Za-z]{1,63}$`)
	f.Fuzz(func(t *testing.T, method, path string) {
		got, resourceType := fhir.ParseInteraction(method, path)
		if resourceType != "" && (!oneType.MatchString(resourceType) || !strings.Contains(path, resourceType)) {
			t.Fatalf("%s %q: got resource type %q, want one that stands in the path", method, path, resourceType)
		}
		want := fhir.Unknown
		for interaction, expr := range grammar {
			if path != "/" && expr.MatchString(method+" "+path) {
				want = interaction
			}
		}
		if got != want {
			t.Fatalf("ParseInteraction(%q, %q) = %s, want %s", method, path, got, want)
		}
		if got == fhir.Unknown && resourceType != "" {
			t.Fatalf("%s %q: got resource type %q for what is unknown, want none", method, path, resourceType)
		}
	})
}

func BenchmarkParseInteraction(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		fhir.ParseInteraction("GET", "Patient/123/_history/4")
	}
}
