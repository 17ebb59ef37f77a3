package fhir_test

import (
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var issueTypes = []fhir.IssueType{
	fhir.IssueLogin, fhir.IssueInvalid, fhir.IssueForbidden, fhir.IssueTransient,
	fhir.IssueTimeout, fhir.IssueNotFound, fhir.IssueNotSupported, fhir.IssueProcessing, fhir.IssueException,
}

func TestOutcomeGolden(t *testing.T) {
	tests := []struct {
		name string
		code fhir.IssueType
		text string
	}{
		{"login", fhir.IssueLogin, "Authentication required"},
		{"transient", fhir.IssueTransient, "The authorization server can't be asked now"},
		{"markup", fhir.IssueInvalid, `</text>"&'` + "<x a=\"b\">\\\u2028 \u00e9 \U0001F642"},
		{"whitespace", fhir.IssueException, "tab\there\nline\r\n two  blanks "},
		{"control", fhir.IssueException, "nul\x00 esc\x1b bad\xff utf8 \ufffe"},
		{"empty", fhir.IssueForbidden, ""},
	}
	for _, tt := range tests {
		for _, format := range []fhir.Format{fhir.JSON, fhir.XML} {
			name := tt.name + "." + format.String()
			t.Run(name, func(t *testing.T) {
				golden(t, name, fhir.Outcome(format, tt.code, tt.text))
			})
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatalf("os.WriteFile: got error %v, want none", err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("os.ReadFile: got error %v, want none", err)
	}
	if string(got) != string(want) {
		t.Errorf("body differs from %s\n got %s\nwant %s", path, got, want)
	}
}

func TestIssueTypesAreDistinctCodes(t *testing.T) {
	seen := map[fhir.IssueType]bool{}
	for _, code := range issueTypes {
		if seen[code] || code == "" || strings.ToLower(string(code)) != string(code) {
			t.Errorf("got issue type %q, want a FHIR code of its own", code)
		}
		seen[code] = true
	}
}

func TestFormat(t *testing.T) {
	var zero fhir.Format
	if zero != fhir.JSON {
		t.Errorf("zero Format is %v, want json", zero)
	}
	if got := fhir.JSON.MediaType(); got != "application/fhir+json" {
		t.Errorf("JSON.MediaType(): got %q, want application/fhir+json", got)
	}
	if got := fhir.XML.MediaType(); got != "application/fhir+xml" {
		t.Errorf("XML.MediaType(): got %q, want application/fhir+xml", got)
	}
	for _, f := range []fhir.Format{fhir.JSON, fhir.XML} {
		if got := fhir.Negotiate("", []string{f.MediaType()}); got != f {
			t.Errorf("Negotiate(Accept: %s): got %v, want %v", f.MediaType(), got, f)
		}
		if got := fhir.Negotiate("_format="+f.String(), nil); got != f {
			t.Errorf("Negotiate(_format=%v): got %v, want %[1]v", f, got)
		}
	}
}

// outcome is what a client's parser makes of a body.
type outcome struct{ severity, code, text string }

func parseJSON(t *testing.T, body []byte) outcome {
	t.Helper()
	var v struct {
		ResourceType string `json:"resourceType"`
		Issue        []struct {
			Severity string                `json:"severity"`
			Code     string                `json:"code"`
			Details  struct{ Text string } `json:"details"`
		} `json:"issue"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%q: got error %v, want JSON", body, err)
	}
	if v.ResourceType != "OperationOutcome" || len(v.Issue) != 1 {
		t.Fatalf("got %s, want an OperationOutcome with one issue", body)
	}
	return outcome{v.Issue[0].Severity, v.Issue[0].Code, v.Issue[0].Details.Text}
}

func parseXML(t *testing.T, body []byte) outcome {
	t.Helper()
	type value struct {
		Value string `xml:"value,attr"`
	}
	var v struct {
		XMLName xml.Name `xml:"http://hl7.org/fhir OperationOutcome"`
		Issue   []struct {
			Severity value `xml:"severity"`
			Code     value `xml:"code"`
			Text     value `xml:"details>text"`
		} `xml:"issue"`
	}
	if err := xml.Unmarshal(body, &v); err != nil {
		t.Fatalf("%q: got error %v, want XML", body, err)
	}
	if len(v.Issue) != 1 {
		t.Fatalf("%d issues, want 1: %s", len(v.Issue), body)
	}
	return outcome{v.Issue[0].Severity.Value, v.Issue[0].Code.Value, v.Issue[0].Text.Value}
}

func FuzzOutcome(f *testing.F) {
	for _, text := range []string{
		"", "Authentication required", `"/><x`, "]]>", "a\tb\nc\rd", "\x00\x1f\x7f\u0085",
		"\xff\xfe", "\ufffe\uffff\ufffd", "\u2028", "\U0010FFFF", `\u0000`, "&#0;",
	} {
		f.Add("login", text)
	}
	f.Add(`"/>`, "text")
	f.Fuzz(func(t *testing.T, code, text string) {
		fromJSON := parseJSON(t, fhir.Outcome(fhir.JSON, fhir.IssueType(code), text))
		fromXML := parseXML(t, fhir.Outcome(fhir.XML, fhir.IssueType(code), text))
		if fromJSON != fromXML {
			t.Fatalf("got XML %q, want the same as JSON, %q", fromXML, fromJSON)
		}
		if fromJSON.severity != "error" {
			t.Fatalf("got severity %q, want error", fromJSON.severity)
		}
		if writable(text) && fromJSON.text != text {
			t.Fatalf("got text %q, want %q", fromJSON.text, text)
		}
		if writable(code) && fromJSON.code != code {
			t.Fatalf("got code %q, want %q", fromJSON.code, code)
		}
		if n := utf8.RuneCountInString(text); n != utf8.RuneCountInString(fromJSON.text) {
			t.Fatalf("got text %q, want %d characters", fromJSON.text, n)
		}
	})
}

// writable tells whether FHIR can hold the text as it is.
func writable(s string) bool {
	for _, r := range s {
		if r < ' ' && !strings.ContainsRune("\t\n\r", r) || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return utf8.ValidString(s)
}
