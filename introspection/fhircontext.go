package introspection

import (
	"bytes"
	"encoding/json/jsontext"
	"strings"
)

// maxContextDepth bounds fhirContext items; FHIR References nest three deep.
const maxContextDepth = 16

// contextJSON writes fhirContext as a one-line ASCII JSON array of objects.
// It takes strings, objects, one of either, or JSON inside a string; a string
// becomes {"reference": …} (SMART App Launch before 2.1). It is not whole when
// something else stood there and was left out.
func contextJSON(raw jsontext.Value) (out string, whole bool, err error) {
	if IsJSONNull(raw) {
		return "", true, nil
	}
	if raw.Kind() == jsontext.KindString {
		inner, err := jsonAnyText(raw)
		if err != nil {
			return "", true, err
		}
		if trimmed := strings.TrimSpace(inner); trimmed != "" && strings.ContainsRune("[{", rune(trimmed[0])) {
			value := jsontext.Value(trimmed)
			if !value.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
				return "", true, errType
			}
			return contextJSON(value)
		}
	}
	items, err := jsonList(raw)
	if err != nil {
		return "", true, err
	}
	whole = true
	var b strings.Builder
	for _, item := range items {
		ok, err := contextItem(&b, item)
		if err != nil {
			return "", true, err
		}
		whole = whole && ok
	}
	if b.Len() == 0 {
		return "", whole, nil
	}
	return "[" + b.String() + "]", whole, nil
}

// contextItem appends one object to b and tells whether the item was usable.
func contextItem(b *strings.Builder, item jsontext.Value) (bool, error) {
	separate := func() {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
	}
	switch item.Kind() {
	case jsontext.KindString:
		reference, err := jsonAnyText(item)
		if err != nil || reference == "" {
			return false, err
		}
		separate()
		b.WriteString(`{"reference":`)
		quoteASCII(b, reference)
		b.WriteByte('}')
		return true, nil
	case jsontext.KindBeginObject:
		separate()
		return true, copyJSON(b, item)
	default:
		return false, nil
	}
}

// copyJSON writes a value to b on one line, in ASCII and in its order, and refuses
// what two readers could read in two ways.
func copyJSON(b *strings.Builder, raw jsontext.Value) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return copyValue(b, dec, 0)
}

// copyValue copies the decoder's next value.
func copyValue(b *strings.Builder, dec *jsontext.Decoder, depth int) error {
	if depth > maxContextDepth {
		return errDepth
	}
	if next := dec.PeekKind(); next == jsontext.KindBeginObject || next == jsontext.KindBeginArray {
		return copyComposite(b, dec, depth)
	}
	value, err := dec.ReadValue()
	if err != nil {
		return errType
	}
	if value.Kind() != jsontext.KindString {
		b.Write(value) // as it stands: a number isn't rounded
		return nil
	}
	s, err := jsonAnyText(value)
	quoteASCII(b, s)
	return err
}

func copyComposite(b *strings.Builder, dec *jsontext.Decoder, depth int) error {
	open, err := dec.ReadToken()
	if err != nil {
		return errType
	}
	isObject, seen := open.Kind() == jsontext.KindBeginObject, make(map[string]bool)
	b.WriteByte(byte(open.Kind()))
	for first := true; ; first = false {
		if next := dec.PeekKind(); next == jsontext.KindEndObject || next == jsontext.KindEndArray {
			end, err := dec.ReadToken()
			b.WriteByte(byte(end.Kind()))
			return err
		}
		if !first {
			b.WriteByte(',')
		}
		if isObject {
			if err := copyName(b, dec, seen); err != nil {
				return err
			}
		}
		if err := copyValue(b, dec, depth+1); err != nil {
			return err
		}
	}
}

func copyName(b *strings.Builder, dec *jsontext.Decoder, seen map[string]bool) error {
	raw, err := dec.ReadValue()
	if err != nil {
		return errType
	}
	name, err := jsonAnyText(raw)
	switch {
	case err != nil:
		return err
	case seen[name]:
		return errTwice
	}
	seen[name] = true
	quoteASCII(b, name)
	b.WriteByte(':')
	return nil
}
