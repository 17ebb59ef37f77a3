package introspection

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

// JSON that decides something is read here. Tokens are encoding/json/jsontext's; the
// rules for the names of members are our own: encoding/json lets the last of two win and
// takes a name in any case, and encoding/json/v2 refuses two of any name and overlooks
// one in another case. Here a member that is wanted stands once and is spelled exactly,
// and what nobody wants does no harm.

var errNotObject = errors.New("not a JSON object")

// What can be wrong with a value.
var (
	errControl = errors.New("has a control character")
	errUnicode = errors.New("is not valid Unicode")
	errType    = errors.New("has the wrong JSON type")
	errDepth   = errors.New("is nested too deeply")
	errTwice   = errors.New("has a name twice in an object")
)

// JSONMembers splits one JSON object into the raw values of the wanted names.
// It fails on anything that is not exactly one well-formed object. Names that were seen
// twice, or in another case than the wanted one, are in doubtful, because whether they
// matter depends on the verdict. What nobody wants may stand there in any number and
// form.
func JSONMembers(raw []byte, wanted []string) (values map[string]jsontext.Value, doubtful map[string]error, err error) {
	if !utf8.Valid(raw) {
		return nil, nil, errUnicode
	}
	// The library would refuse a name that stands twice, wanted or not, and half a
	// surrogate pair anywhere.
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return nil, nil, errNotObject
	}
	values, doubtful = make(map[string]jsontext.Value), map[string]error{}
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

// IsJSONNull reports whether a member is absent or null.
func IsJSONNull(raw jsontext.Value) bool { return raw == nil || raw.Kind() == jsontext.KindNull }

// JSONText decodes a JSON string that may end up in a header. Absent and null are "".
func JSONText(raw jsontext.Value) (string, error) {
	s, err := jsonAnyText(raw)
	if err == nil && strings.ContainsFunc(s, unicode.IsControl) {
		return "", errControl
	}
	return s, err
}

// jsonAnyText decodes a JSON string that is written as JSON again, where control
// characters do no harm.
func jsonAnyText(raw jsontext.Value) (string, error) {
	if IsJSONNull(raw) {
		return "", nil
	}
	if raw.Kind() != jsontext.KindString {
		return "", errType
	}
	// Half a surrogate pair would become U+FFFD: a different text.
	s, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", errUnicode
	}
	return string(s), nil
}

// jsonTexts decodes a JSON string or an array of strings. Empty ones are left out.
func jsonTexts(raw jsontext.Value) ([]string, error) {
	if IsJSONNull(raw) {
		return nil, nil
	}
	items, err := jsonList(raw)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, item := range items {
		if IsJSONNull(item) {
			return nil, errType
		}
		s, err := JSONText(item)
		if err != nil {
			return nil, err
		}
		if s != "" {
			texts = append(texts, s)
		}
	}
	return texts, nil
}

// jsonList returns the items of a JSON array, or the one value that stands in its
// place.
func jsonList(raw jsontext.Value) ([]jsontext.Value, error) {
	if raw.Kind() != jsontext.KindBeginArray {
		return []jsontext.Value{raw}, nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil, errType
	}
	var items []jsontext.Value
	for dec.PeekKind() != jsontext.KindEndArray {
		item, err := dec.ReadValue()
		if err != nil {
			return nil, errType
		}
		items = append(items, item.Clone())
	}
	return items, nil
}
