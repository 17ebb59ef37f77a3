package strictjson

import (
	"bytes"
	"encoding/json/jsontext"
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
// What nobody wants may stand there in any number and form.
func Members(raw []byte, wanted []string) (map[string]jsontext.Value, Faults, error) {
	if !utf8.Valid(raw) {
		return nil, nil, ErrUnicode
	}
	// The library would refuse a name that stands twice, wanted or not, and half a
	// surrogate pair anywhere.
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return nil, nil, errNotObject
	}
	values, doubtful := make(map[string]jsontext.Value), Faults{}
	for dec.PeekKind() != jsontext.KindEndObject {
		t, err := dec.ReadToken()
		if err != nil {
			return nil, nil, errNotObject
		}
		name := t.String()
		value, err := dec.ReadValue()
		if err != nil {
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
			values[name] = value.Clone()
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, nil, errNotObject
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
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
func IsNull(raw jsontext.Value) bool { return raw == nil || raw.Kind() == jsontext.KindNull }

// Text decodes a JSON string that may end up in a header. Absent and null are "".
func Text(raw jsontext.Value) (string, error) {
	s, err := AnyText(raw)
	if err == nil && strings.ContainsFunc(s, unicode.IsControl) {
		return "", ErrControl
	}
	return s, err
}

// AnyText decodes a JSON string that is written as JSON again, where control
// characters do no harm.
func AnyText(raw jsontext.Value) (string, error) {
	if IsNull(raw) {
		return "", nil
	}
	if raw.Kind() != jsontext.KindString {
		return "", ErrType
	}
	// Half a surrogate pair would become U+FFFD: a different text.
	s, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", ErrUnicode
	}
	return string(s), nil
}

// Texts decodes a JSON string or an array of strings. Empty ones are left out.
func Texts(raw jsontext.Value) ([]string, error) {
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
// place.
func List(raw jsontext.Value) ([]jsontext.Value, error) {
	if raw.Kind() != jsontext.KindBeginArray {
		return []jsontext.Value{raw}, nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, ErrType
	}
	var items []jsontext.Value
	for dec.PeekKind() != jsontext.KindEndArray {
		item, err := dec.ReadValue()
		if err != nil {
			return nil, ErrType
		}
		items = append(items, item.Clone())
	}
	return items, nil
}
