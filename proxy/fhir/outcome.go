package fhir

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"unicode/utf8"
)

// IssueType is a code of the R4 value set issue-type: what kind of fault an
// OperationOutcome reports.
type IssueType string

// The issue types a proxy has a use for.
const (
	IssueLogin        IssueType = "login"         // the client must authenticate
	IssueInvalid      IssueType = "invalid"       // the request is malformed
	IssueForbidden    IssueType = "forbidden"     // authenticated, and not allowed
	IssueTransient    IssueType = "transient"     // a retry may succeed
	IssueTimeout      IssueType = "timeout"       // something behind the proxy was too slow
	IssueNotFound     IssueType = "not-found"     // nothing lives at this path
	IssueNotSupported IssueType = "not-supported" // the method is not served
	IssueProcessing   IssueType = "processing"    // what stands behind the proxy is set up wrongly
	IssueException    IssueType = "exception"     // a bug of the proxy itself
)

// replacement stands in for a character that FHIR text cannot hold.
const replacement = '\uFFFD'

// Outcome returns an R4 OperationOutcome with one issue of severity error.
//
// The same text comes out of both formats. What FHIR forbids in a string (R4
// datatypes, "string": control characters other than tab, line feed and
// carriage return) and what no encoder can write (invalid UTF-8) becomes
// U+FFFD. An empty text leaves details out, since FHIR has no empty strings.
func Outcome(format Format, code IssueType, text string) []byte {
	code, text = IssueType(printable(string(code))), printable(text)
	if format == XML {
		return outcomeXML(code, text)
	}
	return outcomeJSON(code, text)
}

func outcomeJSON(code IssueType, text string) []byte {
	b := []byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":`)
	b = appendJSON(b, string(code))
	if text != "" {
		b = append(b, `,"details":{"text":`...)
		b = appendJSON(b, text)
		b = append(b, '}')
	}
	return append(b, `}]}`...)
}

func appendJSON(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil { // cannot happen: every string has a JSON form
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

func outcomeXML(code IssueType, text string) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header + `<OperationOutcome xmlns="http://hl7.org/fhir"><issue><severity value="error"/><code value="`)
	escapeXML(&b, string(code))
	b.WriteString(`"/>`)
	if text != "" {
		b.WriteString(`<details><text value="`)
		escapeXML(&b, text)
		b.WriteString(`"/></details>`)
	}
	b.WriteString(`</issue></OperationOutcome>`)
	return b.Bytes()
}

// escapeXML also escapes tab and line ends, which an XML parser would turn
// into spaces inside an attribute (XML 1.0, 3.3.3).
func escapeXML(b *bytes.Buffer, s string) {
	_ = xml.EscapeText(b, []byte(s)) // a bytes.Buffer never fails to write
}

// printable returns s with every character that XML 1.0 or FHIR cannot hold
// replaced; s itself when there is none, which is the case for our own texts.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return replacement
		}
		return r // an invalid byte arrives here as U+FFFD already
	}, s)
}

func unprintable(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	case 0xFFFE, 0xFFFF: // not characters, XML 1.0, 2.2
		return true
	}
	return r < ' '
}
