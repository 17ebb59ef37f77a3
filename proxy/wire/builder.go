package wire

import "errors"

// errField says that something would not be read as the one thing that it is.
var errField = errors.New("invalid head")

// A Builder writes the head of a message. It writes nothing that could be read as more,
// or as less, than it was given.
type Builder struct {
	Bytes []byte
	// Err is set when something couldn't be written. The head must not be sent then.
	Err error
}

// Request begins the head of a request, with its Host. A query is nil, or one string.
func (b *Builder) Request(method, host, path string, query ...string) {
	for _, part := range [...]string{method, host, path} {
		if part == "" || !all(part, inLine) {
			b.Err = errField
			return
		}
	}
	b.Bytes = append(append(append(b.Bytes, method...), ' '), path...)
	for _, part := range query {
		if !all(part, inLine) {
			b.Bytes, b.Err = b.Bytes[:0], errField
			return
		}
		b.Bytes = append(append(b.Bytes, '?'), part...)
	}
	b.Bytes = append(append(b.Bytes, " HTTP/1.1\r\nHost: "...), host...)
	b.Bytes = append(b.Bytes, "\r\n"...)
}

// Field adds a field.
func (b *Builder) Field(name, value string) {
	before := len(b.Bytes)
	if b.Bytes = AppendField(b.Bytes, name, value); len(b.Bytes) == before {
		b.Err = errField
	}
}

// End ends the head.
func (b *Builder) End() { b.Bytes = append(b.Bytes, "\r\n"...) }

// AppendField appends a field line, unless it would be read as anything else.
func AppendField(to []byte, name, value string) []byte {
	value = trim(value)
	if !IsToken(name) || !isFieldValue(value) {
		return to
	}
	to = append(append(to, name...), ": "...)
	return append(append(to, value...), "\r\n"...)
}
