package wire

import (
	"errors"
	"strings"
)

// A Field is a line of a header or trailer section (RFC 9110 §5.1).
type Field struct {
	Name  string // as it came: its case means nothing
	Value string // without the spaces around it
}

// Is reports whether the field has this name, which is given in lower case.
func (f *Field) Is(lower string) bool { return equalFold(f.Name, lower) }

// equalFold compares a name with one in lower case.
func equalFold(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		if lowered[name[i]] != lower[i] {
			return false
		}
	}
	return true
}

// Fields are the fields of a section, in their order.
type Fields []Field

// Get returns the value of the first field with this name, which is given in lower
// case, or "".
func (fs Fields) Get(lower string) string {
	for i := range fs {
		if fs[i].Is(lower) {
			return fs[i].Value
		}
	}
	return ""
}

// Has reports whether there is a field with this name, which is given in lower case.
func (fs Fields) Has(lower string) bool {
	for i := range fs {
		if fs[i].Is(lower) {
			return true
		}
	}
	return false
}

// Values appends the values of all fields with this name, which is given in lower case.
func (fs Fields) Values(to []string, lower string) []string {
	for i := range fs {
		if fs[i].Is(lower) {
			to = append(to, fs[i].Value)
		}
	}
	return to
}

// Add adds a field.
func (fs *Fields) Add(name, value string) { *fs = append(*fs, Field{name, value}) }

// Delete removes the fields that match.
func (fs *Fields) Delete(match func(*Field) bool) {
	kept := (*fs)[:0]
	for i := range *fs {
		if f := &(*fs)[i]; !match(f) {
			kept = append(kept, *f)
		}
	}
	clear((*fs)[len(kept):])
	*fs = kept
}

// Nominated holds the names that Connection lists, in lower case: they are about the
// connection, whatever they are (RFC 9110 §7.6.1).
type Nominated map[string]bool

// Nominated returns what the fields nominate; nil when that is nothing but how long the
// connection lasts.
func (fs Fields) Nominated() (names Nominated) {
	for i := range fs {
		if !fs[i].Is("connection") {
			continue
		}
		for option := range strings.SplitSeq(fs[i].Value, ",") {
			option = trim(option)
			if IsHop(option) || equalFold(option, "close") || equalFold(option, "http2-settings") {
				continue // which pass nowhere
			}
			if names == nil {
				names = Nominated{}
			}
			names[strings.ToLower(option)] = true
		}
	}
	return names
}

// Has reports whether the name, in any case, is nominated.
func (n Nominated) Has(name string) bool { return len(n) > 0 && n[strings.ToLower(name)] }

// IsHop reports whether a field with this name is about the connection even if nobody
// nominates it.
func IsHop(name string) bool {
	switch len(name) {
	case len("te"):
		return equalFold(name, "te")
	case len("upgrade"):
		return equalFold(name, "upgrade") || equalFold(name, "trailer")
	case len("connection"):
		return equalFold(name, "connection") || equalFold(name, "keep-alive")
	case len("proxy-connection"):
		return equalFold(name, "proxy-connection")
	case len("transfer-encoding"):
		return equalFold(name, "transfer-encoding")
	case len("proxy-authenticate"):
		return equalFold(name, "proxy-authenticate")
	case len("proxy-authorization"):
		return equalFold(name, "proxy-authorization")
	}
	return false
}

// Request is a client's request but for its body, whoever has read it.
type Request struct {
	Method string
	Target string // as it stood in the request line
	Host   string // "": there is none
	Fields Fields // all but Host and those that frame the body
	Length int64  // of the body, in bytes, or Chunked
	Peer   string // address and port of who sent it
	Secure bool   // it came over TLS
}

// Classes of characters.
const (
	inToken  = 1 << iota // RFC 9110 §5.6.2
	inValue              // RFC 9110 §5.5, UTF-8 and other bytes above ASCII included
	visible              // RFC 5234 VCHAR
	inHost               // fewer than RFC 3986 §3.2.2 allows
	ordinary             // visible, or a space
	inLine               // doesn't end a part of a first line
)

var classes, lowered = func() (table, lower [256]byte) {
	for c := range table {
		lower[c] = byte(c)
		if c >= ' ' && c != 0x7f || c == '\t' {
			table[c] |= inValue
		}
		if c > ' ' && c != 0x7f {
			table[c] |= inLine
		}
		if c > ' ' && c < 0x7f {
			table[c] |= visible | ordinary
		}
	}
	for c := 'A'; c <= 'Z'; c++ {
		lower[c] = byte(c) | 0x20
	}
	table[' '] |= ordinary
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-" {
		table[c] |= inToken | inHost
	}
	for _, c := range "!#$%&'*+.^_`|~" {
		table[c] |= inToken
	}
	for _, c := range ".:[]" {
		table[c] |= inHost
	}
	return table, lower
}()

// all reports whether s has characters of a class and no others. There may be none.
func all(s string, class byte) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// trim takes off the spaces around a value (RFC 9110 §5.6.3).
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// IsToken reports whether name can name a field (RFC 9110 §5.6.2).
func IsToken(name string) bool { return name != "" && all(name, inToken) }

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
	if !IsToken(name) || !all(value, inValue) {
		return to
	}
	to = append(append(to, name...), ": "...)
	return append(append(to, value...), "\r\n"...)
}
