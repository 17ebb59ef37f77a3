package introspection

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzDecodeResponse: nothing becomes a verdict that a lenient reader wouldn't
// read as one too, and nothing gets out that can't stand in a header.
func FuzzDecodeResponse(f *testing.F) {
	for _, seed := range []string{
		exampleOf2014,
		`{"active":false,"exp":null}`,
		`{"active":true}`,
		`{"active":false,"ACTIVE":true}`,
		`{"active":true,"active":false}`,
		`{"active":true} x`,
		`{"active":true,"exp":1.8e9,"nbf":0,"iat":"1789999998"}`,
		`{"active":true,"exp":"1790000300","aud":["a","b"],"scope":["x","y"],"azp":"c","cnf":{"jkt":"k"}}`,
		`{"active":true,"patient":"Patient/1","fhirUser":"Practitioner/2","encounter":3,"intent":"\ud83d\ude00 ü"}`,
		`{"active":true,"fhirContext":["Task/1",{"reference":"Task/2","x":[1.50,null,{"y":"é"}]},5]}`,
		`{"active":true,"fhirContext":"[{\"reference\":\"Task\/1\"}]"}`,
		`{"active":true,"sub":"\\ufffd \ud800"}`,
		`{"active":true,"ext":{"patient":"1","fhirContext":{"a":{"b":[[]]}}}}`,
		`{"active":true,"token_use":"refresh_token","typ":"ID"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		original := string(body)
		resp, err := decodeResponse(body, everyClaim, decodeTime)
		if string(body) != original {
			t.Fatal("the input was changed, want it left alone")
		}
		if (resp == nil) == (err == nil) || err != nil && !errors.Is(err, ErrInactive) && !errors.Is(err, ErrMalformed) {
			t.Fatalf("got %v (%v), want a response, inactive or malformed", resp, err)
		}
		if !errors.Is(err, ErrMalformed) && !json.Valid(body) {
			t.Fatal("got a verdict from what is no JSON, want malformed")
		}
		if err != nil {
			if len(err.Error()) > 120 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("got error %q, want a short one without control characters", err)
			}
			return
		}
		var lenient map[string]any
		if json.Unmarshal(body, &lenient) != nil || lenient["active"] != true {
			t.Fatalf("got an active response from %s, want active true in it", body)
		}
		for name, value := range lenient {
			if strings.EqualFold(name, "active") && value != true {
				t.Fatalf("got an active response although %s is %v, want malformed", name, value)
			}
		}
		checkTexts(t, resp)
		checkPacked(t, resp)
		if exp, ok := resp.ExpiresAt(); ok && (exp <= decodeTime.Unix() || resp.Text(Expires) != strconv.FormatInt(exp, 10)) {
			t.Fatalf("got exp %d and text %s, want one to come, and the same", exp, resp.Text(Expires))
		}
	})
}

func checkTexts(t *testing.T, resp *Response) {
	t.Helper()
	for c := range claimCount {
		text := resp.Text(c)
		if c == Audience {
			text = strings.ReplaceAll(text, audienceSeparator, "")
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Fatalf("claim %d: got %q, want text without control characters", c, text)
		}
		if resp.Unusable(c) && c != FHIRContext && text != "" {
			t.Fatalf("claim %d is unusable, and yet %q, want it empty", c, text)
		}
	}
	for _, c := range []Claim{Patient, Encounter} {
		if id := resp.Text(c); id != "" && !isFHIRID(id) {
			t.Fatalf("got id %q, want a FHIR id", id)
		}
	}
	for audience := range resp.Audiences() {
		if audience == "" {
			t.Fatal("got an empty audience, want none")
		}
	}
	context := resp.Text(FHIRContext)
	if context == "" {
		return
	}
	var items []map[string]any
	if strings.ContainsFunc(context, func(r rune) bool { return r < ' ' || r > '~' }) ||
		json.Unmarshal([]byte(context), &items) != nil || len(items) == 0 {
		t.Fatalf("got context %q, want a list with items", context)
	}
	for _, item := range items {
		if item == nil {
			t.Fatalf("got context %q, want no null", context)
		}
	}
}

// FuzzParseDate: a date is a JSON number or a string of digits, rounded down.
func FuzzParseDate(f *testing.F) {
	for _, seed := range []string{
		`1790000300`, `"1790000300"`, `1.5`, `-1.5`, `1e400`, `-1e300`, `1e9`, `1E+09`, `""`, `"1.5"`, `"-1"`, `"\u0031"`,
		`999999999999`, `1000000000000`, `99999999999999`, `100000000000000`, `9223372036854775807`, `9223372036854775808`, `-0`, `{}`, `[1]`, `true`, `"1e9"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.Trim(text, " \t\r\n") // as members hands it over
		if !json.Valid([]byte(text)) || text == "null" {
			t.Skip("no JSON value")
		}
		got, err := ParseDate(json.RawMessage(text))
		digits := strings.Trim(text, `"`)
		number, numErr := strconv.ParseFloat(digits, 64)
		isDigits := text[0] == '"' && digits != "" && strings.Trim(digits, "0123456789") == "" && len(digits)+2 == len(text)
		isNumber := text[0] == '-' || text[0] >= '0' && text[0] <= '9'
		switch {
		case err == nil && (!isDigits && !isNumber || numErr != nil):
			t.Fatalf("%s: got %d, want an error", text, got)
		case err != nil && (isDigits || isNumber) && numErr == nil && (number < 1e12 || number >= 1e14):
			t.Fatalf("%s: got error %v, want a date", text, err)
		case err == nil && number < 1e12 && number > -1e12 && (float64(got) > number || float64(got) <= number-1):
			t.Fatalf("%s: got %d, want whole seconds of it", text, got)
		case err == nil && number >= 1e12 && (number < 1e14 || got < 1e14):
			t.Fatalf("%s: got %d, want milliseconds taken for what they are", text, got)
		case err == nil && number < 0 && got > 0:
			t.Fatalf("%s: got %d, want it before 1970", text, got)
		}
	})
}

// FuzzQuoteASCII: what is quoted can stand in a header and reads as what it was.
func FuzzQuoteASCII(f *testing.F) {
	for _, seed := range []string{"", "a", `"\/`, "\x00\r\n\x7f", "ü", "\u2028", "😀", "\U0010FFFF", "\xff", "\xed\xa0\x80", "<&>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := QuoteASCII(s)
		if strings.ContainsFunc(quoted, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("got %q, want printable ASCII", quoted)
		}
		var back string
		if err := json.Unmarshal([]byte(quoted), &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Fatalf("%q: got %s (%v), want what decodes to it", s, quoted, err)
		}
		if !utf8.ValidString(s) && len([]rune(back)) != len([]rune(s)) {
			t.Fatalf("%q: got %s, want as many characters", s, quoted)
		}
	})
}
