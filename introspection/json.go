package introspection

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

// encoding/json alone is too lenient for a verdict: it matches names whatever
// their case, lets the last duplicate win, ignores what follows the value in a
// stream and silently replaces broken UTF-8. The functions here don't.

var (
	errNotObject = errors.New("not a JSON object")
	errControl   = errors.New("has a control character")
	errUnicode   = errors.New("is not valid Unicode")
	errType      = errors.New("has the wrong JSON type")
	errDepth     = errors.New("is nested too deeply")
	errTwice     = errors.New("has a name twice in an object")
)

// faults says which names were seen twice or in another case than the wanted one.
type faults map[string]error

// members splits one JSON object into the raw values of the wanted names.
// It fails on anything that is not exactly one well-formed object; doubtful
// names are reported aside, because whether they matter depends on the verdict.
func members(raw []byte, wanted []string) (map[string]json.RawMessage, faults, error) {
	if !utf8.Valid(raw) {
		return nil, nil, errUnicode
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errNotObject
	}
	values, doubtful := make(map[string]json.RawMessage), faults{}
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

func isNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// text decodes a JSON string that may end up in a header. Absent and null are "".
func text(raw json.RawMessage) (string, error) {
	if isNull(raw) {
		return "", nil
	}
	if raw[0] != '"' {
		return "", errType
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errType
	}
	// A lone surrogate becomes U+FFFD without an error: a different text. An
	// escaped backslash begins no escape of its own.
	if bytes.IndexByte(raw, '\\') >= 0 {
		escapes := strings.ToLower(strings.ReplaceAll(string(raw), `\\`, ""))
		if strings.Count(s, "\uFFFD") != strings.Count(escapes, "\uFFFD")+strings.Count(escapes, `\ufffd`) {
			return "", errUnicode
		}
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", errControl
	}
	return s, nil
}

// texts decodes a JSON string or an array of strings. Empty ones are left out.
func texts(raw json.RawMessage) ([]string, error) {
	if isNull(raw) {
		return nil, nil
	}
	items, err := list(raw)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, item := range items {
		if isNull(item) {
			return nil, errType
		}
		s, err := text(item)
		if err != nil {
			return nil, err
		}
		if s != "" {
			texts = append(texts, s)
		}
	}
	return texts, nil
}

// list returns the items of a JSON array, or the one value that stands in its
// place. A RawMessage that Unmarshal finds in a slice is overwritten, so raw
// must not be in it.
func list(raw json.RawMessage) ([]json.RawMessage, error) {
	if raw[0] != '[' {
		return []json.RawMessage{raw}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, errType
	}
	return items, nil
}

// QuoteASCII returns s as a JSON string of printable ASCII (RFC 8259 §7), which
// can stand in a header as it is.
func QuoteASCII(s string) string {
	var b strings.Builder
	quoteASCII(&b, s)
	return b.String()
}

func quoteASCII(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
}
