package proxy

import (
	"strings"
	"testing"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// TestNeeds writes down what each interaction of FHIR R4 needs.
func TestNeeds(t *testing.T) {
	for _, tt := range []struct {
		request string // method, target below the base, headers
		want    string // as the challenge has it, "" for nothing, "-" for never
	}{
		{"GET Patient/1", "user/Patient.r"},
		{"HEAD Patient/1", "user/Patient.r"},
		{"GET Patient/1/_history/2", "user/Patient.r"},
		{"GET Patient/1/_history", "user/Patient.r"},
		{"GET Patient/_history", "user/Patient.s"},
		{"GET _history", "user/*.s"},
		{"PUT Patient/1", "user/Patient.u"},
		{"PUT Patient?identifier=x", "user/Patient.us"},
		{"PUT Patient/?identifier=x", "user/Patient.us"},
		{"PATCH Patient/1", "user/Patient.u"},
		{"PATCH Patient?identifier=x", "user/Patient.us"},
		{"DELETE Patient/1", "user/Patient.d"},
		{"DELETE Patient?identifier=x", "user/Patient.ds"},
		{"DELETE Patient/1/_history/2", "user/Patient.d"},
		{"POST Patient", "user/Patient.c"},
		{"POST Patient +If-None-Exist", "user/Patient.cs"},
		{"POST Bundle", "user/Bundle.c"},
		{"GET Patient", "user/Patient.s"},
		{"GET Patient/?name=x", "user/Patient.s"},
		{"GET Observation?_type=Patient", "user/Observation.s"},
		{"POST Patient/_search", "user/Patient.s"},
		{"GET Patient/1/Observation", "user/Observation.s"},
		{"POST Patient/1/Observation/_search", "user/Observation.s"},
		{"GET Patient/1/*", "user/*.s"},
		{"GET Binary/1", "user/Binary.r"},

		{"GET ?name=x", "user/*.s"},
		{"GET ?_type=Patient,Task", "user/Patient.s user/Task.s"},
		{"GET ?_type=Patient&_type=Task", "user/Patient.s user/Task.s"},
		{"GET ?%5Ftype=Patient", "user/Patient.s"},
		{"GET ?_type=Patient%2CTask", "user/Patient.s user/Task.s"},
		{"GET ?_type=Patient;x=1", "user/*.s"},
		{"GET ?_type=Patient&a;_type=Task", "user/*.s"},
		{"GET ?_type=", "user/*.s"},
		{"GET ?_type=Patient,", "user/*.s"},
		{"GET ?_type=*", "user/*.s"},
		{"GET ?_type=patient", "user/*.s"},
		{"GET ?_type=Patient/1", "user/*.s"},
		{"GET ?_type=Patient/", "user/*.s"},
		{"GET ?_type=metadata", "user/*.s"},
		{"GET ?_type:not=Patient", "user/*.s"},
		{"GET ?_TYPE=Patient", "user/*.s"},
		{"GET ?%zz=1&_type=Patient", "user/*.s"},
		{"GET ?_type=%zz", "user/*.s"},
		{"GET ?_getpages=abc&_getpagesoffset=10", "user/*.s"}, // any type will do, see below
		{"POST _search?_type=Patient", "user/*.s"},

		{"POST ", "user/*.cruds"},
		{"GET metadata", ""},

		{"GET Patient/1/$everything", "user/*.rs"},
		{"GET Patient/1/%24everything", "user/*.rs"},
		{"GET Patient/$everything/", "user/*.rs"},
		{"GET $export", "user/*.rs"},
		{"GET Group/1/$export", "user/*.rs"},
		{"POST $graphql", "user/*.rs"},
		{"POST Patient/$validate", "user/Patient.r"},
		{"POST Patient/$match", "user/Patient.s"},
		{"GET Observation/$lastn", "user/Observation.s"},
		{"GET ValueSet/$expand", "user/ValueSet.r"},
		{"POST Patient/1/$meta-add", "user/Patient.u"},
		{"POST $meta", "user/*.r"},

		{"POST Patient/1/$expunge", "-"},
		{"POST $reindex", "-"},
		{"POST $process-message", "-"},
		{"GET Patient/1/$Everything", "-"},
		{"GET patient/1", "-"},
		{"GET Patient/1/2", "-"},
		{"GET Group/1/Observation", "-"},
		{"GET Patient/%31", "-"},
		{"OPTIONS Patient", "-"},
		{"POST metadata", "-"},
	} {
		method, target, _ := strings.Cut(tt.request, " ")
		target, conditional := strings.CutSuffix(target, " +If-None-Exist")
		path, query, _ := strings.Cut(target, "?")
		n, ok := needs(method, path, query, conditional)
		got := "-"
		if ok {
			got = n.scopes(decode(t, `{"active":true}`))
		}
		if ok && n.permission == 0 {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%s needs %q, want %q", tt.request, got, tt.want)
		}
	}
}

func TestAllowedBy(t *testing.T) {
	for _, tt := range []struct {
		request, answer string
		want            bool
	}{
		{"GET Patient/1", `"scope":"user/Patient.r"`, true},
		{"GET Patient/1", `"scope":"user/Patient.s"`, false},
		{"GET Patient/1", `"scope":["openid","user/Patient.r"]`, true},
		{"GET Patient/1", `"x":0`, false},
		{"PUT Patient?a=b", `"scope":"user/Patient.u system/*.s"`, true},
		{"PUT Patient?a=b", `"scope":"user/Patient.u system/Task.s"`, false},
		{"POST ", `"scope":"system/*.cruds"`, true},
		{"POST ", `"scope":"system/*.crud system/Task.s"`, false},
		{"GET ?_type=Patient,Task", `"scope":"user/Patient.s"`, false},
		{"GET ?_type=Patient,Task", `"scope":"user/Patient.s user/Task.s"`, true},
		{"GET ?_getpages=x", `"scope":"user/Task.s"`, true},
		{"GET ?_getpages=x", `"scope":"user/Task.cr"`, false},
		{"GET Patient/1/$everything", `"scope":"user/Patient.rs"`, false},
		{"GET metadata", `"x":0`, true},
		{"GET Patient/1", `"scope":"user/*.cruds","patient":"2"`, true},

		// the patient context
		{"GET Observation", `"scope":"patient/*.rs","patient":"1"`, true},
		{"GET Observation", `"scope":"patient/*.rs"`, false},
		{"GET Observation", `"scope":"patient/*.rs user/Observation.s"`, true},
		{"GET Patient/1", `"scope":"patient/*.rs","patient":"Patient/1"`, true},
		{"GET Patient/2", `"scope":"patient/*.rs","patient":"1"`, false},
		{"GET Patient/2", `"scope":"patient/*.rs user/Patient.r","patient":"1"`, true},
		{"GET Patient/2/_history/1", `"scope":"patient/*.rs","patient":"1"`, false},
		{"GET Patient/1/Observation", `"scope":"patient/*.rs","patient":"1"`, true},
		{"GET Patient/2/Observation", `"scope":"patient/*.rs","patient":"1"`, false},
		{"GET Patient/2/*", `"scope":"patient/*.rs","patient":"1"`, false},
		{"GET Patient/2/$everything", `"scope":"patient/*.rs","patient":"1"`, false},
		{"GET Patient/_history", `"scope":"patient/*.rs","patient":"1"`, true},
		{"POST Patient/_search", `"scope":"patient/*.rs","patient":"1"`, true},
		{"POST Patient/$match", `"scope":"patient/*.rs","patient":"1"`, true},
		{"POST Patient/%24match", `"scope":"patient/*.rs","patient":"1"`, true},
	} {
		method, target, _ := strings.Cut(tt.request, " ")
		path, query, _ := strings.Cut(target, "?")
		n, ok := needs(method, path, query, false)
		if got := ok && n.allowedBy(decode(t, `{"active":true,`+tt.answer+`}`)); got != tt.want {
			t.Errorf("%s with %s: %v, want %v", tt.request, tt.answer, got, tt.want)
		}
	}
}

// TestInteractions sends requests with the seed's scopes, patient/*.read for
// patient 123, with the check and without it.
func TestInteractions(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		needed    string // "" when the scopes permit it, "-" when none would
	}{
		{"search", get("/fhir/Observation?code=x", bearerTOK), ""},
		{"read own patient", get("/fhir/Patient/123", bearerTOK), ""},
		{"read other patient", get("/fhir/Patient/124", bearerTOK), "patient/Patient.r"},
		{"create", message("POST", "/fhir/Task", "{}", bearerTOK), "patient/Task.c"},
		{"bundle", message("POST", "/fhir", "{}", bearerTOK), "patient/*.cruds"},
		{"condition", message("PUT", "/fhir/Task?x=secret", "{}", bearerTOK), "patient/Task.us"},
		{"unknown operation", message("POST", "/fhir/$secret", "{}", bearerTOK), "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStack(t, func(c *Config) { c.Interactions = true })
			a := s.do(tt.raw)
			if tt.needed == "" {
				if a.StatusCode != 200 {
					t.Errorf("status %d, want 200", a.StatusCode)
				}
				return
			}
			want := `Bearer realm="fhir", error="insufficient_scope", scope="` + tt.needed + `"`
			if tt.needed == "-" {
				want = `Bearer realm="fhir", error="insufficient_scope"`
				if !strings.Contains(a.body, `"not-supported"`) {
					t.Errorf("body: got %s, want issue code not-supported", a.body)
				}
			}
			if got := a.Header.Get("WWW-Authenticate"); a.StatusCode != 403 || got != want {
				t.Errorf("status %d, challenge %s, want 403, %s", a.StatusCode, got, want)
			}
			s.upstream.untouched()

			off := newStack(t)
			if a := off.do(tt.raw); a.StatusCode != 200 {
				t.Errorf("status %d without the check, want 200", a.StatusCode)
			}
		})
	}
}

// FuzzNeeds finds that no request needs nothing but metadata, that what writes
// needs the right to write, that a condition never needs less, and that what is
// needed can be written as a scope header: the types come from the client.
func FuzzNeeds(f *testing.F) {
	f.Add("GET", "Patient/1", "")
	f.Add("GET", "", "_type=Patient,Task")
	f.Add("POST", "Patient/1/%24everything", "a=b;c")
	f.Add("DELETE", "Patient/", "_getpages")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		n, ok := needs(method, path, query, false)
		interaction, resourceType := fhir.ParseInteraction(method, path)
		if ok && (n.permission == 0) != (interaction == fhir.Capabilities) || ok && interaction == fhir.Unknown {
			t.Errorf("%s %q: needs %q, want some, unless it is about capabilities", method, path, n.permission)
		}
		if resourceType != "" && n.types != resourceType && n.types != smart.EveryType {
			t.Errorf("%s %q: is about %s, want %s", method, path, n.types, resourceType)
		}
		if writes := writing[method]; interaction != fhir.Operation && interaction != fhir.SearchType && interaction != fhir.SearchSystem && n.permission&writes != writes {
			t.Errorf("%s %q: needs %q, want at least %q", method, path, n.permission, writes)
		}
		if c, _ := needs(method, path, query, true); n.permission&^c.permission != 0 {
			t.Errorf("%s %q: needs %q with a condition, want at least %q as without", method, path, c.permission, n.permission)
		}
		for _, c := range []byte(n.types) {
			if !isAlphanumeric(c) && c != ',' && c != '*' {
				t.Errorf("%s %q?%q: got types %q, want names of types", method, path, query, n.types)
			}
		}
	})
}

// writing is what a method needs at least, unless it searches or operates.
var writing = map[string]smart.Permission{
	"POST": smart.Create, "PUT": smart.Update, "PATCH": smart.Update, "DELETE": smart.Delete,
}
