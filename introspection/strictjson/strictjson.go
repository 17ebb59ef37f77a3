package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

var errNotObject = errors.New("not a JSON object")

// What can be wrong with a value.
var (
	ErrControl = errors.New("has a control character")
	ErrUnicode = errors.New("is not valid Unicode")
	ErrType    = errors.New("has the wrong JSON type")
	ErrDepth   = errors.New("is nested too deeply")
	ErrTwice   = errors.New("has a name twice in an object")
)

// Faults says which names were seen twice or in another case than the wanted one.
type Faults map[string]error

// Members splits one JSON object into the raw values of the wanted names.
// It fails on anything that is not exactly one well-formed object; doubtful
// names are reported aside, because whether they matter depends on the verdict.
func Members(raw []byte, wanted []string) (map[string]json.RawMessage, Faults, error) {
	if !utf8.Valid(raw) {
		return nil, nil, ErrUnicode
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errNotObject
	}
	values, doubtful := make(map[string]json.RawMessage), Faults{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, nil, errNotObject
		}
		name, _ := t.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, nil, errNotObject
		}
		known := match(name, wanted)
		switch {
		case known == "":
		case known != name:
			doubtful[known] = fmt.Errorf("%q stands in another case", known)
		case values[name] != nil:
			doubtful[known] = fmt.Errorf("%q stands twice", known)
		default:
			values[name] = value
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, errNotObject
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, nil, errors.New("bytes follow the JSON object")
	}
	return values, doubtful, nil
}

// match returns the wanted name that name is, in whatever case.
func match(name string, wanted []string) string {
	for _, w := range wanted {
		if len(w) <= len(name) && strings.EqualFold(name, w) {
			return w
		}
	}
	return ""
}

// IsNull reports whether a member is absent or null.
func IsNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// Text decodes a JSON string that may end up in a header. Absent and null are "".
func Text(raw json.RawMessage) (string, error) {
	if IsNull(raw) {
		return "", nil
	}
	if raw[0] != '"' {
		return "", ErrType
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", ErrType
	}
	// A lone surrogate becomes U+FFFD without an error: a different text. An
	// escaped backslash begins no escape of its own.
	if bytes.IndexByte(raw, '\\') >= 0 {
		escapes := strings.ToLower(strings.ReplaceAll(string(raw), `\\`, ""))
		if strings.Count(s, "\uFFFD") != strings.Count(escapes, "\uFFFD")+strings.Count(escapes, `\ufffd`) {
			return "", ErrUnicode
		}
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", ErrControl
	}
	return s, nil
}

// Texts decodes a JSON string or an array of strings. Empty ones are left out.
func Texts(raw json.RawMessage) ([]string, error) {
	if IsNull(raw) {
		return nil, nil
	}
	items, err := List(raw)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, item := range items {
		if IsNull(item) {
			return nil, ErrType
		}
		s, err := Text(item)
		if err != nil {
			return nil, err
		}
		if s != "" {
			texts = append(texts, s)
		}
	}
	return texts, nil
}

// List returns the items of a JSON array, or the one value that stands in its
// place. A RawMessage that Unmarshal finds in a slice is overwritten, so raw
// must not be in it.
func List(raw json.RawMessage) ([]json.RawMessage, error) {
	if raw[0] != '[' {
		return []json.RawMessage{raw}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, ErrType
	}
	return items, nil
}
