package wire

import "strings"

// A Field is a line of a header or trailer section (RFC 9110 §5.1).
type Field struct {
	Name  string // as it came: its case means nothing
	Value string // without the spaces around it
}

// Is reports whether the field has this name, which is given in lower case.
func (f *Field) Is(lower string) bool { return equalFold(f.Name, lower) }

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
