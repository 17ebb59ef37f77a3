package introspection

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/strictjson"
)

// maxContextDepth bounds fhirContext items; FHIR References nest three deep.
const maxContextDepth = 16

// contextJSON writes fhirContext as a one-line ASCII JSON array of objects.
// It takes strings, objects, one of either, or JSON inside a string; a string
// becomes {"reference": …} (SMART App Launch before 2.1). dropped tells that
// something else stood there and was left out.
func contextJSON(raw json.RawMessage) (out string, dropped bool, err error) {
	if strictjson.IsNull(raw) {
		return "", false, nil
	}
	if raw[0] == '"' {
		inner, err := strictjson.Text(raw)
		if err != nil {
			return "", false, err
		}
		if trimmed := strings.TrimSpace(inner); trimmed != "" && strings.ContainsRune("[{", rune(trimmed[0])) {
			if !json.Valid([]byte(trimmed)) {
				return "", false, strictjson.ErrType
			}
			return contextJSON(json.RawMessage(trimmed))
		}
	}
	items, err := strictjson.List(raw)
	if err != nil {
		return "", false, err
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
		reference, err := strictjson.Text(item)
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
		return strictjson.ErrDepth
	}
	from := dec.InputOffset()
	t, err := dec.Token()
	if err != nil {
		return strictjson.ErrType
	}
	switch v := t.(type) {
	case json.Delim:
		return copyComposite(b, dec, raw, v, depth)
	case string:
		if _, err := strictjson.Text(json.RawMessage(stringLiteral(raw[from:dec.InputOffset()]))); err != nil {
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
				return strictjson.ErrType
			}
			if _, err := strictjson.Text(json.RawMessage(stringLiteral(raw[from:dec.InputOffset()]))); err != nil {
				return err
			}
			if seen[name] {
				return strictjson.ErrTwice
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
		return strictjson.ErrType
	}
	closing, _ := end.(json.Delim)
	b.WriteByte(byte(closing))
	return nil
}

// stringLiteral cuts the separators that InputOffset counts before a string.
func stringLiteral(raw []byte) []byte { return raw[bytes.IndexByte(raw, '"'):] }
