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
)

// maxContextDepth bounds fhirContext items; FHIR References nest three deep.
const maxContextDepth = 16

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
	// A lone surrogate becomes U+FFFD without an error: a different text.
	if strings.Count(s, "\uFFFD") != strings.Count(string(raw), "\uFFFD")+
		strings.Count(strings.ToLower(string(raw)), `\ufffd`) {
		return "", errUnicode
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
	items := []json.RawMessage{raw}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, errType
		}
	}
	var list []string
	for _, item := range items {
		if isNull(item) {
			return nil, errType
		}
		s, err := text(item)
		if err != nil {
			return nil, err
		}
		if s != "" {
			list = append(list, s)
		}
	}
	return list, nil
}

// contextJSON writes fhirContext as a one-line ASCII JSON array of objects.
// It takes strings, objects, one of either, or JSON inside a string; a string
// becomes {"reference": …} (SMART App Launch before 2.1). dropped tells that
// something else stood there and was left out.
func contextJSON(raw json.RawMessage) (out string, dropped bool, err error) {
	if isNull(raw) {
		return "", false, nil
	}
	items := []json.RawMessage{raw}
	switch raw[0] {
	case '[':
		if err := json.Unmarshal(raw, &items); err != nil {
			return "", false, errType
		}
	case '"':
		inner, err := text(raw)
		if err != nil {
			return "", false, err
		}
		if trimmed := strings.TrimSpace(inner); trimmed != "" && strings.ContainsRune("[{", rune(trimmed[0])) {
			if !json.Valid([]byte(trimmed)) {
				return "", false, errType
			}
			return contextJSON(json.RawMessage(trimmed))
		}
	}
	var b strings.Builder
	for _, item := range items {
		ok, err := contextItem(&b, item)
		if err != nil {
			return "", false, err
		}
		dropped = dropped || !ok
	}
	if b.Len() == 0 {
		return "", dropped, nil
	}
	return "[" + b.String() + "]", dropped, nil
}

// contextItem appends one object to b and tells whether the item was usable.
func contextItem(b *strings.Builder, item json.RawMessage) (bool, error) {
	separate := func() {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
	}
	switch item[0] {
	case '"':
		reference, err := text(item)
		if err != nil || reference == "" {
			return false, err
		}
		separate()
		b.WriteString(`{"reference":`)
		quoteASCII(b, reference)
		b.WriteByte('}')
		return true, nil
	case '{':
		separate()
		dec := json.NewDecoder(bytes.NewReader(item))
		dec.UseNumber()
		return true, copyValue(b, dec, item, 0)
	default:
		return false, nil
	}
}

// copyValue writes the decoder's next value to b without blanks, in ASCII and
// in its order, and refuses what two readers could read in two ways.
func copyValue(b *strings.Builder, dec *json.Decoder, raw []byte, depth int) error {
	if depth > maxContextDepth {
		return errDepth
	}
	from := dec.InputOffset()
	t, err := dec.Token()
	if err != nil {
		return errType
	}
	switch v := t.(type) {
	case json.Delim:
		return copyComposite(b, dec, raw, v, depth)
	case string:
		if _, err := text(json.RawMessage(stringLiteral(raw[from:dec.InputOffset()]))); err != nil {
			return err
		}
		quoteASCII(b, v)
	case json.Number:
		b.WriteString(v.String())
	case bool:
		fmt.Fprintf(b, "%t", v)
	default:
		b.WriteString("null")
	}
	return nil
}

func copyComposite(b *strings.Builder, dec *json.Decoder, raw []byte, open json.Delim, depth int) error {
	b.WriteByte(byte(open))
	seen := make(map[string]bool)
	for first := true; dec.More(); first = false {
		if !first {
			b.WriteByte(',')
		}
		if open == '{' {
			from := dec.InputOffset()
			t, err := dec.Token()
			name, isName := t.(string)
			if err != nil || !isName {
				return errType
			}
			if _, err := text(json.RawMessage(stringLiteral(raw[from:dec.InputOffset()]))); err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("a name stands twice in an object")
			}
			seen[name] = true
			quoteASCII(b, name)
			b.WriteByte(':')
		}
		if err := copyValue(b, dec, raw, depth+1); err != nil {
			return err
		}
	}
	end, err := dec.Token()
	if err != nil {
		return errType
	}
	closing, _ := end.(json.Delim)
	b.WriteByte(byte(closing))
	return nil
}

// stringLiteral cuts the separators that InputOffset counts before a string.
func stringLiteral(raw []byte) []byte { return raw[bytes.IndexByte(raw, '"'):] }

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
