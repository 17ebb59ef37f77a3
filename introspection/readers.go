package introspection

import (
	"encoding/json/jsontext"
	"strconv"
	"strings"
)

func readText(raw jsontext.Value) (string, bool, error) {
	s, err := JSONText(raw)
	return s, true, err
}

// readScope puts one space between scopes (RFC 6749 §3.3), and takes no other
// character for a space.
func readScope(raw jsontext.Value) (string, bool, error) {
	values, err := jsonTexts(raw)
	isSpace := func(r rune) bool { return r == ' ' }
	return strings.Join(strings.FieldsFunc(strings.Join(values, " "), isSpace), " "), true, err
}

func readAudience(raw jsontext.Value) (string, bool, error) {
	values, err := jsonTexts(raw)
	return strings.Join(values, audienceSeparator), true, err
}

func readPatient(raw jsontext.Value) (string, bool, error)   { return readID(raw, "Patient/") }
func readEncounter(raw jsontext.Value) (string, bool, error) { return readID(raw, "Encounter/") }

// readID reads a reference to a resource of one type as its bare id. Anything that
// names no resource of that type is unusable, because the FHIR server would
// take it for another one.
func readID(raw jsontext.Value, prefix string) (string, bool, error) {
	if !IsJSONNull(raw) && strings.Trim(string(raw), "0123456789") == "" {
		raw = jsontext.Value(`"` + string(raw) + `"`)
	}
	s, err := JSONText(raw)
	id := strings.TrimPrefix(s, prefix)
	if s == "" || isFHIRID(id) {
		return id, true, err
	}
	return "", false, err
}

// isFHIRID reports whether s is a FHIR id: [A-Za-z0-9\-\.]{1,64}.
func isFHIRID(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func readDate(raw jsontext.Value) (string, bool, error) {
	if IsJSONNull(raw) {
		return "", true, nil
	}
	seconds, err := ParseDate(raw)
	return strconv.FormatInt(seconds, 10), true, err
}

// readExtra reads a member that no claim stands for: strings, numbers and Booleans
// as their text, anything else as one line of ASCII JSON.
func readExtra(raw jsontext.Value) (string, bool, error) {
	switch raw.Kind() {
	case jsontext.KindString:
		return readText(raw)
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		var b strings.Builder
		err := copyJSON(&b, raw)
		// A header may be percent-decoded, and this one need not be: a percent sign
		// stands in strings only, which have another way to write it.
		return strings.ReplaceAll(b.String(), "%", `\u0025`), true, err
	case jsontext.KindNull, jsontext.KindInvalid:
		return "", true, nil
	}
	return string(raw), true, nil
}
